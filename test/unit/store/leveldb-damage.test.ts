import assert from 'node:assert/strict';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, mock, type TestContext } from 'node:test';
import { crc32 } from 'node:zlib';
import { Level } from 'level';
import { Directory, failing, put, text } from './support.js';

const KEYS = 50;

/** A closed store with revisions 1 to KEYS, one key each. */
async function filled(t: TestContext): Promise<Directory> {
  const directory = await Directory.make(t);
  const store = await directory.open();
  for (let n = 0; n < KEYS; n += 1) await store.write([put(`key/${n}`, `value ${n}`)]);
  await store.close();
  return directory;
}

const stored = (key: string): Buffer => Buffer.from(`d${key}`);

function meta(content: unknown): Buffer {
  const json = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
  const head = Buffer.alloc(4);
  head.writeUInt32LE(crc32(json, crc32('m')));
  return Buffer.concat([head, json]);
}

/** Every file a store has, with its bytes. */
async function filesOf(directory: Directory): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of await readdir(directory.path, { recursive: true })) {
    const bytes = await readFile(join(directory.path, name)).catch(() => undefined);
    if (bytes) files.set(name, bytes);
  }
  return files;
}

describe('damage inside intact files', () => {
  const cases: [string, (db: Level<Buffer, Buffer>) => Promise<void>, RegExp][] = [
    [
      'a changed value',
      (db) => change(db, 'key/7', (bytes) => void (bytes[14] = 0)),
      /"key\/7" does not match its checksum/,
    ],
    [
      'a changed revision',
      (db) => change(db, 'key/7', (bytes) => void (bytes[4] = 99)),
      /"key\/7" does not match its checksum/,
    ],
    ['a short value', (db) => db.put(stored('key/7'), Buffer.from('short')), /"key\/7" has only 5 bytes/],
    ['a value at another key', (db) => copy(db, 'key/7', 'key/8'), /"key\/8" does not match its checksum/],
    ['a lost key', (db) => db.del(stored('key/7')), /holds 49 keys where the newest batch left 50/],
    ['an invented key', (db) => db.put(Buffer.from('x'), Buffer.from('y')), /a key that was never written/],
    [
      'a key that is not text',
      (db) => db.put(Buffer.from([0x64, 0xff]), Buffer.alloc(20)),
      /a key that was never written/,
    ],
    [
      'no record of the store',
      (db) => db.del(Buffer.from('m')),
      /newest revision is 0, but revision 50 had been acknowledged/,
    ],
    [
      'a changed record of the store',
      (db) => db.put(Buffer.from('m'), Buffer.from('abcdefgh')),
      /own record \("m"\) does not match/,
    ],
    [
      'a short record of the store',
      (db) => db.put(Buffer.from('m'), Buffer.from('ab')),
      /own record \("m"\) does not match/,
    ],
    ['a record of the store that is not JSON', (db) => db.put(Buffer.from('m'), meta('{')), /not JSON/],
  ];
  for (const [what, damage, message] of cases) {
    it(`is reported: ${what}`, async (t) => {
      const directory = await filled(t);
      await directory.bare(damage);
      await assert.rejects(directory.open(), failing('data_loss', message));
      await assert.rejects(directory.open(), failing('data_loss', /restore the data directory from a backup/));
    });
  }

  it('is reported: an older value that came back', async (t) => {
    const directory = await filled(t);
    const old = await directory.bare((db) => db.get(stored('key/7')));
    const store = await directory.open();
    await store.write([put('key/7', 'newer')]);
    await store.close();
    await directory.bare((db) => db.put(stored('key/7'), old));
    await assert.rejects(directory.open(), failing('data_loss', /an older value of some key came back/));
  });

  it('is reported: a value from the future', async (t) => {
    const directory = await filled(t);
    const before = await directory.bare((db) => db.get(Buffer.from('m')));
    const store = await directory.open();
    await store.write([put('key/7', 'newer')]);
    await store.close();
    await rm(join(directory.path, 'acknowledged'));
    await directory.bare((db) => db.put(Buffer.from('m'), before));
    await assert.rejects(directory.open(), failing('data_loss', /"key\/7" has revision 51, newer than the store's 50/));
  });

  it('is reported: keys without the record of the store', async (t) => {
    const directory = await filled(t);
    await rm(join(directory.path, 'acknowledged'));
    await directory.bare((db) => db.del(Buffer.from('m')));
    await assert.rejects(directory.open(), failing('data_loss', /holds keys but not its own record/));
  });

  it('is reported: point reads that do not agree with the scan', async (t) => {
    const directory = await filled(t);
    mock.method(Level.prototype, 'getMany', (keys: Buffer[]) => Promise.resolve(keys.map(() => undefined)), {
      times: 1,
    });
    await assert.rejects(directory.open(), failing('data_loss', /does not find key/));
    mock.restoreAll();
    await directory.open();
  });
});

async function change(db: Level<Buffer, Buffer>, key: string, edit: (bytes: Buffer) => void): Promise<void> {
  const bytes = await db.get(stored(key));
  edit(bytes);
  await db.put(stored(key), bytes);
}

async function copy(db: Level<Buffer, Buffer>, from: string, to: string): Promise<void> {
  await db.put(stored(to), await db.get(stored(from)));
}

async function editLog(directory: Directory, edit: (bytes: Buffer) => Buffer): Promise<void> {
  const level = join(directory.path, 'leveldb');
  const name = (await readdir(level)).find((file) => file.endsWith('.log')) ?? '';
  await writeFile(join(level, name), edit(await readFile(join(level, name))));
}

describe('damaged files', () => {
  it('are reported, and left as they are', async (t) => {
    const directory = await filled(t);
    await (await directory.open()).close();
    const whole = await filesOf(directory);
    const table = [...whole.keys()].find((name) => name.endsWith('.ldb')) ?? '';
    const manifest = [...whole.keys()].find((name) => name.includes('MANIFEST')) ?? '';
    const bytesOf = (name: string): Buffer => Buffer.from(whole.get(name) ?? '');
    const flipped = (name: string, at: number): Buffer => {
      const bytes = bytesOf(name);
      const index = at < 0 ? bytes.length + at : at;
      bytes[index] = (bytes[index] ?? 0) ^ 0x10;
      return bytes;
    };
    const cases: [string, Buffer | undefined, RegExp][] = [
      [table, flipped(table, 20), /damaged block, with keys up to/],
      [table, flipped(table, -1), /does not end as a table does/],
      [table, flipped(table, -48), /damaged index|cannot be read/],
      [table, flipped(table, -60), /damaged index/],
      [table, bytesOf(table).subarray(0, 30), /is too short/],
      [table, undefined, /is missing/],
      [manifest, flipped(manifest, 10), /does not match its checksum/],
      [manifest, undefined, /is missing/],
      ['leveldb/CURRENT', Buffer.from('nonsense\n'), /CURRENT does not name a manifest/],
      ['leveldb/CURRENT', undefined, /CURRENT is missing but leveldb\//],
    ];
    for (const [name, bytes, message] of cases) {
      if (bytes) await writeFile(join(directory.path, name), bytes);
      else await rm(join(directory.path, name));
      const damagedFiles = await filesOf(directory);
      await assert.rejects(directory.open(), failing('data_loss', message));
      assert.deepEqual(
        [...(await filesOf(directory)).entries()].sort(),
        [...damagedFiles.entries()].sort(),
        'opening changed the files',
      );
      await writeFile(join(directory.path, name), whole.get(name) ?? '');
    }
    await directory.open();
  });

  it('name the keys around the damage', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open({ writeBufferBytes: 64 * 1024 });
    for (let n = 100; n < 200; n += 1) await store.write([put(`key/${n}`, 'x'.repeat(2000))]);
    await store.close();
    const name =
      (await readdir(join(directory.path, 'leveldb'))).filter((file) => file.endsWith('.ldb')).sort()[0] ?? '';
    const path = join(directory.path, 'leveldb', name);
    const bytes = await readFile(path);
    bytes[30_000] = (bytes[30_000] ?? 0) ^ 1;
    await writeFile(path, bytes);
    await assert.rejects(
      directory.open(),
      failing('data_loss', /table 0000\d+\.ldb has a damaged block, with keys from "key\/1\d+" up to "key\/1\d+"/),
    );
  });

  it('are reported when a damaged record of the log has others behind it', async (t) => {
    const directory = await Directory.make(t);
    const store = await directory.open();
    for (let n = 0; n < 60; n += 1) await store.write([put(`key/${n}`, 'x'.repeat(3000))]);
    await store.close();
    // In the second block of 32 KiB: the third begins with whole records again.
    await editLog(directory, (bytes) => {
      bytes[40_000] = (bytes[40_000] ?? 0) ^ 1;
      return bytes;
    });
    await assert.rejects(directory.open(), failing('data_loss', /log 0000\d+\.log is damaged at byte \d+/));
  });

  it('show acknowledged writes that a cut log has lost', async (t) => {
    const directory = await filled(t);
    await editLog(directory, (bytes) => bytes.subarray(0, bytes.length - 5));
    await assert.rejects(
      directory.open(),
      failing('data_loss', /newest revision is 49, but revision 50 had been acknowledged/),
    );
  });

  it('of the acknowledged record only weaken the check', async (t) => {
    const directory = await filled(t);
    const file = join(directory.path, 'acknowledged');
    for (const bytes of [Buffer.from('cut'), Buffer.alloc(0), Buffer.alloc(1024, 7)]) {
      await writeFile(file, bytes);
      const store = await directory.open();
      assert.equal(store.revision, KEYS);
      await store.close();
    }
  });
});

describe('damage while the store is open', () => {
  it('is reported by reads and by writes to that key, and leaves the others alone', async (t) => {
    const directory = await filled(t);
    const store = await directory.open();
    const damaged = Buffer.alloc(20);
    mock.method(Level.prototype, 'get', () => Promise.resolve(damaged), { times: 1 });
    await assert.rejects(store.get('key/7'), failing('data_loss', /"key\/7"/));
    mock.method(
      Level.prototype,
      'getMany',
      (keys: Buffer[]) => Promise.resolve(keys.map((key) => (key.includes('7') ? damaged : undefined))),
      {
        times: 1,
      },
    );
    const results = await Promise.allSettled([store.write([put('key/7', 'x')]), store.write([put('new', 'x')])]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['rejected', 'fulfilled'],
    );
    mock.restoreAll();
    assert.equal(await text(store, 'key/7'), 'value 7');
  });

  it('of a whole block is reported as data_loss, a failing disk as unavailable; the store goes on', async (t) => {
    const directory = await filled(t);
    const store = await directory.open();
    const fail = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));
    mock.method(Level.prototype, 'get', fail('LEVEL_CORRUPTION'), { times: 1 });
    await assert.rejects(store.get('key/7'), failing('data_loss', /LevelDB cannot read/));
    mock.restoreAll();
    mock.method(Level.prototype, 'getMany', fail('LEVEL_IO_ERROR'), { times: 1 });
    await assert.rejects(store.write([put('key/7', 'x')]), failing('unavailable', /could not be read/));
    mock.restoreAll();
    assert.equal(await store.write([put('key/7', 'x')]), KEYS + 1);
  });
});
