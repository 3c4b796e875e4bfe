import assert from 'node:assert/strict';
import {
  appendFile,
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { VerifyTreeJob, WriteTreeJob } from '../../../src/archive/jobs.js';
import { restoreTreeHere, verifyTreeHere } from '../../../src/archive/tree-jobs.js';
import { writeTreeHere } from '../../../src/archive/tree-write.js';
import { restoreTree, verifyTree, writeTree } from '../../../src/archive/tree.js';
import { isCode } from '../../../src/kit/errors.js';
import { TAR_END, tarPieces } from '../../support/tar-bytes.js';
import { describeTree, makeTree, type TreeOf } from '../../support/trees.js';

const SAMPLE: TreeOf = {
  'data/db/one': 'x'.repeat(300_000),
  'data/db/two': { run: 'two' },
  'data/db/one.tmp': 'temporary',
  'data/cache/entry': 'cached',
  'data/empty': undefined,
  'data/outside': { link: '/etc/hostname' },
  'data/dangling': { link: '../nothing' },
  'data/new\nline \u001b[2J\u202e': 'a name',
  [`data/${'long'.repeat(50)}/${'name'.repeat(50)}`]: 'long',
  'other/file': 'other',
};

let home: string;
let source: string;
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'muster-tree-'));
  source = join(home, 'source');
  await makeTree(source, SAMPLE);
});
after(() => rm(home, { recursive: true }));

/** As the worker thread does it, without one. */
const write = (name: string, job: Partial<WriteTreeJob> = {}): ReturnType<typeof writeTreeHere> =>
  writeTreeHere({ kind: 'write-tree', root: source, paths: ['.'], exclude: [], out: join(home, name), ...job });
const verify = (name: string, job: Partial<VerifyTreeJob> = {}): ReturnType<typeof verifyTreeHere> =>
  verifyTreeHere({ kind: 'verify-tree', path: join(home, name), digest: undefined, ...job });
const restore = async (
  name: string,
  into: string,
  paths: readonly string[] = [],
): ReturnType<typeof restoreTreeHere> => {
  await mkdir(join(home, into), { mode: 0o700 });
  return restoreTreeHere({
    kind: 'restore-tree',
    path: join(home, name),
    into: join(home, into),
    paths,
    owner: undefined,
  });
};

describe('a backup', () => {
  it('gives back the tree with modes and times, links as they are', async () => {
    await chmod(join(source, 'data/db'), 0o2750);
    await utimes(join(source, 'data/db/one'), 1_000_000, 1_000_000);
    await utimes(join(source, 'data/empty'), 1_000_001, 1_000_001);
    const written = await writeTree({ root: source, paths: ['.'], exclude: [] }, join(home, 'all.tar.gz'));
    assert.deepEqual(written.problems, []);
    assert.equal(written.bytes, (await lstat(join(home, 'all.tar.gz'))).size);
    const verified = await verifyTree(join(home, 'all.tar.gz'), { digest: written.digest });
    assert.deepEqual(verified, { files: written.files, contentBytes: written.contentBytes, problems: [] });
    const restored = await restoreTree(join(home, 'all.tar.gz'), join(home, 'all'));
    assert.deepEqual(restored, { files: written.files, contentBytes: written.contentBytes });
    assert.deepEqual(await describeTree(join(home, 'all')), await describeTree(source));
    assert.equal((await lstat(join(home, 'all/data/db/one'))).mtimeMs, 1_000_000_000);
    assert.equal((await lstat(join(home, 'all/data/empty'))).mtimeMs, 1_000_001_000);
    assert.deepEqual((await readdir(home)).sort(), ['all', 'all.tar.gz', 'source'], 'something was left behind');
    await assert.rejects(restoreTree(join(home, 'all.tar.gz'), join(home, 'all')), (error: unknown) =>
      isCode(error, 'exists'),
    );
    const again = writeTree({ root: source, paths: ['.'], exclude: [] }, join(home, 'all.tar.gz'));
    await assert.rejects(again, (error: unknown) => isCode(error, 'exists'));
  });

  it('holds the paths that are listed but for what is left out', async () => {
    const exclude = ['*.tmp', 'data/ca*', '**/two'];
    const { problems } = await write('some.tar.gz', {
      paths: ['data/', './data/db', 'other/file', 'missing/x'],
      exclude,
    });
    assert.deepEqual(problems, ['"missing" is not in the backup: it is not there']);
    await restore('some.tar.gz', 'some');
    const expected = Object.keys(await describeTree(source)).filter((path) => !/\.tmp$|cache|two$/.test(path));
    assert.deepEqual(Object.keys(await describeTree(join(home, 'some'))), expected);
  });

  it('restores some of its paths', async () => {
    await write('part.tar.gz');
    const { files } = await restore('part.tar.gz', 'part', ['data/db/two', 'other']);
    assert.equal(files, 2);
    assert.deepEqual(Object.keys(await describeTree(join(home, 'part'))), [
      'data',
      'data/db',
      'data/db/two',
      'other',
      'other/file',
    ]);
    const missing = (error: unknown): boolean => isCode(error, 'not_found') && error.message.includes('"data/three"');
    await assert.rejects(restoreTree(join(home, 'part.tar.gz'), join(home, 'no'), { paths: ['data/three'] }), missing);
    assert.ok(!(await readdir(home)).includes('no'));
  });

  it('leads nowhere outside its root', async () => {
    for (const path of ['../source', '/etc', 'data/../../x', '']) {
      const says = (error: unknown): boolean => isCode(error, 'invalid');
      await assert.rejects(writeTree({ root: source, paths: [path], exclude: [] }, join(home, 'no.tar.gz')), says);
      await assert.rejects(restoreTree(join(home, 'part.tar.gz'), join(home, 'no'), { paths: [path] }), says);
    }
    const root = join(home, 'linked');
    await mkdir(root);
    await symlink('/etc', join(root, 'etc'));
    const { files, problems } = await write('linked.tar.gz', { root, paths: ['etc/hostname', 'etc'] });
    assert.equal(files, 0);
    assert.deepEqual(problems, []);
    const below = await write('below.tar.gz', { root, paths: ['etc/hostname'] });
    assert.equal(below.files, 0);
    assert.match(below.problems[0] ?? '', /no directory/);
  });

  it('says what could not be kept as it is', async (t) => {
    const root = join(home, 'odd');
    await makeTree(root, { fine: 'fine', '.muster-backup.jsonl': 'mine', growing: 'x'.repeat(2_000_000) });
    await writeFile(Buffer.concat([Buffer.from(join(root, 'bad-')), Buffer.from([0xff])]), 'x');
    const socket = createServer().listen(join(root, 'socket'));
    t.after(() => socket.close());
    const writing = write('odd.tar.gz', { root });
    const done = new AbortController();
    const appending = (async () => {
      while (!done.signal.aborted) await appendFile(join(root, 'growing'), 'more');
    })();
    const { problems, files } = await writing;
    done.abort();
    await appending;
    assert.equal(files, 2);
    const about = (what: RegExp): boolean => problems.some((problem) => what.test(problem));
    assert.ok(about(/^".muster-backup.jsonl" is not in the backup/), problems.join('; '));
    assert.ok(about(/UTF-8/), problems.join('; '));
    assert.ok(about(/"growing" changed while it was read/), problems.join('; '));
    assert.ok(!about(/socket/), problems.join('; '));
    assert.deepEqual((await verify('odd.tar.gz')).problems, [], 'what was read is what is in it');
  });

  it('keeps owners where root restores, or gives all to one', async (t) => {
    if (process.geteuid?.() !== 0) {
      t.skip('needs root');
      return;
    }
    const root = join(home, 'owned');
    await makeTree(root, { file: 'x', program: { run: 'y' } });
    await chown(join(root, 'file'), 1234, 2_345_678);
    await chmod(join(root, 'program'), 0o4755);
    await write('owned.tar.gz', { root });
    await restore('owned.tar.gz', 'owned-back');
    const { uid, gid } = await lstat(join(home, 'owned-back/file'));
    assert.deepEqual({ uid, gid }, { uid: 1234, gid: 2_345_678 });
    assert.equal((await lstat(join(home, 'owned-back/program'))).mode & 0o7777, 0o4755);
    await restoreTree(join(home, 'owned.tar.gz'), join(home, 'owned-other'), { owner: { uid: 7, gid: 8 } });
    for (const name of ['.', 'file', 'program']) assert.equal((await lstat(join(home, 'owned-other', name))).uid, 7);
  });
});

describe('a backup that is damaged', () => {
  /** Changes the tar inside, so that gzip's own sum does not tell. */
  async function changed(name: string, change: (tar: Buffer) => Buffer): Promise<void> {
    await write(`whole-${name}`);
    const tar = gunzipSync(await readFile(join(home, `whole-${name}`)));
    await writeFile(join(home, name), gzipSync(change(tar)));
  }

  async function refused(name: string, why: RegExp): Promise<void> {
    const { problems } = await verify(name);
    assert.match(problems[0] ?? 'nothing is wrong', why);
    await assert.rejects(restore(name, `into-${name}`), (error: unknown) => isCode(error, 'data_loss'));
  }

  it('is found by the hash of a file', async () => {
    await changed('content', (tar) => {
      tar[tar.indexOf('xxxxxxxxxx') + 5] = 0x79;
      return tar;
    });
    await refused('content', /"data\/db\/one" is not what its manifest says/);
  });

  it('is found where an attribute is another', async () => {
    const path = 'other/file';
    await changed('attribute', (tar) => {
      const at = tar.indexOf(path);
      const sum = Number.parseInt(tar.toString('latin1', at + 148, at + 154), 8);
      tar.write('5', tar.toString('latin1', at + 100, at + 107).lastIndexOf('4') + at + 100);
      tar.write((sum + 1).toString(8).padStart(6, '0'), at + 148);
      return tar;
    });
    await refused('attribute', /"other\/file" is not what its manifest says/);
  });

  it('is found where a file is missing, or one was added', async () => {
    await changed('missing', (tar) => {
      const at = tar.indexOf('other/file');
      return Buffer.concat([tar.subarray(0, at), tar.subarray(at + 1024)]);
    });
    await refused('missing', /does not say what the archive holds|is not what its manifest says/);
    await changed('added', (tar) => {
      const at = tar.indexOf('other/file');
      return Buffer.concat([tar.subarray(0, at), tarPieces({ path: 'other/added', content: 'x' }), tar.subarray(at)]);
    });
    await refused('added', /is not what its manifest says/);
  });

  it('is found without its manifest, with half of it, and with something behind it', async () => {
    await changed('without', (tar) => Buffer.concat([tar.subarray(0, tar.indexOf('.muster-backup.jsonl')), TAR_END]));
    await refused('without', /no manifest/);
    await changed('half', (tar) => {
      const at = tar.indexOf('{"musterBackup"');
      return Buffer.concat([tar.subarray(0, at), Buffer.alloc(100, ' '), tar.subarray(at + 100)]);
    });
    await refused('half', /manifest/);
    await changed('behind', (tar) => Buffer.concat([tar.subarray(0, -1024), tarPieces({ path: 'zzz' }), TAR_END]));
    await refused('behind', /follows the manifest/);
  });

  it('is found where entries are not in order, twice, or below links', async () => {
    const pieces = {
      order: [{ path: './', type: '5' }, { path: 'b' }, { path: 'a' }],
      twice: [{ path: './', type: '5' }, { path: 'a' }, { path: 'a' }],
      link: [
        { path: './', type: '5' },
        { path: 'a', type: '2', target: '/etc' },
        { path: 'a/evil', content: 'x' },
      ],
      outside: [
        { path: './', type: '5' },
        { path: '../evil', content: 'x' },
      ],
      rootless: [{ path: 'a' }],
    };
    for (const [name, entries] of Object.entries(pieces)) {
      await writeFile(join(home, name), gzipSync(Buffer.concat([tarPieces(...entries), TAR_END])));
      await refused(name, /order|below a directory|outside|root/);
    }
    assert.ok(!(await readdir(home)).includes('evil'));
  });

  it('is found by the digest of the whole, where it was cut off, and where it is another file', async () => {
    await write('digest.tar.gz');
    assert.match((await verify('digest.tar.gz', { digest: 'a'.repeat(64) })).problems[0] ?? '', /SHA-256/);
    const bytes = await readFile(join(home, 'digest.tar.gz'));
    for (const cut of [1, 9, 100, Math.floor(bytes.length / 2), bytes.length]) {
      await writeFile(join(home, 'cut'), bytes.subarray(0, bytes.length - cut));
      assert.match((await verify('cut')).problems[0] ?? '', /cut off|middle/);
    }
    await writeFile(join(home, 'text'), 'no archive');
    assert.match((await verify('text')).problems[0] ?? '', /no gzip/);
    await assert.rejects(verify('not-there'), (error: unknown) => isCode(error, 'not_found'));
  });
});
