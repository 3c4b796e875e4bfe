import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { Directory, failing, put, recordingLogger, text } from './support.js';

async function holderOf(pid: number): Promise<{ pid: number; startTicks: string; bootId: string }> {
  const line = await readFile(`/proc/${pid}/stat`, 'utf8');
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return { pid, startTicks: line.slice(line.lastIndexOf(')') + 2).split(' ')[19] ?? '', bootId };
}

describe('the lock', () => {
  it('refuses a second store and names the process', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open();
    await assert.rejects(
      directory.open(),
      failing('precondition', new RegExp(`already running as pid ${process.pid}`)),
    );
    await store.write([put('a', '1')]);
    await store.close();
    assert.equal(await text(await directory.open(), 'a'), '1');
  });

  it('is left by nobody after close or a failed open', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open();
    await store.close();
    assert.deepEqual((await readdir(directory.path)).sort(), ['acknowledged', 'leveldb']);
    await assert.rejects(directory.open({ schema: { name: 'other', migrations: [] } }), failing('precondition'));
    assert.deepEqual((await readdir(directory.path)).sort(), ['acknowledged', 'leveldb']);
  });

  it('of a living process is respected, of a dead one, another boot or another start is replaced', async (t) => {
    const directory = await Directory.make(t);
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    t.after(() => child.kill('SIGKILL'));
    const holder = await holderOf(child.pid ?? 0);
    const file = join(directory.path, 'lock');
    await writeFile(file, JSON.stringify(holder));
    await assert.rejects(directory.open(), failing('precondition', new RegExp(`pid ${holder.pid}`)));
    const stale = [
      { ...holder, bootId: 'another boot' },
      { ...holder, startTicks: '1' },
      { ...holder, startTicks: 1 },
      { pid: 'x' },
      null,
    ];
    for (const content of stale) {
      await writeFile(file, JSON.stringify(content));
      await (await directory.open()).close();
    }
    await writeFile(file, 'torn {');
    await (await directory.open()).close();
    await writeFile(file, JSON.stringify(holder));
    child.kill('SIGKILL');
    await once(child, 'exit');
    await (await directory.open()).close();
  });

  it('of LevelDB itself is the last word', async (t) => {
    const directory = await Directory.make(t);
    await (await directory.open()).close();
    await directory.bare(async () => {
      await assert.rejects(directory.open(), failing('precondition', /another process uses it/));
    });
    await directory.open();
  });

  it('taken over by another process meanwhile is not removed', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open();
    const file = join(directory.path, 'lock');
    await writeFile(file, '{"pid":1}');
    await store.close();
    assert.equal(await readFile(file, 'utf8'), '{"pid":1}');
  });
});

describe('opening', () => {
  it('makes the directory for its owner alone', async (t) => {
    const directory = await Directory.make(t);
    const path = join(directory.path, 'a', 'b');
    const store = await openLevelStore({ path });
    await store.close();
    assert.equal((await stat(path)).mode & 0o777, 0o700);
  });

  it('goes on where a first start was cut off', async (t) => {
    const directory = await Directory.make(t);
    await mkdir(join(directory.path, 'leveldb'));
    await writeFile(join(directory.path, 'leveldb', 'MANIFEST-000001'), 'cut');
    assert.equal((await directory.open()).revision, 0);
  });

  it('begins anew where a power loss left the first manifest empty, and only there', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open();
    await store.write([put('a', '1')]);
    await store.close();
    const files = join(directory.path, 'leveldb');
    const current = (await readFile(join(files, 'CURRENT'), 'utf8')).trim();
    // What the rule rests on: a database that was opened once has moved on from its first manifest.
    assert.notEqual(current, 'MANIFEST-000001');

    const cut = await Directory.make(t);
    await mkdir(join(cut.path, 'leveldb'));
    await writeFile(join(cut.path, 'leveldb', 'CURRENT'), 'MANIFEST-000001\n');
    await writeFile(join(cut.path, 'leveldb', 'MANIFEST-000001'), Buffer.alloc(50));
    await writeFile(join(cut.path, 'leveldb', '000003.log'), '');
    const begun = await cut.open();
    await begun.write([put('a', '1')]);
    await begun.close();

    await writeFile(join(files, 'CURRENT'), 'MANIFEST-000001\n');
    await assert.rejects(directory.open(), failing('data_loss'));
    await writeFile(join(files, 'CURRENT'), `${current}\n`);
    assert.equal(await text(await directory.open(), 'a'), '1');
  });

  it('says how much it has read', async (t) => {
    const directory = await Directory.make(t);
    const logger = recordingLogger();
    await directory.open({ logger });
    assert.deepEqual(logger.lines, ['the store is open']);
  });

  it('refuses impossible options', async (t) => {
    const directory = await Directory.make(t);
    await assert.rejects(directory.open({ freeSpaceFloorBytes: -1 }), failing('invalid'));
    await assert.rejects(directory.open({ freeSpaceFloorBytes: NaN }), failing('invalid'));
  });

  it('reports a directory that cannot be used', async (t) => {
    const directory = await Directory.make(t);
    await writeFile(join(directory.path, 'leveldb'), 'a file');
    await assert.rejects(
      directory.open(),
      failing('precondition', /leveldb: something that is not a directory is there/),
    );
    await rm(join(directory.path, 'leveldb'));
    await directory.open();
  });

  it('reports a database that LevelDB refuses', async (t) => {
    const directory = await Directory.make(t);
    await mkdir(join(directory.path, 'leveldb', 'LOCK'), { recursive: true });
    await assert.rejects(directory.open(), failing('unavailable', /could not be opened/));
  });
});
