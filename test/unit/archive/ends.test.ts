import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { packDirectory } from '../../../src/archive/pack.js';
import { restoreTree, writeTree } from '../../../src/archive/tree.js';
import { unpackArchive } from '../../../src/archive/unpack.js';
import { isCode } from '../../../src/kit/errors.js';
import { makeTree } from '../../support/trees.js';
import { waitFor } from '../../support/waiting.js';

const run = promisify(execFile);

async function homeOf(t: TestContext): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'muster-ends-'));
  t.after(async () => {
    // Where a test has mounted one.
    await run('umount', [join(home, 'disk')]).catch(() => undefined);
    await rm(home, { recursive: true });
  });
  return home;
}

describe('work on archives that ends early', () => {
  it('leaves nothing of a backup that is no more wanted', async (t) => {
    const home = await homeOf(t);
    await mkdir(join(home, 'source'));
    await writeFile(join(home, 'source/large'), '');
    await truncate(join(home, 'source/large'), 200 * 1_073_741_824);
    const ending = new AbortController();
    const reason = new Error('no more');
    const writing = writeTree({ root: join(home, 'source'), paths: ['.'], exclude: [] }, join(home, 'out'), {
      signal: ending.signal,
    });
    const rejected = assert.rejects(writing, reason);
    await waitFor('the writing to begin', () =>
      access(join(home, 'out.manifest')).then(
        () => true,
        () => undefined,
      ),
    );
    ending.abort(reason);
    await rejected;
    assert.deepEqual(await readdir(home), ['source']);
  });

  it('leaves nothing on a disk that is full, and says so', async (t) => {
    const home = await homeOf(t);
    const disk = join(home, 'disk');
    await mkdir(disk);
    const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]).catch(() => undefined);
    if (!mounted) {
      t.skip('needs the right to mount a tmpfs');
      return;
    }
    await makeTree(join(home, 'source'), { small: 'x', large: randomBytes(6_000_000) });
    await packDirectory(join(home, 'source'), join(home, 'a.tar.gz'));
    const source = { root: join(home, 'source'), paths: ['.'], exclude: [] };
    await writeTree(source, join(home, 'b.tar.gz'));
    const full = (error: unknown): boolean => isCode(error, 'exhausted') && error.message.includes(disk);
    await assert.rejects(unpackArchive(join(home, 'a.tar.gz'), join(disk, 'into')), full);
    await assert.rejects(restoreTree(join(home, 'b.tar.gz'), join(disk, 'into')), full);
    await assert.rejects(writeTree(source, join(disk, 'b.tar.gz')), full);
    await assert.rejects(packDirectory(join(home, 'source'), join(disk, 'a.tar.gz')), full);
    assert.deepEqual(await readdir(disk), []);
  });
});
