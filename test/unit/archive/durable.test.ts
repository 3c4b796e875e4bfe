import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { tarGz } from '../../support/tar-bytes.js';
import { moduleUrl, NODE_FLAGS } from '../../support/program.js';

const run = promisify(execFile);

/** The system calls that make an unpacked tree durable, and what it was: paths below the home of the test. */
async function syncsOf(t: TestContext, files: number): Promise<readonly string[] | undefined> {
  if (
    !(await run('strace', ['-V']).then(
      () => true,
      () => false,
    ))
  ) {
    t.skip('needs strace');
    return undefined;
  }
  const home = await mkdtemp(join(tmpdir(), 'muster-durable-'));
  t.after(() => rm(home, { recursive: true }));
  const pieces = Array.from({ length: files }, (_, at) => ({ path: `d${at % 3}/f${at}`, content: 'x' }));
  await writeFile(join(home, 'a.tar.gz'), tarGz(...pieces, { path: 'l', type: '2', target: 'd0' }));
  const module = moduleUrl('src/archive/unpack');
  const program = `const { unpackArchive } = await import('${module}'); await unpackArchive('${home}/a.tar.gz', '${home}/into');`;
  await writeFile(join(home, 'program.mjs'), program);
  const args = ['-f', '-y', '-qq', '-e', 'trace=fsync,fdatasync,syncfs', '-o', join(home, 'trace')];
  await run('strace', [...args, process.execPath, ...NODE_FLAGS, join(home, 'program.mjs')]);
  const trace = await readFile(join(home, 'trace'), 'utf8');
  return [...trace.matchAll(/(\w+)\(\d+<([^>]*)>\)\s+= 0/g)].map(
    ([, call = '', path = '']) => `${call} ${path.replace(home, '')}`,
  );
}

describe('what was unpacked is durable', () => {
  it('file by file and directory by directory where it is little, the one it is in last', async (t) => {
    const syncs = await syncsOf(t, 4);
    if (!syncs) return;
    const expected = [
      '/into',
      '/into/d0',
      '/into/d1',
      '/into/d2',
      '/into/d0/f0',
      '/into/d1/f1',
      '/into/d2/f2',
      '/into/d0/f3',
    ];
    assert.deepEqual([...syncs.slice(0, -1)].sort(), expected.map((path) => `fsync ${path}`).sort());
    assert.deepEqual(syncs.slice(-2), ['fsync /into', 'fsync ']);
  });

  it('by one call for the file system where it is much', async (t) => {
    const syncs = await syncsOf(t, 300);
    if (!syncs) return;
    assert.deepEqual(syncs, ['syncfs /into', 'fsync ']);
  });
});
