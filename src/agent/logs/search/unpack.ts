import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../kit/clock.js';
import { formatSize } from '../../../kit/durations.js';
import { MusterError } from '../../../kit/errors.js';
import { newId } from '../../../kit/ids.js';
import { runExternal } from '../../system/external.js';

export interface UnpackOptions {
  readonly clock: Clock;
  /** Of the agent's own. */
  readonly directory: string;
  /** Free bytes there. */
  readonly freeBytes: () => Promise<number>;
}

const TIMEOUT_MS = 10 * 60_000;
/** Left free: below it the agent removes logs. */
const FREE_BYTES_LEAST = 300 * 1024 * 1024;
/** Written of one that holds more than it says. */
const UNTOLD_BYTES_MAX = 256 * 1024 * 1024;
const FILE_BLOCK_BYTES = 512;
const SCRIPT = 'ulimit -c 0; ulimit -f "$1"; exec gzip -dc';

/** Decompresses into a file without a name, so that no crash leaves it behind. The size is what the file says, and may be wrong. */
export function unpackInto({
  clock,
  directory,
  freeBytes,
}: UnpackOptions): (descriptor: number, size: number) => Promise<FileHandle> {
  return async (descriptor, size) => {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const room = (await freeBytes()) - FREE_BYTES_LEAST;
    if (size > room) {
      const text = `there is no room to unpack it (${formatSize(size)}): make some, or search without since and until`;
      throw new MusterError('exhausted', text, { reason: 'DISK_ALMOST_FULL' });
    }
    const path = join(directory, `${newId('unpack')}.tmp`);
    const file = await open(path, 'wx', 0o600);
    try {
      await rm(path);
      const blocks = String(Math.ceil(Math.max(size, Math.min(room, UNTOLD_BYTES_MAX)) / FILE_BLOCK_BYTES) + 1);
      const command = ['nice', '-n', '5', 'sh', '-c', SCRIPT, 'sh', blocks];
      const external = { command, timeoutMs: TIMEOUT_MS, stdin: descriptor, stdout: file.fd };
      const { code, output } = await runExternal(clock, external);
      if (code !== 0) {
        throw new MusterError(
          'data_loss',
          `it cannot be decompressed: ${output === '' ? 'gzip failed, or it holds far more than it says' : output}`,
        );
      }
      // Another open file of the same content: the place of this one is at its end.
      return await open(`/proc/self/fd/${file.fd}`, 'r');
    } finally {
      await file.close();
    }
  };
}
