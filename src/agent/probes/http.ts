import { request, STATUS_CODES, type IncomingMessage } from 'node:http';
import { CHECK_OUTPUT_BYTES_MAX } from '../../model/instance.js';
import type { Answer, Probe } from './answer.js';
import { connectionFailure, shownAddress, type Address } from './tcp.js';

/** Of the answer's head; a longer one is a failure. */
const HEADER_BYTES_MAX = 16_384;

export interface HttpTarget extends Address {
  readonly path: string;
}

/** Passes on status 200 to 399. A redirect is an answer like any other: it is not followed. */
export function httpProbe(target: HttpTarget): Probe {
  return (signal) =>
    new Promise<Answer>((resolve, reject) => {
      signal.throwIfAborted();
      const call = request({
        host: target.host,
        port: target.port,
        path: target.path,
        agent: false,
        maxHeaderSize: HEADER_BYTES_MAX,
        headers: { host: 'localhost', 'user-agent': 'muster-agent', accept: '*/*' },
      });
      let answer: Answer | undefined;
      const onAbort = (): void => {
        call.destroy();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      let received: Received | undefined;
      call.on('response', (response) => {
        received = new Received(response, (found) => {
          answer ??= found;
          call.destroy();
        });
      });
      call.on('error', (error) => {
        if (!received && !signal.aborted) answer ??= { verdict: 'fail', output: httpFailure(error, target) };
      });
      call.on('close', () => {
        signal.removeEventListener('abort', onAbort);
        if (answer) resolve(answer);
        else if (signal.aborted) reject(signal.reason as Error);
        else resolve({ verdict: 'fail', output: received?.brokeOff() ?? closedEarly(target) });
      });
      call.end();
    });
}

function httpFailure(error: Error, target: Address): string {
  if ('code' in error && typeof error.code === 'string' && error.code.startsWith('HPE_')) {
    return `${shownAddress(target)} did not answer in HTTP: ${error.message}`;
  }
  return connectionFailure(error, target);
}

function closedEarly(target: Address): string {
  return `${shownAddress(target)} closed the connection before it answered`;
}

/** What has come of an answer. Calls `done` when it has ended, or as much of it as is kept has come. */
class Received {
  readonly #head: string;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(response: IncomingMessage, done: (answer: Answer) => void) {
    const status = response.statusCode ?? 0;
    this.#head = `HTTP ${status} ${STATUS_CODES[status] ?? ''}`.trimEnd();
    const finish = (): void => {
      done({ verdict: status >= 200 && status < 400 ? 'pass' : 'fail', output: this.#text() });
    };
    response.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      if (this.#bytes >= CHECK_OUTPUT_BYTES_MAX) finish();
    });
    response.on('end', finish);
    response.on('error', () => {
      // The call closes too, and says that the answer broke off.
    });
  }

  brokeOff(): string {
    return `${this.#head}\nthe answer broke off after ${this.#bytes} bytes of body`;
  }

  #text(): string {
    const body = Buffer.concat(this.#chunks).toString();
    return body === '' ? this.#head : `${this.#head}\n${body}`;
  }
}
