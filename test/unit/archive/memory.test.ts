import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { moduleUrl, NODE_FLAGS } from '../../support/program.js';

/** What the process holds at most while it packs, unpacks, backs up and verifies this many bytes of files. */
const CONTENT_BYTES = 200 * 1_048_576;
const GROWTH_BYTES_MAX = 120 * 1_048_576;

const url = (module: string): string => JSON.stringify(moduleUrl(`src/archive/${module}`));

/** Does one thing with archives after another, and prints by how much the most memory it held grew over what it held before. */
const PROGRAM = `
import { readFileSync } from 'node:fs';
const { packDirectory } = await import(${url('pack')});
const { unpackArchive } = await import(${url('unpack')});
const { writeTree, verifyTree, restoreTree } = await import(${url('tree')});
const [home] = process.argv.slice(-1);
const all = async (name) => {
  await packDirectory(home + '/' + name, home + '/' + name + '.tar.gz');
  await unpackArchive(home + '/' + name + '.tar.gz', home + '/' + name + '-unpacked');
  const { digest } = await writeTree({ root: home + '/' + name, paths: ['.'], exclude: [] }, home + '/' + name + '.backup');
  await verifyTree(home + '/' + name + '.backup', { digest });
  await restoreTree(home + '/' + name + '.backup', home + '/' + name + '-restored');
};
const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
await all('small');
const before = peak();
await all('large');
process.stdout.write(String(peak() - before));
`;

describe('archives of large files', () => {
  it('take no more memory than those of small ones', { timeout: 300_000 }, async () => {
    const home = await mkdtemp(join(tmpdir(), 'muster-memory-'));
    try {
      await mkdir(join(home, 'small'));
      await mkdir(join(home, 'large'));
      await writeFile(join(home, 'small/file'), 'x'.repeat(100_000));
      // Ten files of zeros, and of what zlib cannot make smaller, so that no bomb is suspected.
      const noise = randomBytes(4_194_304);
      for (let file = 0; file < 10; file += 1) {
        await writeFile(join(home, `large/${file}`), noise);
        await truncate(join(home, `large/${file}`), CONTENT_BYTES / 10);
      }
      await writeFile(join(home, 'program.mjs'), PROGRAM);
      const grown = await outputOf(['--max-old-space-size=64', ...NODE_FLAGS, join(home, 'program.mjs'), home]);
      assert.ok(Number(grown) < GROWTH_BYTES_MAX, `it held ${grown} bytes more`);
      assert.equal((await readFile(join(home, 'large-restored/9'))).length, CONTENT_BYTES / 10);
    } finally {
      await rm(home, { recursive: true });
    }
  });
});

async function outputOf(args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (bytes) => (text += String(bytes)));
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0);
  return text;
}
