import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isCode, messageOf } from '../../../src/kit/errors.js';
import {
  explainFullDisk,
  makeDirectory,
  readFileIfThere,
  syncDirectory,
  writeFileDurably,
} from '../../../src/kit/files.js';

let directory = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'muster-files-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('writeFileDurably', () => {
  it('writes text and bytes, for the owner alone unless told otherwise', async () => {
    await writeFileDurably(join(directory, 'text'), 'hello');
    await writeFileDurably(join(directory, 'bytes'), Uint8Array.of(1, 2, 3), 0o644);
    assert.equal(await readFile(join(directory, 'text'), 'utf8'), 'hello');
    assert.deepEqual([...(await readFile(join(directory, 'bytes')))], [1, 2, 3]);
    assert.equal((await stat(join(directory, 'text'))).mode & 0o777, 0o600);
    assert.equal((await stat(join(directory, 'bytes'))).mode & 0o777, 0o644);
  });

  it('replaces what was there, its mode too, and what a crash left aside', async () => {
    const path = join(directory, 'state');
    await writeFile(path, 'old');
    await chmod(path, 0o644);
    await writeFile(join(directory, '.state.new'), 'half a fi');
    await writeFileDurably(path, 'new');
    assert.equal(await readFile(path, 'utf8'), 'new');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(directory), ['state']);
  });

  it('leaves nothing aside when it fails', async () => {
    await mkdir(join(directory, 'taken'));
    await assert.rejects(writeFileDurably(join(directory, 'taken'), 'x'), { code: 'EISDIR' });
    assert.deepEqual(await readdir(directory), ['taken']);
  });

  it('rejects where there is no directory', async () => {
    await assert.rejects(writeFileDurably(join(directory, 'no', 'file'), 'x'), { code: 'ENOENT' });
    await assert.rejects(syncDirectory(join(directory, 'no')), { code: 'ENOENT' });
  });
});

describe('readFileIfThere', () => {
  it('tells a missing file from an unreadable one', async () => {
    await writeFile(join(directory, 'there'), 'content');
    assert.equal(await readFileIfThere(join(directory, 'there')), 'content');
    assert.equal(await readFileIfThere(join(directory, 'missing')), undefined);
    await assert.rejects(readFileIfThere(directory), { code: 'EISDIR' });
  });
});

describe('makeDirectory', () => {
  const failure = async (path: string): Promise<string> => {
    const error: unknown = await makeDirectory(path, 0o700).then(
      () => assert.fail('it should have failed'),
      (reason: unknown) => reason,
    );
    assert.ok(isCode(error, 'precondition'));
    return messageOf(error);
  };

  it('makes what is missing on the way, and leaves what is there', async () => {
    await chmod(directory, 0o755);
    const path = join(directory, 'a', 'b', 'c');
    await Promise.all([makeDirectory(path, 0o711), makeDirectory(path, 0o711)]);
    await makeDirectory(path, 0o700);
    for (const made of [join(directory, 'a'), path]) assert.equal((await stat(made)).mode & 0o777, 0o711);
    assert.equal((await stat(directory)).mode & 0o777, 0o755);
  });

  it('ends on a file system that takes no directories, and says so', { timeout: 20_000 }, async (t) => {
    if (process.platform !== 'linux') {
      t.skip('needs Linux');
      return;
    }
    assert.match(
      await failure('/proc/x'),
      /^cannot make \/proc\/x: its file system takes no directories.* another directory$/,
    );
    assert.match(await failure('/proc/x/y'), /^cannot make \/proc\/x: /);
  });

  it('names what is in the way', async () => {
    await writeFile(join(directory, 'file'), '');
    for (const path of ['file', join('file', 'below'), join('file', 'far', 'below')]) {
      const message = await failure(join(directory, path));
      assert.equal(
        message.replace(directory, 'D'),
        'cannot make D/file: something that is not a directory is there. Move it away, or choose another directory',
      );
    }
  });
});

describe('a full disk', () => {
  it('is said with its place and what to do', async () => {
    const error: unknown = await writeFile('/dev/full', 'x').catch((failure: unknown) => failure);
    const said = explainFullDisk(error, '/data');
    assert.ok(isCode(said, 'exhausted'));
    assert.match(said.message, /^there is no space left for \/data: free some space/);
    const other = new Error('other');
    assert.equal(explainFullDisk(other, '/data'), other);
  });
});
