import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { inspectArchive } from '../../../src/archive/inspect.js';
import { RELEASE_LIMITS } from '../../../src/archive/limits.js';
import { placeArchive } from '../../../src/archive/place.js';
import { unpackArchive } from '../../../src/archive/unpack.js';
import { isCode } from '../../../src/kit/errors.js';
import { paxRecords, TAR_END, tarGz, tarHeader, tarPieces } from '../../support/tar-bytes.js';

/** Archives that must be refused whole, and why. Each is otherwise good, so that only what is wrong with it can be what refuses it. */
const good = { path: 'good.txt', content: 'good' };
const OUTSIDE = /leads outside/;

const MALICIOUS: Readonly<Record<string, readonly [Buffer, RegExp]>> = {
  'a path with ..': [tarGz(good, { path: '../evil', content: 'x' }), OUTSIDE],
  'a path with .. in its middle': [tarGz(good, { path: 'a/../../evil', content: 'x' }), OUTSIDE],
  'a path with .. that stays inside': [tarGz(good, { path: 'a/../evil', content: 'x' }), OUTSIDE],
  'a path that is ..': [tarGz(good, { path: '..', type: '5' }), OUTSIDE],
  'an absolute path': [tarGz(good, { path: '/etc/evil', content: 'x' }), /absolute path/],
  'an absolute path by pax': [
    tarGz(
      good,
      { path: 'PaxHeader', type: 'x', content: paxRecords({ path: '/etc/evil' }) },
      { path: 'ok', content: 'x' },
    ),
    /absolute path/,
  ],
  'a path with .. by pax': [
    tarGz(good, { path: 'PaxHeader', type: 'x', content: paxRecords({ path: 'a/../../evil' }) }, { path: 'ok' }),
    OUTSIDE,
  ],
  "a path with .. by GNU's long name": [
    tarGz(good, { path: 'L', type: 'L', content: '../evil\0' }, { path: 'ok' }),
    OUTSIDE,
  ],
  'a link to an absolute path': [tarGz(good, { path: 'l', type: '2', target: '/etc' }), /absolute path/],
  'a link that leads outside': [tarGz(good, { path: 'l', type: '2', target: '../evil' }), OUTSIDE],
  'a link that leads outside deep down': [tarGz(good, { path: 'a/b/l', type: '2', target: '../../../evil' }), OUTSIDE],
  'a link that leads outside through another': [
    tarGz(
      good,
      { path: 'a/b', type: '5' },
      { path: 'a/b/up', type: '2', target: '../..' },
      { path: 'l', type: '2', target: 'a/b/up/..' },
    ),
    OUTSIDE,
  ],
  'a link that leads outside through one that comes later': [
    tarGz(good, { path: 'l', type: '2', target: 'a/up/..' }, { path: 'a/up', type: '2', target: '..' }),
    OUTSIDE,
  ],
  'a link that goes up after a name that is not there': [
    tarGz(good, { path: 'l', type: '2', target: 'later/x/../../good.txt' }),
    /leads up again/,
  ],
  'links in a circle': [
    tarGz(good, { path: 'a', type: '2', target: 'b' }, { path: 'b', type: '2', target: 'a' }),
    /circle/,
  ],
  'a file below a link': [
    tarGz(good, { path: 'd', type: '5' }, { path: 'l', type: '2', target: 'd' }, { path: 'l/evil', content: 'x' }),
    /below a symbolic link/,
  ],
  'a file in the place of a link': [
    tarGz(good, { path: 'l', type: '2', target: 'good.txt' }, { path: 'l', content: 'x' }),
    /twice/,
  ],
  'a link to nothing': [tarGz(good, { path: 'l', type: '2' }), /link to nothing/],
  'a hard link': [tarGz(good, { path: 'l', type: '1', target: 'good.txt' }), /hard link/],
  'a hard link outside': [tarGz(good, { path: 'l', type: '1', target: '/etc/passwd' }), /hard link/],
  'a character device': [tarGz(good, { path: 'd', type: '3' }), /device/],
  'a block device': [tarGz(good, { path: 'd', type: '4' }), /device/],
  'a named pipe': [tarGz(good, { path: 'p', type: '6' }), /named pipe/],
  'a contiguous file': [tarGz(good, { path: 'p', type: '7' }), /kind/],
  'a dump directory': [tarGz(good, { path: 'p', type: 'D' }), /kind/],
  'a volume header': [tarGz(good, { path: 'p', type: 'V' }), /kind/],
  'set-user-ID': [tarGz(good, { path: 'x', mode: 0o4755 }), /set-user-ID/],
  'set-group-ID': [tarGz(good, { path: 'x', mode: 0o2755 }), /set-user-ID/],
  sticky: [tarGz(good, { path: 'x', type: '5', mode: 0o1777 }), /sticky/],
  'the same file twice': [tarGz(good, good), /twice/],
  'the same file twice, once with ./': [tarGz(good, { ...good, path: './good.txt' }), /twice/],
  'a file where there is a directory': [tarGz(good, { path: 'a/b' }, { path: 'a' }), /others below it/],
  'a file below a file': [tarGz(good, { path: 'good.txt/b' }), /below a file/],
  'a directory twice': [tarGz(good, { path: 'd', type: '5' }, { path: 'd/', type: '5' }), /twice/],
  'an empty component': [tarGz(good, { path: 'a//b' }), /empty/],
  'a . component': [tarGz(good, { path: 'a/./b' }), /empty/],
  'a newline': [tarGz(good, { path: 'a\nb' }), /control characters/],
  'an escape sequence': [tarGz(good, { path: 'a\u001b[2Jb' }), /control characters/],
  'a C1 control': [tarGz(good, { path: 'a\u009bb' }), /control characters/],
  'text that turns round': [tarGz(good, { path: 'a\u202etxt.exe' }), /direction/],
  'an isolate': [tarGz(good, { path: 'a\u2066b' }), /direction/],
  'a link to a name with control characters': [tarGz(good, { path: 'l', type: '2', target: 'a\u001bb' }), /control/],
  'a NUL by pax': [
    tarGz(good, { path: 'P', type: 'x', content: paxRecords({ path: 'a\0b' }) }, { path: 'ok' }),
    /none/,
  ],
  'a name that is not UTF-8': [
    tarGz(good, { path: 'L', type: 'L', content: Buffer.from([0x61, 0xff, 0xfe]) }, { path: 'ok' }),
    /UTF-8/,
  ],
  'a name that is too long': [
    tarGz(good, { path: 'L', type: 'L', content: 'x'.repeat(256) }, { path: 'ok' }),
    /more than 255 bytes/,
  ],
  'a path that is too long': [
    tarGz(good, { path: 'L', type: 'L', content: Array(12).fill('x'.repeat(100)).join('/') }, { path: 'ok' }),
    /more than 1024 bytes/,
  ],
  'a path that is too deep': [
    tarGz(good, { path: 'L', type: 'L', content: 'd/'.repeat(70) + 'x' }, { path: 'ok' }),
    /deep/,
  ],
  'a size that pax says again': [
    tarGz(good, { path: 'P', type: 'x', content: paxRecords({ size: '512' }) }, { path: 'ok', content: 'abc' }),
    /two sizes/,
  ],
  'a size for all': [
    tarGz(good, { path: 'g', type: 'g', content: paxRecords({ size: '0' }) }, { path: 'ok' }),
    /all its/,
  ],
  'a path for all': [
    tarGz(good, { path: 'g', type: 'g', content: paxRecords({ path: 'x' }) }, { path: 'ok' }),
    /all its/,
  ],
  'a path twice by pax': [
    tarGz(
      good,
      { path: 'P', type: 'x', content: paxRecords({ path: 'a' }) + paxRecords({ path: 'b' }) },
      { path: 'ok' },
    ),
    /twice/,
  ],
  'two names, one by pax and one by GNU': [
    tarGz(
      good,
      { path: 'L', type: 'L', content: 'one\0' },
      { path: 'P', type: 'x', content: paxRecords({ path: 'two' }) },
      { path: 'ok' },
    ),
    /two names/,
  ],
  'two pax headers': [
    tarGz(
      good,
      { path: 'P', type: 'x', content: paxRecords({ path: 'a' }) },
      { path: 'P', type: 'x', content: paxRecords({ path: 'b' }) },
      { path: 'ok' },
    ),
    /twice/,
  ],
  'pax of nothing': [tarGz(good, { path: 'P', type: 'x', content: paxRecords({ path: 'a' }) }), /does not have/],
  'pax that is garbage': [tarGz(good, { path: 'P', type: 'x', content: 'garbage' }, { path: 'ok' }), /pax records/],
  'pax whose length is wrong': [
    tarGz(good, { path: 'P', type: 'x', content: '99 path=a\n' }, { path: 'ok' }),
    /pax records/,
  ],
  'a sparse file of GNU': [tarGz(good, { path: 's', type: 'S' }), /sparse/],
  'a sparse file of pax': [
    tarGz(good, { path: 'P', type: 'x', content: paxRecords({ 'GNU.sparse.major': '1' }) }, { path: 's' }),
    /sparse/,
  ],
  'a directory with content': [tarGz(good, { path: 'd', type: '5', content: 'x' }), /has a size/],
  'a link with content': [tarGz(good, { path: 'l', type: '2', target: 'good.txt', content: 'x' }), /has a size/],
  'a size that is no number': [tarGz(good, { path: 'x', size: '12x' }), /number that is none/],
  'a negative size': [
    tarGz(good, { path: 'x', size: '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff' }),
    /size that is none/,
  ],
  'a size beyond the limit': [tarGz(good, { path: 'x', size: 0o77777777777 + 0 }), /more than|cut off|middle/],
  'a wrong checksum': [tarGz(good, { path: 'x', checksum: 1 }), /checksum/],
  'no gzip': [Buffer.concat([tarPieces(good), TAR_END]), /no gzip/],
  'nothing at all': [Buffer.alloc(0), /cut off|middle/],
  'gzip of nothing': [gzipSync(Buffer.alloc(0)), /middle/],
  'gzip of garbage': [gzipSync(Buffer.alloc(1024, 'garbage')), /checksum/],
  'gzip in gzip': [gzipSync(tarGz(good)), /checksum|middle/],
  'gzip that is cut off': [tarGz(good).subarray(0, -9), /cut off/],
  'gzip with a wrong sum': [Buffer.concat([tarGz(good).subarray(0, -8), Buffer.alloc(8, 1)]), /damaged/],
  'something behind the gzip': [Buffer.concat([tarGz(good), Buffer.from('trailing')]), /follows its end|no gzip/],
  'zeros behind the gzip': [Buffer.concat([tarGz(good), Buffer.alloc(512)]), /follows its end/],
  'much behind the gzip': [Buffer.concat([tarGz(good), Buffer.alloc(1_000_000, 7)]), /follows its end|no gzip/],
  'an entry behind the end': [
    gzipSync(Buffer.concat([tarPieces(good), TAR_END, tarPieces({ path: 'evil' }), TAR_END])),
    /follows its end/,
  ],
  'an entry behind one block of zeros': [
    gzipSync(Buffer.concat([tarPieces(good), Buffer.alloc(512), tarPieces({ path: 'evil' }), TAR_END])),
    /follows its end/,
  ],
  'a second archive behind the first': [Buffer.concat([tarGz(good), tarGz({ path: 'evil' })]), /follows its end/],
  'tar without its end': [gzipSync(tarPieces(good)), /middle/],
  'tar that is cut off in a file': [gzipSync(tarPieces(good).subarray(0, 514)), /middle/],
  'tar that is cut off in a header': [
    gzipSync(Buffer.concat([tarPieces(good), tarHeader(good).subarray(0, 100)])),
    /middle/,
  ],
  'a bomb': [tarGz(good, { path: 'zeros', content: Buffer.alloc(40 * 1_048_576) }), /times its size/],
  'the root as a file': [tarGz(good, { path: './', type: '2', target: 'good.txt' }), /no directory/],
};

describe('an archive that is refused', () => {
  let home: string;
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'muster-archive-'));
  });
  after(() => rm(home, { recursive: true }));

  for (const [what, [bytes, why]] of Object.entries(MALICIOUS)) {
    it(`holds ${what}`, async () => {
      const path = join(home, 'archive.tar.gz');
      await writeFile(path, bytes);
      const says = (error: unknown): boolean => isCode(error, 'invalid') && why.test(error.message);
      await assert.rejects(inspectArchive(path), says);
      // What the worker thread runs; a thread for each of these would take a minute.
      const into = join(home, 'into');
      await mkdir(into);
      await assert.rejects(
        placeArchive({
          kind: 'unpack',
          path,
          into,
          limits: RELEASE_LIMITS,
          texts: [],
          forbidden: [],
          expected: undefined,
        }),
        says,
      );
      await rm(into, { recursive: true });
      assert.deepEqual(await readdir(home), ['archive.tar.gz'], 'something was written outside');
    });
  }

  it('leaves nothing behind', async () => {
    const path = join(home, 'archive.tar.gz');
    const many = Array.from({ length: 50 }, (_, at) => ({ path: `d${at}/f`, content: 'x' }));
    await writeFile(path, tarGz(...many, { path: 'l', type: '2', target: '../evil' }));
    await assert.rejects(unpackArchive(path, join(home, 'into')), (error: unknown) => isCode(error, 'invalid'));
    assert.deepEqual(await readdir(home), ['archive.tar.gz']);
  });

  it('goes beyond what the caller takes', async () => {
    const path = join(home, 'archive.tar.gz');
    await writeFile(
      path,
      tarGz(good, { path: 'b' }, { path: 'modules/x' }, { path: 'd', content: Buffer.alloc(2000) }),
    );
    const refusal = (why: RegExp) => (error: unknown) => isCode(error, 'invalid') && why.test(error.message);
    await assert.rejects(inspectArchive(path, { limits: { ...RELEASE_LIMITS, entriesMax: 3 } }), refusal(/3 entries/));
    await assert.rejects(
      inspectArchive(path, { limits: { ...RELEASE_LIMITS, unpackedBytesMax: 3000 } }),
      refusal(/3000/),
    );
    await assert.rejects(inspectArchive(path, { forbidden: ['modules'] }), refusal(/must not be in it/));
    await assert.rejects(inspectArchive(path, { forbidden: ['modules/x'] }), refusal(/must not be in it/));
    await inspectArchive(path, { forbidden: ['modules/y', 'module'] });
  });

  it('holds, while it is unpacked, what the caller does not take or more than it was said to', async () => {
    const [path, into] = [join(home, 'archive.tar.gz'), join(home, 'into')];
    await writeFile(path, tarGz({ path: 'a', content: 'one' }, { path: 'b', content: 'two' }));
    const refusal = (why: RegExp) => (error: unknown) => isCode(error, 'invalid') && why.test(error.message);
    await assert.rejects(unpackArchive(path, into, { forbidden: ['b'] }), refusal(/must not be in it/));
    await assert.rejects(
      unpackArchive(path, into, { expected: { files: 1, bytes: 6 } }),
      refusal(/1 files of 6 bytes/),
    );
    await assert.rejects(
      unpackArchive(path, into, { expected: { files: 2, bytes: 5 } }),
      refusal(/2 files of 5 bytes/),
    );
    assert.deepEqual(await readdir(home), ['archive.tar.gz'], 'nothing is left of it');
    const rules = { forbidden: ['c'], texts: ['b', 'c'], expected: { files: 2, bytes: 6 } };
    assert.deepEqual((await unpackArchive(path, into, rules)).texts, new Map([['b', 'two']]));
    await rm(into, { recursive: true });
  });
});
