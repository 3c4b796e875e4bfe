import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, link, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { digestFile } from '../../../src/archive/digest.js';
import { inspectArchive } from '../../../src/archive/inspect.js';
import { RELEASE_LIMITS } from '../../../src/archive/limits.js';
import { packDirectory } from '../../../src/archive/pack.js';
import { placeArchive } from '../../../src/archive/place.js';
import { unpackArchive } from '../../../src/archive/unpack.js';
import { isCode } from '../../../src/kit/errors.js';
import { describeTree, makeTree, type TreeOf } from '../../support/trees.js';

const run = promisify(execFile);

const SAMPLE: TreeOf = {
  'muster.yaml': 'name: orders\n',
  'bin/run.sh': { run: '#!/bin/sh\n' },
  'lib/deep/er/index.js': 'x'.repeat(100_000),
  'lib/latest': { link: 'deep/er' },
  'empty file': '',
  'empty directory': undefined,
  [`long/${'n'.repeat(120)}/${'m'.repeat(200)}.txt`]: 'long',
  'grüße/日本語.txt': 'words',
  to: { link: 'lib/latest/index.js' },
};

let home: string;
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'muster-archive-'));
});
after(() => rm(home, { recursive: true }));

/** As the worker thread does it, without one: quick enough for many. */
async function placed(path: string, into: string): Promise<void> {
  await mkdir(into);
  await placeArchive({
    kind: 'unpack',
    path,
    into,
    limits: RELEASE_LIMITS,
    texts: [],
    forbidden: [],
    expected: undefined,
  });
}

describe('packing and unpacking', () => {
  it('gives back what was packed, in modes that are the same everywhere', async () => {
    const [source, archive, into] = [join(home, 'source'), join(home, 'a.tar.gz'), join(home, 'into')];
    await makeTree(source, SAMPLE);
    await chmod(join(source, 'muster.yaml'), 0o600);
    const packed = await packDirectory(source, archive);
    assert.deepEqual(await digestFile(archive), { digest: packed.digest, sizeBytes: packed.sizeBytes });
    assert.equal(packed.files, 6);
    const unpacked = await unpackArchive(archive, into);
    assert.deepEqual(unpacked, { files: packed.files, unpackedBytes: packed.unpackedBytes, texts: new Map() });
    await chmod(join(source, 'muster.yaml'), 0o644);
    assert.deepEqual(await describeTree(into), await describeTree(source));
    const { stdout } = await run('tar', ['tzf', archive]);
    assert.equal(stdout.split('\n').filter(Boolean).length, Object.keys(await describeTree(source)).length);
    await assert.rejects(unpackArchive(archive, into), (error: unknown) => isCode(error, 'exists'));
    await assert.rejects(packDirectory(source, archive), (error: unknown) => isCode(error, 'exists'));
    assert.deepEqual(await describeTree(into), await describeTree(source), 'what was there was touched');
  });

  it('gives the same bytes for the same content, whenever and however it was made', async () => {
    const first = join(home, 'first');
    const second = join(home, 'second');
    await makeTree(first, SAMPLE);
    await makeTree(second, Object.fromEntries(Object.entries(SAMPLE).reverse()));
    await utimes(join(second, 'muster.yaml'), 1, 1);
    await chmod(join(second, 'muster.yaml'), 0o664);
    await chmod(join(second, 'lib'), 0o2775);
    const one = await packDirectory(first, join(home, 'first.tar.gz'));
    const two = await packDirectory(second, join(home, 'second.tar.gz'));
    assert.deepEqual(one, two);
    const bytes = await readFile(join(home, 'first.tar.gz'));
    assert.equal(
      bytes.subarray(0, 10).toString('hex'),
      '1f8b08000000000000ff',
      'the gzip header says something of this machine',
    );
  });

  it('is the same for any tree', async () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }).filter(isName);
    const path = fc.array(name, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
    const trees = fc.array(fc.tuple(path, fc.uint8Array({ maxLength: 3000 }), fc.boolean()), { maxLength: 12 });
    let round = 0;
    await fc.assert(
      fc.asyncProperty(trees, async (files) => {
        round += 1;
        const at = join(home, `round-${round}`);
        const source = join(at, 'source');
        await mkdir(source, { recursive: true });
        for (const [file, content, executable] of files) {
          const what = Buffer.from(content);
          // Where a file is in the way of another, the first stays.
          await makeTree(source, { [file]: executable ? { run: what.toString('latin1') } : what }).catch(
            () => undefined,
          );
        }
        const packed = await packDirectory(source, join(at, 'a.tar.gz'));
        await placed(join(at, 'a.tar.gz'), join(at, 'into'));
        assert.deepEqual(await describeTree(join(at, 'into')), await describeTree(source));
        const again = await packDirectory(join(at, 'into'), join(at, 'b.tar.gz'));
        assert.equal(again.digest, packed.digest);
        await rm(at, { recursive: true });
      }),
      { numRuns: Number(process.env['MUSTER_ARCHIVE_RUNS'] ?? 25) },
    );
  });

  it('unpacks what other programs pack', async () => {
    const source = join(home, 'others');
    await makeTree(source, SAMPLE);
    for (const format of ['gnu', 'pax', 'ustar']) {
      // ustar has no place for names as long as these.
      const left = format === 'ustar' ? ['--exclude=./long'] : [];
      const archive = join(home, `${format}.tar.gz`);
      await run('tar', ['czf', archive, `--format=${format}`, ...left, '-C', source, '.']);
      await placed(archive, join(home, format));
      const found = await describeTree(join(home, format));
      const expected = Object.entries(await describeTree(source)).filter(
        ([path]) => format !== 'ustar' || !path.startsWith('long'),
      );
      assert.deepEqual(found, Object.fromEntries(expected));
    }
  });

  it('takes gzip in several streams as programs that compress in parallel write it', async () => {
    const source = join(home, 'streams');
    await makeTree(source, SAMPLE);
    await packDirectory(source, join(home, 'streams.tar.gz'));
    const tar = gunzipSync(await readFile(join(home, 'streams.tar.gz')));
    const half = Math.floor(tar.length / 2);
    await writeFile(
      join(home, 'two.tar.gz'),
      Buffer.concat([gzipSync(tar.subarray(0, half)), gzipSync(tar.subarray(half))]),
    );
    await placed(join(home, 'two.tar.gz'), join(home, 'two'));
    assert.deepEqual(await describeTree(join(home, 'two')), await describeTree(source));
  });

  it('packs no more than can be unpacked', async () => {
    const cases: readonly (readonly [string, (source: string) => Promise<unknown>, RegExp])[] = [
      ['link', (source) => makeTree(source, { evil: { link: '../../etc/passwd' } }), /leads outside/],
      ['absolute', (source) => makeTree(source, { evil: { link: '/etc/passwd' } }), /absolute/],
      ['pipe', (source) => run('mkfifo', [join(source, 'pipe')]), /named pipe/],
      ['setuid', (source) => makeTree(source, { x: 'x' }).then(() => chmod(join(source, 'x'), 0o4755)), /set-user-ID/],
      ['control', (source) => makeTree(source, { 'a\u001bb': 'x' }), /control/],
    ];
    for (const [name, make, why] of cases) {
      const source = join(home, `refused-${name}`);
      await mkdir(source);
      await make(source);
      const says = (error: unknown): boolean => isCode(error, 'invalid') && why.test(error.message);
      await assert.rejects(packDirectory(source, join(home, 'refused.tar.gz')), says);
      assert.ok(!(await readdir(home)).includes('refused.tar.gz'));
    }
  });

  it('packs a file that has two names as two files', async () => {
    const source = join(home, 'names');
    await makeTree(source, { one: 'content' });
    await link(join(source, 'one'), join(source, 'two'));
    await packDirectory(source, join(home, 'names.tar.gz'));
    const { files, texts } = await inspectArchive(join(home, 'names.tar.gz'), { texts: ['two', 'one', 'none'] });
    assert.equal(files, 2);
    assert.deepEqual(
      [...texts],
      [
        ['one', 'content'],
        ['two', 'content'],
      ],
    );
  });

  it('ends when it is told to, and leaves nothing', async () => {
    const source = join(home, 'ended');
    await makeTree(source, SAMPLE);
    const archive = join(home, 'ended.tar.gz');
    await packDirectory(source, archive);
    const ending = new AbortController();
    const reason = new Error('no more');
    const unpacking = unpackArchive(archive, join(home, 'ended-into'), { signal: ending.signal });
    ending.abort(reason);
    await assert.rejects(unpacking, reason);
    const packing = packDirectory(source, join(home, 'ended-2.tar.gz'), { signal: AbortSignal.abort(reason) });
    await assert.rejects(packing, reason);
    const late = new AbortController();
    const onProgress = (): void => {
      late.abort(reason);
    };
    await assert.rejects(
      packDirectory(source, join(home, 'ended-2.tar.gz'), { signal: late.signal, onProgress }),
      reason,
    );
    const left = (await readdir(home)).filter((name) => name.startsWith('ended'));
    assert.deepEqual(left.sort(), ['ended', 'ended.tar.gz']);
  });
});

function isName(name: string): boolean {
  if (
    Buffer.byteLength(name) > 200 ||
    /[/\p{Cc}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffd\p{Cs}]/u.test(name)
  )
    return false;
  return name !== '.' && name !== '..';
}
