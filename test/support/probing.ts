import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TestContext } from 'node:test';
import type { Answer, Probe } from '../../src/agent/probes/answer.js';
import { systemClock, withTimeout } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';

/** Far beyond what an answer takes on a busy machine. */
const PATIENCE_MS = 30_000;

export interface Listening {
  readonly host: string;
  readonly port: number;
  /** Connections open now. */
  readonly open: ReadonlySet<Socket>;
  /** Resolves when no connection is open: what a probe opened is really gone. */
  closed(): Promise<void>;
}

/** Listens on a free port of the loopback until the test ends. */
export async function listen(t: TestContext, server: Server): Promise<Listening> {
  const open = new Set<Socket>();
  let wake = (): void => undefined;
  server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      open.delete(socket);
      wake();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  const closed = async (): Promise<void> => {
    while (open.size > 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port, open, closed };
}

export function listenRaw(t: TestContext, onSocket: (socket: Socket) => void): Promise<Listening> {
  const server = createServer((socket) => {
    // Only who reads sees the other side close.
    socket.resume();
    onSocket(socket);
  });
  return listen(t, server);
}

export function listenHttp(t: TestContext, onRequest: RequestListener): Promise<Listening> {
  return listen(t, createHttpServer(onRequest));
}

/** A port of the loopback where nothing listens. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Asks once, with patience. */
export function ask(probe: Probe): Promise<Answer> {
  return askWithin(probe, PATIENCE_MS);
}

/** Asks once; rejects with `deadline` when it takes longer. */
export function askWithin(probe: Probe, timeoutMs: number): Promise<Answer> {
  const reason = (): Error => new MusterError('deadline', 'out of time');
  return withTimeout(systemClock, { timeoutMs, reason }, probe);
}
