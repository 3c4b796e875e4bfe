import {
  connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import type { Answer, Probe } from './answer.js';
import { connectionFailure, shownAddress, type Address } from './tcp.js';
import { HEALTH_CHECK_PATH, healthRequest, healthStatus } from './wire.js';

/**
 * One grpc.health.v1 Check over a plain HTTP/2 session of its own. A gRPC channel would be kept, shared and reconnected behind the
 * probe's back; a session can be destroyed, and then nothing of the check is left.
 * Wire format: "gRPC over HTTP2", https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */

/** A compressed flag and a length of four bytes stand before each message. */
const PREFIX_BYTES = 5;
/** An answer to Check is 2 bytes long; anything much larger is no such answer. */
const RESPONSE_BYTES_MAX = 1024;
const STATUS_OK = 0;
const STATUS_NOT_FOUND = 5;
const STATUS_UNIMPLEMENTED = 12;

export interface GrpcTarget extends Address {
  /** Name asked for; empty asks for the whole server. */
  readonly service: string;
}

/** Passes when the server says SERVING. */
export function grpcProbe(target: GrpcTarget): Probe {
  return (signal) =>
    new Promise<Answer>((resolve, reject) => {
      signal.throwIfAborted();
      const session = connect(`http://${shownAddress(target)}`, { settings: { enablePush: false } });
      let answer: Answer | undefined;
      const onAbort = (): void => {
        session.destroy();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const finish = (found: Answer): void => {
        answer ??= found;
        session.destroy();
      };
      session.on('error', (error: Error) => {
        finish({ verdict: 'fail', output: sessionFailure(error, target) });
      });
      session.on('close', () => {
        signal.removeEventListener('abort', onAbort);
        if (answer) resolve(answer);
        else if (signal.aborted) reject(signal.reason as Error);
        else resolve({ verdict: 'fail', output: `${shownAddress(target)} closed the connection before it answered` });
      });
      ask(session, target, finish);
    });
}

function sessionFailure(error: Error, target: Address): string {
  const spokeOtherwise = 'code' in error && error.code === 'ERR_HTTP2_ERROR';
  return spokeOtherwise
    ? `${shownAddress(target)} does not speak gRPC: ${error.message}`
    : connectionFailure(error, target);
}

function ask(session: ClientHttp2Session, target: GrpcTarget, finish: (answer: Answer) => void): void {
  const stream = session.request({
    [constants.HTTP2_HEADER_METHOD]: 'POST',
    [constants.HTTP2_HEADER_PATH]: HEALTH_CHECK_PATH,
    [constants.HTTP2_HEADER_AUTHORITY]: 'localhost',
    [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
    [constants.HTTP2_HEADER_TE]: 'trailers',
    [constants.HTTP2_HEADER_USER_AGENT]: 'muster-agent',
  });
  const seen: Response = { headers: {}, trailers: {}, body: Buffer.alloc(0) };
  collect(stream, seen);
  stream.on('error', () => {
    // What broke the stream is told by its session, or by what has been seen when it closes.
  });
  stream.on('close', () => {
    if (!session.destroyed) finish(judge(seen, target));
  });
  stream.end(framed(healthRequest(target.service)));
}

interface Response {
  headers: IncomingHttpHeaders & IncomingHttpStatusHeader;
  trailers: IncomingHttpHeaders;
  body: Buffer;
}

function collect(stream: ClientHttp2Stream, seen: Response): void {
  stream.on('response', (headers) => {
    seen.headers = headers;
  });
  stream.on('trailers', (trailers: IncomingHttpHeaders) => {
    seen.trailers = trailers;
  });
  stream.on('data', (chunk: Buffer) => {
    seen.body = Buffer.concat([seen.body, chunk]);
    if (seen.body.length > RESPONSE_BYTES_MAX) stream.close(constants.NGHTTP2_CANCEL);
  });
}

function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function unframed(body: Buffer): Buffer {
  const length = body.length < PREFIX_BYTES ? -1 : body.readUInt32BE(1);
  if (body[0] !== 0 || length !== body.length - PREFIX_BYTES) {
    throw new MusterError('data_loss', `${body.length} bytes that are not one gRPC message`);
  }
  return body.subarray(PREFIX_BYTES);
}

function judge(seen: Response, target: GrpcTarget): Answer {
  const status = seen.trailers['grpc-status'] ?? seen.headers['grpc-status'];
  if (typeof status !== 'string') return notGrpc(seen, target);
  if (Number(status) !== STATUS_OK) return { verdict: 'fail', output: statusFailure(Number(status), seen, target) };
  try {
    const health = healthStatus(unframed(seen.body));
    return { verdict: health === 'SERVING' ? 'pass' : 'fail', output: health };
  } catch (error) {
    const why = isCode(error) ? error.message : `an answer that cannot be read: ${messageOf(error)}`;
    return { verdict: 'fail', output: `${shownAddress(target)} sent ${why}` };
  }
}

function notGrpc({ headers, body }: Response, target: GrpcTarget): Answer {
  const status = headers[':status'];
  const said =
    status === undefined ? 'broke off' : `answered HTTP ${status} after ${body.length} bytes without a gRPC status`;
  return { verdict: 'fail', output: `${shownAddress(target)} ${said}` };
}

function statusFailure(status: number, { headers, trailers }: Response, target: GrpcTarget): string {
  if (status === STATUS_UNIMPLEMENTED) return `${shownAddress(target)} does not serve grpc.health.v1`;
  if (status === STATUS_NOT_FOUND) {
    const asked = target.service === '' ? 'health of the server as a whole' : `service "${target.service}"`;
    return `${shownAddress(target)} knows no ${asked}`;
  }
  const message = trailers['grpc-message'] ?? headers['grpc-message'];
  return `gRPC status ${status}${typeof message === 'string' && message !== '' ? `: ${message}` : ''}`;
}
