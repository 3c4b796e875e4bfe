import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { link, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { inParent, listFiles, matches, openInside } from '../../../../src/agent/system/directory.js';
import { isCode } from '../../../../src/kit/errors.js';

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'muster-logs-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

describe('the log directory', () => {
  it('is not left, by name or by link', async (t) => {
    const outside = await directory(t);
    const root = join(outside, 'root');
    await mkdir(join(root, 'sub'), { recursive: true });
    await writeFile(join(outside, 'secret'), 'secret');
    await writeFile(join(root, 'sub', 'a.log'), 'a');
    await writeFile(join(root, 'plain.log'), 'p');
    await symlink('../secret', join(root, 'link.log'));
    await symlink('..', join(root, 'up'));
    await link(join(outside, 'secret'), join(root, 'hard.log'));
    const refused = async (name: string): Promise<boolean> =>
      openInside(root, name, constants.O_RDWR).then(
        async (handle) => {
          await handle.close();
          return false;
        },
        () => true,
      );
    for (const name of [
      '../secret',
      '/etc/passwd',
      'sub/../../secret',
      '',
      '.',
      'link.log',
      'up/secret',
      'hard.log',
      'sub',
    ]) {
      assert.ok(await refused(name), `"${name}" was opened`);
    }
    await assert.rejects(openInside(root, 'link.log', constants.O_RDONLY), (error: unknown) => isCode(error, 'denied'));
    const handle = await openInside(root, 'sub/a.log', constants.O_RDONLY);
    await handle.close();
    assert.deepEqual(await listFiles(root), ['hard.log', 'plain.log', 'sub/a.log']);
    assert.equal(await inParent(root, 'sub/a.log', (_parent, base) => Promise.resolve(base)), 'a.log');
    assert.equal(await readFile(join(outside, 'secret'), 'utf8'), 'secret');
  });

  it('has files that match patterns within one level, fast', () => {
    assert.ok(
      matches('*.log', 'a.log') &&
        matches('a*b*.log', 'aXbY.log') &&
        matches('sub/*.log', 'sub/x.log') &&
        matches('*', 'x'),
    );
    assert.ok(
      !matches('*.log', 'sub/a.log') &&
        !matches('*.log', 'a.log.gz') &&
        !matches('a*a', 'a') &&
        !matches('*.log', '.lo'),
    );
    const startedMs = performance.now();
    matches(`${'*a'.repeat(50)}b`, 'a'.repeat(10_000));
    assert.ok(performance.now() - startedMs < 1000);
  });
});
