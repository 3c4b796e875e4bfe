import type { Readable } from 'node:stream';
import type { Clock } from '../kit/clock.js';

export type Protocol = 'http2' | 'http1';

/** No HTTP/1.1 method begins like the HTTP/2 preface, `PRI * HTTP/2.0`. */
const PREFACE_START = Buffer.from('PRI');

/**
 * Calls `decided` once the first bytes tell the protocol; they are then back in the socket, to be read again.
 * A socket that stays silent for `timeoutMs` is destroyed.
 */
export function sniff(
  socket: Readable,
  limits: { readonly clock: Clock; readonly timeoutMs: number },
  decided: (protocol: Protocol) => void,
): void {
  let seen = Buffer.alloc(0);
  const timer = limits.clock.after(limits.timeoutMs, () => {
    socket.destroy();
  });
  const stop = (): void => {
    timer.cancel();
    socket.off('readable', read);
    socket.off('close', stop);
  };
  const read = (): void => {
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return;
    seen = Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, PREFACE_START.length);
    const like = seen.subarray(0, length).equals(PREFACE_START.subarray(0, length));
    if (like && length < PREFACE_START.length) return;
    stop();
    socket.unshift(seen);
    decided(like ? 'http2' : 'http1');
  };
  socket.on('readable', read);
  socket.on('close', stop);
}
