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
      call.on('response', (response) => {
        collect(response, (found) => {
          answer ??= found;
          call.destroy();
        });
      });
      call.on('error', (error) => {
        answer ??= { verdict: 'fail', output: httpFailure(error, target) };
      });
      call.on('close', () => {
        signal.removeEventListener('abort', onAbort);
        if (signal.aborted && answer?.verdict !== 'pass') reject(signal.reason as Error);
        else
          resolve(
            answer ?? { verdict: 'fail', output: `${shownAddress(target)} closed the connection before it answered` },
          );
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

/** Calls `done` when the answer has ended, or as much of it as is kept has come. */
function collect(response: IncomingMessage, done: (answer: Answer) => void): void {
  const status = response.statusCode ?? 0;
  const head = `HTTP ${status} ${STATUS_CODES[status] ?? ''}`.trimEnd();
  const chunks: Buffer[] = [];
  let bytes = 0;
  const finish = (): void => {
    const body = Buffer.concat(chunks).toString();
    done({ verdict: status >= 200 && status < 400 ? 'pass' : 'fail', output: body ? `${head}\n${body}` : head });
  };
  response.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= CHECK_OUTPUT_BYTES_MAX) finish();
  });
  response.on('end', finish);
  response.on('error', () => {
    done({ verdict: 'fail', output: `${head}\nthe answer broke off after ${bytes} bytes of body` });
  });
}
