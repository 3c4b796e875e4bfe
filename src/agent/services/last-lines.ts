import { constants } from 'node:fs';
import { errnoOf } from '../../kit/errors.js';
import { openInside } from '../logs/directory.js';

const BYTES_MAX = 4096;
const LINES_MAX = 10;

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
