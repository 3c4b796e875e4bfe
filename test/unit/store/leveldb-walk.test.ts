import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Level } from 'level';
import { liveFiles, type LiveTable } from '../../../src/store/leveldb-files.js';
import { Table, TableDamage, checkStructure, userKey } from '../../../src/store/leveldb-table.js';
import { UnwalkedTables, isBusy, levelsBeingMerged } from '../../../src/store/leveldb-walk.js';
import { failing } from './support.js';

const KEYS = 100;

async function directoryOf(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-walk-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function key(n: number): Buffer {
  return Buffer.from(`key/${String(n).padStart(4, '0')}`);
}

/** A table as LevelDB writes it, with keys from `first` on and values of 200 bytes. */
async function tableFrom(directory: string, first: number): Promise<LiveTable> {
  const path = join(directory, `made-${first}`);
  const db = new Level<Buffer, Buffer>(path, { keyEncoding: 'buffer', valueEncoding: 'buffer', compression: false });
  for (let n = first; n < first + KEYS; n += 1) await db.put(key(n), Buffer.alloc(200, n));
  await db.close();
  // Opening it again makes a table of the log.
  const again = new Level(path, { compression: false });
  await again.open();
  await again.close();
  const { tables } = await liveFiles(path, path);
  const [table] = tables;
  assert.ok(table && tables.length === 1);
  const name = (await readdir(path)).find((file) => file.endsWith('.ldb')) ?? '';
  const number = 1000 + first;
  await copyFile(join(path, name), join(directory, `${String(number).padStart(6, '0')}.ldb`));
  return { ...table, number, level: 2 };
}

function fileOf(directory: string, { number }: LiveTable): string {
  return join(directory, `${String(number).padStart(6, '0')}.ldb`);
}

async function change(path: string, edit: (bytes: Buffer) => void): Promise<void> {
  const bytes = await readFile(path);
  edit(bytes);
  await writeFile(path, bytes);
}

async function walk(path: string, live: LiveTable): Promise<void> {
  const table = await Table.open(path);
  try {
    await checkStructure(table, live);
  } finally {
    await table.close();
  }
}

describe('the structure of a table', () => {
  it('holds as LevelDB wrote it, and with damaged values', async (t) => {
    const directory = await directoryOf(t);
    const live = await tableFrom(directory, 0);
    const path = fileOf(directory, live);
    assert.deepEqual([userKey(live.smallest), userKey(live.largest)], [key(0), key(KEYS - 1)]);
    await walk(path, live);
    await change(path, (bytes) => bytes.fill(7, 100, 110));
    await walk(path, live);
  });

  it('does not hold with keys that LevelDB would stumble over', async (t) => {
    const directory = await directoryOf(t);
    const live = await tableFrom(directory, 0);
    const path = fileOf(directory, live);
    const whole = await readFile(path);
    // The first entry: nothing shared, 16 bytes of key (8 of them LevelDB's own), 200 bytes of value in two bytes; then the key.
    assert.deepEqual([...whole.subarray(0, 4)], [0, 16, 200, 1]);
    const second = 4 + 16 + 200;
    const edits: [string, (bytes: Buffer) => void, RegExp][] = [
      [
        'no room for what LevelDB keeps behind a key',
        (bytes) => (bytes[1] = 8),
        /too short|no kind|out of order|begins as none/,
      ],
      ['no kind', (bytes) => (bytes[4 + 8] = 9), /no kind/],
      ['more than there is before it', (bytes) => (bytes[second] = 60), /begins as none before it/],
      ['an order that falls', (bytes) => (bytes[4] = 'z'.charCodeAt(0)), /out of order/],
      ['a beginning before the first of the table', (bytes) => (bytes[4] = 'a'.charCodeAt(0)), /before its beginning/],
      ['a shared beginning where a search starts', (bytes) => (bytes[0] = 1), /begins as none|cannot be searched/],
    ];
    for (const [what, edit, message] of edits) {
      await writeFile(path, whole);
      await change(path, edit);
      await assert.rejects(walk(path, live), (error) => {
        assert.ok(error instanceof TableDamage || error instanceof RangeError, `${what}: ${String(error)}`);
        if (error instanceof TableDamage) assert.match(error.message, message, what);
        return true;
      });
    }
  });

  it('does not hold outside the bounds that the manifest names', async (t) => {
    const directory = await directoryOf(t);
    const live = await tableFrom(directory, 0);
    const path = fileOf(directory, live);
    const other = await tableFrom(directory, 50);
    await assert.rejects(walk(path, { ...live, smallest: other.smallest }), /before its beginning/);
    await assert.rejects(walk(path, { ...live, largest: other.smallest }), /behind its end/);
  });
});

describe('tables that were there before', () => {
  /** Three tables of one level; the one in the middle would end the process. */
  async function three(t: TestContext): Promise<{ directory: string; tables: LiveTable[]; unwalked: UnwalkedTables }> {
    const directory = await directoryOf(t);
    const tables = [await tableFrom(directory, 0), await tableFrom(directory, 200), await tableFrom(directory, 400)];
    const middle = tables[1];
    assert.ok(middle);
    await change(fileOf(directory, middle), (bytes) => (bytes[4] = 'z'.charCodeAt(0)));
    return { directory, tables, unwalked: new UnwalkedTables('DATA', directory, tables) };
  }

  const span = (from: number, until: number): { from: Buffer; until: Buffer } => ({
    from: key(from),
    until: key(until),
  });
  const damage = failing('data_loss', /DATA is damaged: table 001200\.ldb has keys out of order/);

  it('are looked at before they are touched, and only then', async (t) => {
    const { unwalked } = await three(t);
    await unwalked.assertWalkable(span(0, 50));
    await unwalked.assertWalkable(span(400, 500));
    await unwalked.assertWalkable(span(600, 700));
    await assert.rejects(unwalked.assertWalkable(span(200, 201)), damage);
    await assert.rejects(unwalked.assertWalkable(span(0, 500)), damage);
    // The end of this span is found by looking at the first key behind it.
    await assert.rejects(unwalked.assertWalkable(span(150, 160)), damage);
    await assert.rejects(Promise.all([1, 2, 3].map(() => unwalked.assertWalkable(span(200, 201)))), damage);
  });

  it('are looked at once, and not when they are gone or known to be sound', async (t) => {
    const { directory, tables, unwalked } = await three(t);
    await unwalked.assertWalkable(span(0, 50));
    const [first, middle] = tables;
    assert.ok(first && middle);
    await change(fileOf(directory, first), (bytes) => bytes.fill(255, 0, 50));
    await unwalked.assertWalkable(span(0, 50));
    unwalked.forget(middle);
    await unwalked.assertWalkable(span(200, 300));
    const again = new UnwalkedTables('DATA', directory, [middle]);
    await rm(fileOf(directory, middle));
    await again.assertWalkable(span(200, 300));
  });
});

describe('merges that were cut off', () => {
  it('are found in the log of LevelDB', async (t) => {
    const directory = await directoryOf(t);
    const levels = async (text: string): Promise<readonly number[]> => {
      await writeFile(join(directory, 'LOG'), text);
      return [...(await levelsBeingMerged(directory))];
    };
    assert.deepEqual([...(await levelsBeingMerged(directory))], []);
    assert.deepEqual(await levels(''), []);
    const start = '2026/11/23-10:00:00.000001 7f Compacting 1@2 + 3@3 files\n';
    const table = '2026/11/23-10:00:00.000001 7f Level-0 table #9: started\n';
    const end = '2026/11/23-10:00:00.000001 7f compacted to: files[ 0 1 2 0 0 0 0 ]\n';
    assert.deepEqual(await levels(start + table), [2, 3]);
    assert.deepEqual(await levels(start + end + table), []);
    assert.deepEqual(await levels(`${'x\n'.repeat(200_000)}${start}`), [2, 3]);
  });

  it('make their tables busy, as the first levels always are', () => {
    const table = { number: 1, level: 3, bytes: 1, smallest: key(0), largest: key(1) };
    assert.equal(isBusy(table, new Set()), false);
    assert.equal(isBusy(table, new Set([3])), true);
    assert.equal(isBusy({ ...table, level: 1 }, new Set()), true);
  });
});
