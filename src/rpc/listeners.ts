import type { ConnectionInjector } from '@grpc/grpc-js';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { createServer as createNetServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from 'node:tls';
import type { Clock } from '../kit/clock.js';
import { MusterError, errnoOf, messageOf } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Secret } from '../kit/secret.js';
import { formatAddress, isLoopback } from './addresses.js';
import { Connection, type Identify } from './connection.js';
import { guarded, type HttpHandlerFor } from './http-guard.js';
import type { IdentitySource } from './identity.js';
import type { Limits } from './limits.js';
import { describePrincipal, type Principal } from './principal.js';
import { sniff } from './sniff.js';
import { admit, contextOptions, type Admission } from './tls-server.js';
import { requireBearer } from './tokens.js';
import { listenOnUnixSocket, type UnixSocketOptions } from './unix-socket.js';

/** A socket file that is its caller's identity: who can open it is `principal`. gRPC and HTTP/1.1. */
export interface UnixListener extends UnixSocketOptions {
  readonly kind: 'unix';
  readonly principal: Principal;
}

/** The network: gRPC with client certificates. Without one a caller is anonymous. */
export interface TlsListener {
  readonly kind: 'tls';
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly identity: IdentitySource;
}

/** This machine only: gRPC and HTTP/1.1 in plain text; the token is the caller's identity. */
export interface LoopbackListener {
  readonly kind: 'loopback';
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly token: Secret;
  readonly principal: Principal;
}

export type Listener = UnixListener | TlsListener | LoopbackListener;

/** A listener at work. */
export interface Bound {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** The TCP port; 0 for a socket file. */
  readonly port: number;
  /** Accepts nothing more; connections that carry calls live on. Removes a socket file. */
  stop(): Promise<void>;
  /** Resolves when no connection is left. */
  gone(): Promise<void>;
  /** stop(), and cuts every connection. */
  close(): Promise<void>;
}

export interface Intake {
  readonly limits: Limits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly http: HttpHandlerFor | undefined;
  readonly injector: ConnectionInjector;
}

/** The sockets of one listener, so that closing it leaves none behind. */
class Sockets {
  readonly #open = new Set<Socket>();
  #empty: (() => void)[] = [];

  add(socket: Socket): void {
    this.#open.add(socket);
    // Without a handler a reset by the peer would end the process; the close event that follows says all we need.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#open.delete(socket);
      if (this.#open.size > 0) return;
      for (const resolve of this.#empty.splice(0)) resolve();
    });
  }

  destroyAll(): void {
    for (const socket of this.#open) socket.destroy();
  }

  /** Resolves when none is open. */
  async gone(): Promise<void> {
    while (this.#open.size > 0) await new Promise<void>((resolve) => this.#empty.push(resolve));
  }
}

export async function startListener(listener: Listener, intake: Intake): Promise<Bound> {
  switch (listener.kind) {
    case 'unix':
      return startUnix(listener, intake);
    case 'loopback':
      return startLoopback(listener, intake);
    case 'tls':
      return startTls(listener, intake);
  }
}

async function startUnix(listener: UnixListener, intake: Intake): Promise<Bound> {
  const address = formatAddress({ kind: 'unix', path: listener.path });
  const local = new LocalIntake(
    intake,
    () => address,
    () => listener.principal,
  );
  const remove = await listenOnUnixSocket(local.server, listener);
  return bound(local, { address, port: 0, remove });
}

async function startLoopback(listener: LoopbackListener, intake: Intake): Promise<Bound> {
  const { host = '127.0.0.1', port, token, principal } = listener;
  if (!isLoopback(host)) {
    throw new MusterError(
      'invalid',
      `${host} is not an address of this machine alone: use 127.0.0.1, or a TLS listener`,
    );
  }
  const identify: Identify = (authorization) => {
    requireBearer(authorization, token);
    return principal;
  };
  const local = new LocalIntake(intake, peerOf, identify);
  const at = await listenOnPort(local.server, host, port);
  return bound(local, { address: formatAddress({ kind: 'tcp', host, port: at }), port: at });
}

async function startTls(listener: TlsListener, intake: Intake): Promise<Bound> {
  const { host, port, identity } = listener;
  const network = new NetworkIntake(intake, identity);
  try {
    const at = await listenOnPort(network.server, host, port);
    return bound(network, { address: formatAddress({ kind: 'tcp', host, port: at }), port: at });
  } catch (error) {
    network.stop();
    throw error;
  }
}

interface Place {
  readonly address: string;
  readonly port: number;
  readonly remove?: () => Promise<void>;
}

function bound(listening: { stop(): void; readonly sockets: Sockets }, place: Place): Bound {
  const stop = async (): Promise<void> => {
    listening.stop();
    await place.remove?.();
  };
  return {
    address: place.address,
    port: place.port,
    stop,
    gone: () => listening.sockets.gone(),
    close: async () => {
      await stop();
      listening.sockets.destroyAll();
      await listening.sockets.gone();
    },
  };
}

function listenOnPort(server: NetServer, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => {
      const where = formatAddress({ kind: 'tcp', host, port });
      const why =
        errnoOf(error) === 'EADDRINUSE' ? 'the port is taken: stop what uses it, or choose another' : messageOf(error);
      reject(
        new MusterError('precondition', `cannot listen on ${where}: ${why}`, { reason: 'CANNOT_LISTEN', cause: error }),
      );
    };
    server.once('error', failed);
    server.listen({ host, port }, () => {
      server.off('error', failed);
      server.on('error', () => undefined); // a failed accept (out of descriptors) must not end the process
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function peerOf(socket: Socket): string {
  const { remoteAddress = 'unknown', remotePort = 0 } = socket;
  return formatAddress({ kind: 'tcp', host: remoteAddress, port: remotePort });
}

/** Unix and loopback: one port for gRPC (HTTP/2 with prior knowledge) and HTTP/1.1. */
class LocalIntake {
  readonly server: NetServer;
  readonly sockets = new Sockets();
  readonly #http: HttpServer;
  /** Connections that have not said yet which protocol they speak. */
  readonly #undecided = new Set<Socket>();
  #stopped = false;

  constructor(intake: Intake, peer: (socket: Socket) => string, identify: Identify) {
    const { limits, clock, injector } = intake;
    this.#http = createHttpServer(
      {
        maxHeaderSize: limits.httpHeaderBytesMax,
        headersTimeout: limits.httpHeadersTimeoutMs,
        requestTimeout: limits.httpRequestTimeoutMs,
        connectionsCheckingInterval: Math.min(limits.httpHeadersTimeoutMs, limits.httpRequestTimeoutMs, 5000),
      },
      (request, response) => {
        response.once('close', () => {
          if (this.#stopped) request.socket.end();
        });
        void serveHttp(request, response);
      },
    );
    const serveHttp = guarded(identify, intake.http, intake.logger);
    // It never listens itself, and starts to hold its connections to their time limits only when told that it does.
    this.#http.emit('listening');
    this.server = createNetServer({ noDelay: true }, (socket) => {
      this.sockets.add(socket);
      sniff(socket, { clock, timeoutMs: limits.firstByteTimeoutMs }, (protocol) => {
        this.#undecided.delete(socket);
        if (protocol === 'http1') {
          this.#http.emit('connection', socket);
          return;
        }
        new Connection(peer(socket), identify).attachTo(socket);
        injector.injectConnection(socket);
      });
      this.#undecided.add(socket);
      socket.once('close', () => this.#undecided.delete(socket));
    });
    this.server.maxConnections = limits.connectionsMax;
  }

  stop(): void {
    this.#stopped = true;
    this.server.close();
    for (const socket of this.#undecided) socket.destroy();
    this.#http.close();
    this.#http.closeIdleConnections();
  }
}

/** TLS: judges the client certificate once per connection, and ends the connection when the certificate ends. */
class NetworkIntake {
  readonly server: TlsServer;
  readonly sockets = new Sockets();
  readonly #intake: Intake;
  readonly #identity: IdentitySource;
  readonly #unsubscribe: () => void;
  /** Connections that finished their handshake and have not begun to speak HTTP/2. */
  readonly #undecided = new Set<Socket>();
  #anonymous = 0;

  constructor(intake: Intake, identity: IdentitySource) {
    this.#intake = intake;
    this.#identity = identity;
    this.server = createTlsServer({
      ...contextOptions(identity.current()),
      ALPNProtocols: ['h2'],
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: intake.limits.handshakeTimeoutMs,
      noDelay: true,
    });
    this.server.maxConnections = intake.limits.connectionsMax;
    this.server.on('connection', (socket: Socket) => {
      this.sockets.add(socket);
    });
    this.server.on('tlsClientError', (error, socket) => {
      intake.logger.debug('TLS handshake failed', { error: error.message });
      socket.destroy();
    });
    this.server.on('secureConnection', (socket) => {
      this.#accept(socket);
    });
    this.#unsubscribe = identity.onChange((renewed) => {
      this.server.setSecureContext(contextOptions(renewed));
    });
  }

  stop(): void {
    this.#unsubscribe();
    this.server.close();
    for (const socket of this.#undecided) socket.destroy();
  }

  #accept(socket: TLSSocket): void {
    socket.on('error', () => undefined);
    const { clock, limits, injector } = this.#intake;
    const admission = admit(socket, this.#identity.current().site, clock.now());
    if (socket.alpnProtocol !== 'h2' || !this.#within(socket, admission)) {
      socket.destroy();
      return;
    }
    this.#undecided.add(socket);
    socket.once('close', () => this.#undecided.delete(socket));
    sniff(socket, { clock, timeoutMs: limits.firstByteTimeoutMs }, (protocol) => {
      this.#undecided.delete(socket);
      if (protocol !== 'http2') {
        socket.destroy();
        return;
      }
      const refusal = admission.kind === 'refused' ? admission.refusal : undefined;
      new Connection(peerOf(socket), () => principalOf(admission), refusal).attachTo(socket);
      injector.injectConnection(socket);
    });
  }

  /** Whether the connection may stay; watches over its end. */
  #within(socket: TLSSocket, admission: Admission): boolean {
    const { clock, limits, logger } = this.#intake;
    if (admission.kind === 'known') {
      const timer = clock.after(admission.notAfterMs - clock.now(), () => {
        logger.info('connection closed: its certificate expired', {
          principal: describePrincipal(admission.principal),
        });
        socket.destroy();
      });
      socket.once('close', () => {
        timer.cancel();
      });
      return true;
    }
    this.#anonymous += 1;
    socket.once('close', () => {
      this.#anonymous -= 1;
    });
    return this.#anonymous <= limits.anonymousConnectionsMax;
  }
}

function principalOf(admission: Admission): Principal {
  switch (admission.kind) {
    case 'anonymous':
      return { kind: 'anonymous' };
    case 'known':
      return admission.principal;
    case 'refused':
      throw admission.refusal;
  }
}
