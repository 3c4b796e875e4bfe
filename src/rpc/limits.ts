/** The bounds a server holds its callers to. Each has a stated behaviour when it is reached. */
export interface Limits {
  /** Largest message either way, bytes. A larger one fails its call as "exhausted". */
  readonly messageBytesMax: number;
  /** Calls open at once on one connection. More wait at the client, or are refused by the transport. */
  readonly streamsPerConnectionMax: number;
  /** Connections open at once on one listener. More are closed as they come. */
  readonly connectionsMax: number;
  /** Connections without a certificate open at once on one network listener. More are closed once the handshake shows it. */
  readonly anonymousConnectionsMax: number;
  /** Memory of one HTTP/2 session, megabytes. Beyond it new calls on that connection are refused. */
  readonly sessionMemoryMaxMb: number;
  /** TLS handshake, milliseconds. Long enough for a fleet that comes back at once: a handshake given up is paid for and done again. */
  readonly handshakeTimeoutMs: number;
  /** From an open connection to its first byte of protocol, milliseconds. Then it is closed. */
  readonly firstByteTimeoutMs: number;
  /** A unary call whose caller set no deadline is answered "deadline" after this many milliseconds. */
  readonly unaryDeadlineMs: number;
  /** Pings of an idle connection, milliseconds. */
  readonly keepaliveIntervalMs: number;
  /** A ping not answered within this many milliseconds ends the connection. */
  readonly keepaliveTimeoutMs: number;
  /** Header bytes of one HTTP/1.1 request. HTTP/2 header lists are held to 64 KiB and 128 pairs by Node.js itself. */
  readonly httpHeaderBytesMax: number;
  /** The headers of one HTTP/1.1 request must be complete within this many milliseconds. */
  readonly httpHeadersTimeoutMs: number;
  /** One HTTP/1.1 request must be received completely within this many milliseconds. */
  readonly httpRequestTimeoutMs: number;
}

export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;

export const DEFAULT_LIMITS: Limits = {
  messageBytesMax: MESSAGE_BYTES_MAX,
  streamsPerConnectionMax: 256,
  connectionsMax: 20_000,
  anonymousConnectionsMax: 256,
  sessionMemoryMaxMb: 64,
  handshakeTimeoutMs: 30_000,
  firstByteTimeoutMs: 10_000,
  unaryDeadlineMs: 30_000,
  keepaliveIntervalMs: 20_000,
  keepaliveTimeoutMs: 10_000,
  httpHeaderBytesMax: 16 * 1024,
  httpHeadersTimeoutMs: 10_000,
  httpRequestTimeoutMs: 60_000,
};
