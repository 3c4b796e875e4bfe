import { constants } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import type { Clock } from '../../kit/clock.js';
import { runExternal } from '../system/external.js';
import { inParent, openRegular, pathIn } from '../system/directory.js';
import { unfinishedName } from './names.js';

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL } = constants;
const GZIP_TIMEOUT_MS = 30 * 60_000;

/**
 * Compresses a rotated file beside itself, in a process of the lowest priority, and removes it once the compressed one is durable.
 * A crash leaves both at most.
 * @throws when gzip fails; the file is then as it was
 */
export async function compress(clock: Clock, root: string, name: string): Promise<void> {
  await inParent(root, name, async (parent, base) => {
    const whole = `${base}.gz`;
    const unfinished = unfinishedName(whole);
    await rm(pathIn(parent, unfinished), { force: true });
    const source = await openRegular(parent, base, O_RDONLY);
    try {
      const facts = await source.stat();
      const target = await openRegular(parent, unfinished, O_WRONLY | O_CREAT | O_EXCL, 0o640);
      try {
        const command = ['nice', '-n', '19', 'gzip', '-c'];
        const { code, output } = await runExternal(clock, {
          command,
          timeoutMs: GZIP_TIMEOUT_MS,
          stdin: source.fd,
          stdout: target.fd,
        });
        if (code !== 0) throw new Error(`gzip: ${output}`);
        if (process.getuid?.() === 0) await target.chown(facts.uid, facts.gid);
        await target.chmod(facts.mode & 0o777);
        await target.utimes(facts.atime, facts.mtime);
        await target.sync();
      } catch (error) {
        await rm(pathIn(parent, unfinished), { force: true });
        throw error;
      } finally {
        await target.close();
      }
    } finally {
      await source.close();
    }
    await rename(pathIn(parent, unfinished), pathIn(parent, whole));
    await parent.sync();
    await rm(pathIn(parent, base), { force: true });
  });
}
