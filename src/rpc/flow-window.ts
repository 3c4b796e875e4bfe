/**
 * HTTP/2 receive windows of a grpc-js server. grpc-js 1.14 reads its option for them on clients only, so they are set here through two of its private
 * fields; a test fails when a new version no longer has them. Clients use the option `grpc-node.flow_control_window`.
 */
import type { Server } from '@grpc/grpc-js';
import type { EventEmitter } from 'node:events';
import type { ServerHttp2Session } from 'node:http2';
import { MusterError } from '../kit/errors.js';

/**
 * Bytes that may be on their way on one stream, and on one connection, before the receiver has read any. The protocol's own 64 KiB hold a stream
 * to 64 KiB per round trip. They bound the memory of what a handler does not read.
 */
export interface FlowWindow {
  readonly streamBytes: number;
  readonly connectionBytes: number;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function changed(): MusterError {
  return new MusterError('internal', 'this version of grpc-js keeps its HTTP/2 settings elsewhere: see flow-window.ts');
}

/** Call before the server makes its injector. @throws internal when grpc-js has changed */
export function setStreamWindow(server: Server, window: FlowWindow): void {
  const options: unknown = Reflect.get(server, 'commonServerOptions');
  if (!isRecord(options)) throw changed();
  const settings = isRecord(options['settings']) ? options['settings'] : {};
  options['settings'] = { ...settings, initialWindowSize: window.streamBytes };
}

/** Call after the server has made its injector. @throws internal when grpc-js has changed */
export function setConnectionWindow(server: Server, window: FlowWindow): void {
  const servers: unknown = Reflect.get(server, 'http2Servers');
  if (!(servers instanceof Map)) throw changed();
  for (const http2 of servers.keys() as Iterable<EventEmitter>) {
    http2.on('session', (session: ServerHttp2Session) => {
      session.setLocalWindowSize(window.connectionBytes);
    });
  }
}
