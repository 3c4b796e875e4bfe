import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory } from '../../kit/files.js';
import type { Logger } from '../../kit/logger.js';
import { closedOnTheWay } from './reachable.js';

/** Other users may pass through to their own service's socket and directories, and see nothing on the way. */
export async function makeDirectories(data: string, logger: Logger): Promise<void> {
  await makeDirectory(data, 0o711);
  for (const part of ['state', 'identity']) await makeDirectory(join(data, part), 0o700);
  const open = [data, ...['run', 'run/services', 'logs', 'services'].map((part) => join(data, part))];
  for (const directory of open) {
    await makeDirectory(directory, 0o711);
    await chmod(directory, 0o711);
  }
  const closed = await closedOnTheWay(data);
  if (closed === undefined || process.getuid?.() !== 0) return;
  logger.warn(
    `services that run as other users cannot reach their sockets and directories: ${closed} is closed to them. ` +
      `Use a data directory elsewhere, or open it with chmod o+x ${closed}`,
  );
}
