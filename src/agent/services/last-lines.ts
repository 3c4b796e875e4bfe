import { constants } from 'node:fs';
import { errnoOf } from '../../kit/errors.js';
import { openInside } from '../system/directory.js';

const BYTES_MAX = 8192;
/** Enough to hold the line of an error above its stack. */
const LINES_MAX = 40;
const LINE_CHARACTERS_MAX = 200;

/** `TypeError: ...`, `Error [ERR_X]: ...`, `[UnhandledPromiseRejection: ...`, `java.lang.IllegalStateException: ...` */
const NAMED_ERROR =
  /^(?:Uncaught |Exception in thread "[^"]*" |\[)?(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Rejection)\b|^Error\b(?=[: ])/;
/** Loud words of logs: `ERROR`, `fatal:`, `[emerg]`, `level=fatal`, `"level":"error"`. */
const LOUD =
  /\b(?:ERROR|FATAL|CRITICAL|PANIC|EMERG)\b|\b(?:error|fatal|panic)(?: error)?:|\[(?:error|fatal|crit|alert|emerg|panic)\]|level"?[=:]\s*"?(?:error|fatal|critical|panic)\b/;
/** What runtimes print around an error and says nothing of it: stack frames, marks under the source line, closing brackets, versions. */
const NOISE = /^\s+at |^\s*[\^~]+\s*$|^\s*[}\])]+[;,]?\s*$|^Node\.js v\d|^\s+(?:errno|code|syscall|address|port): /;
const COLOURS = /\u001b\[[0-9;]*m/g;

/** Of what a program printed last, the line that says best why it ended: the last error, else the last line that says anything. */
export function tellingLine(lines: readonly string[]): string {
  const plain = lines.map((line) => line.replaceAll(COLOURS, '').trimEnd());
  const line =
    plain.findLast((one) => NAMED_ERROR.test(one) || LOUD.test(one)) ??
    plain.findLast((one) => one !== '' && !NOISE.test(one)) ??
    plain.at(-1);
  return (line ?? '').trim().slice(0, LINE_CHARACTERS_MAX);
}

/** The last lines of a file from `fromOffset` on, oldest first; of its end where the file has become shorter than that. */
export async function readLastLines(root: string, name: string, fromOffset: number): Promise<string[]> {
  try {
    const handle = await openInside(root, name, constants.O_RDONLY);
    try {
      const { size } = await handle.stat();
      const from = Math.max(fromOffset <= size ? fromOffset : 0, size - BYTES_MAX);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(BYTES_MAX), 0, BYTES_MAX, from);
      const lines = buffer.subarray(0, bytesRead).toString('utf8').split('\n');
      return lines.filter((line) => line.trim() !== '').slice(-LINES_MAX);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}
