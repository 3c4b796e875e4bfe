import { Client as GrpcClient, connectivityState, credentials, type ChannelCredentials } from '@grpc/grpc-js';
import { systemClock, type Clock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import { formatAddress, isLoopback, parseAddress, type Address } from './addresses.js';
import { detached } from './background.js';
import type { Target } from './connection-errors.js';
import { MESSAGE_BYTES_MAX } from './limits.js';
import { clientCredentials, expectedServerName, type ClientTls } from './tls-client.js';

export interface ChannelOptions {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** Needed for everything but a unix socket and this machine's own loopback. */
  readonly tls?: ClientTls;
  /** Pings on an idle connection, and how long an answer may take. Default 20 s and 10 s. */
  readonly keepalive?: { readonly intervalMs: number; readonly timeoutMs: number };
  /** A call that finds no connection within this time fails as "unavailable", milliseconds. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** Largest message either way, bytes. Default 4 MiB. */
  readonly messageBytesMax?: number;
  /** Sent with every call (names in lower case), for example a bearer token on loopback. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Names the other side in messages, for example `the center`. Default: what the certificate must be, or the server. */
  readonly peer?: string;
  readonly clock?: Clock;
  /** HTTP/2 flow control window of streams and of the connection, bytes: what the server may send ahead of reading. Default: Node.js's 64 KiB. */
  readonly windowBytes?: number;
  /** Local connections only: open calls do not keep the process alive. For libraries, with a clock that does not either. */
  readonly background?: boolean;
}

const DEFAULT_KEEPALIVE = { intervalMs: 20_000, timeoutMs: 10_000 };
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
/** What grpc-js keeps of a call for its transparent retry; above it the call is tied to its connection and its writer waits. */
const RETRY_BUFFER_BYTES = 64 * 1024;
const RECONNECT_INITIAL_MS = 200;
const RECONNECT_MAX_MS = 5000;
/** A try on this machine costs next to nothing, and a process that is about to end cannot wait long to hand over its last words. */
const LOCAL_RECONNECT_MAX_MS = 500;

/** One grpc-js client and the calls open on it. A renewed identity starts a new one; the old one ends with its last call. */
interface Generation {
  readonly client: GrpcClient;
  readonly calls: Set<(reason: MusterError) => void>;
  retired: boolean;
}

/** The right to make one call. */
export interface Lease {
  readonly client: GrpcClient;
  /** Whether there is a connection at this moment. */
  connected(): boolean;
  release(): void;
}

/**
 * A connection to one server that comes and goes as needed. Reconnects by itself when a call is made. Not shared with other
 * channels: closing it closes its connection. After a renewal of its identity new calls use the new certificate, while open
 * calls end undisturbed on the connection they have.
 */
export class Channel {
  readonly target: Target;
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly #options: ChannelOptions;
  readonly #address: Address;
  readonly #unsubscribe: (() => void) | undefined;
  #current: Generation | undefined;
  readonly #generations = new Set<Generation>();
  #closed = false;

  constructor(options: ChannelOptions) {
    this.#options = options;
    this.#address = parseAddress(options.address);
    requirePrivacy(this.#address, options.tls);
    this.clock = options.clock ?? systemClock;
    this.connectTimeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    this.headers = options.headers ?? {};
    const peer = options.peer ?? (options.tls ? `the ${options.tls.expect ?? 'center'}` : 'the server');
    this.target = { peer, address: formatAddress(this.#address) };
    this.#unsubscribe = options.tls?.identity?.onChange(() => {
      this.#retire();
    });
  }

  /** Open calls. */
  get activeCalls(): number {
    return [...this.#generations].reduce((sum, generation) => sum + generation.calls.size, 0);
  }

  /**
   * Takes part in the channel for one call; `cancel` is called when the channel closes under it.
   * @throws cancelled once closed
   */
  lease(cancel: (reason: MusterError) => void): Lease {
    if (this.#closed) throw new MusterError('cancelled', `the channel to ${this.target.address} is closed`);
    const generation = (this.#current ??= this.#start());
    generation.calls.add(cancel);
    return {
      client: generation.client,
      connected: () => generation.client.getChannel().getConnectivityState(false) === connectivityState.READY,
      release: () => {
        generation.calls.delete(cancel);
        this.#sweep(generation);
      },
    };
  }

  /** Cancels the calls still open and closes the connection. May be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unsubscribe?.();
    this.#retire();
    const reason = new MusterError('cancelled', `the channel to ${this.target.address} was closed`);
    for (const generation of [...this.#generations]) {
      for (const cancel of [...generation.calls]) cancel(reason);
    }
  }

  #start(): Generation {
    const client = new GrpcClient(dialTarget(this.#address), this.#credentials(), this.#grpcOptions());
    const generation: Generation = { client, calls: new Set(), retired: false };
    this.#generations.add(generation);
    return generation;
  }

  #retire(): void {
    const old = this.#current;
    this.#current = undefined;
    if (!old) return;
    old.retired = true;
    this.#sweep(old);
  }

  #sweep(generation: Generation): void {
    if (!generation.retired || generation.calls.size > 0) return;
    if (this.#generations.delete(generation)) generation.client.close();
  }

  #credentials(): ChannelCredentials {
    if (this.#options.tls) return clientCredentials(this.#options.tls);
    const plain = credentials.createInsecure();
    return this.#options.background === true ? detached(plain) : plain;
  }

  #grpcOptions(): Record<string, string | number> {
    const { tls, windowBytes, keepalive = DEFAULT_KEEPALIVE, messageBytesMax = MESSAGE_BYTES_MAX } = this.#options;
    return {
      ...(tls
        ? {
            'grpc.ssl_target_name_override': expectedServerName(tls),
            'grpc.default_authority': expectedServerName(tls),
          }
        : {}),
      ...(windowBytes === undefined ? {} : { 'grpc-node.flow_control_window': windowBytes }),
      'grpc.keepalive_time_ms': keepalive.intervalMs,
      'grpc.keepalive_timeout_ms': keepalive.timeoutMs,
      'grpc.keepalive_permit_without_calls': 1,
      'grpc.max_receive_message_length': messageBytesMax,
      'grpc.max_send_message_length': messageBytesMax,
      'grpc.initial_reconnect_backoff_ms': RECONNECT_INITIAL_MS,
      'grpc.max_reconnect_backoff_ms': this.#address.kind === 'unix' ? LOCAL_RECONNECT_MAX_MS : RECONNECT_MAX_MS,
      'grpc.per_rpc_retry_buffer_size': RETRY_BUFFER_BYTES,
      // Identities must not share connections, and closing a channel must close its own.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_channelz': 0,
    };
  }
}

/** Opens a channel; connects when the first call is made. @throws invalid */
export function openChannel(options: ChannelOptions): Channel {
  return new Channel(options);
}

function dialTarget(address: Address): string {
  return address.kind === 'unix' ? `unix:${address.path}` : `dns:${formatAddress(address)}`;
}

function requirePrivacy(address: Address, tls: ClientTls | undefined): void {
  if (tls || address.kind === 'unix' || isLoopback(address.host)) return;
  throw new MusterError(
    'invalid',
    `${formatAddress(address)} is on the network: a certificate is needed to call it. Join or log in first`,
  );
}
