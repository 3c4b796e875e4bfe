import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { Level } from 'level';
import { isCode } from '../../../src/kit/errors.js';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { copyAsKilled, seedOf, temporaryDirectory } from './support.js';

const FLIPS = 300;
/** Fewer: each takes a process. */
const PLAIN_FLIPS = 60;
/** Many, so that most of what is on disk is the newest value of a key. */
const KEYS = 2000;
const BATCHES = 900;
const WRITE_BUFFER_BYTES = 64 * 1024;

type Contents = Map<string, string>;
type Found =
  { readonly at: 'reported'; readonly error: unknown } | { readonly at: 'read'; readonly contents: Contents };

/** A store as the test needs it: filled once, then read whole from damaged copies. */
interface Subject {
  fill(
    path: string,
    write: (put: (key: string, value: string | undefined) => Promise<void>) => Promise<void>,
  ): Promise<void>;
  /** Reads everything by scan and one by one; the two must agree or the difference counts as wrong. */
  read(path: string, keys: Iterable<string>): Promise<Contents>;
}

const ours: Subject = {
  fill: async (path, write) => {
    const store = await openLevelStore({ path, writeBufferBytes: WRITE_BUFFER_BYTES });
    await write(async (key, value) => {
      await store.write([
        value === undefined ? { kind: 'delete', key } : { kind: 'put', key, value: Buffer.from(value) },
      ]);
    });
    await store.close();
  },
  read: async (path, keys) => {
    const store = await openLevelStore({ path });
    try {
      const contents: Contents = new Map();
      for await (const { key, value } of store.range()) contents.set(key, Buffer.from(value).toString());
      for (const key of keys) {
        const entry = await store.get(key);
        const value = entry && Buffer.from(entry.value).toString();
        if (value !== contents.get(key)) contents.set(key, `scan and get differ: ${String(value)}`);
      }
      return contents;
    } finally {
      await store.close();
    }
  },
};

const plainLevel: Subject = {
  fill: async (path, write) => {
    const db = new Level(path, { writeBufferSize: WRITE_BUFFER_BYTES, compression: false });
    await write((key, value) => (value === undefined ? db.del(key) : db.put(key, value)));
    await db.close();
  },
  // In a process of its own: LevelDB aborts on some damage, and that is not what this subject is to show.
  read: async (path, keys) => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '--eval', READ_PLAIN, path, ...keys],
      { cwd: import.meta.dirname, maxBuffer: 64 * 1024 * 1024 },
    );
    return new Map(JSON.parse(stdout) as [string, string][]);
  },
};

const READ_PLAIN = `
  import { promisify } from 'node:util';
import { Level } from 'level';
  const [path, ...keys] = process.argv.slice(1);
  const db = new Level(path);
  const contents = new Map();
  for await (const [key, value] of db.iterator()) contents.set(key, value);
  for (const key of keys) {
    const value = await db.get(key);
    if (value !== contents.get(key)) contents.set(key, 'scan and get differ: ' + value);
  }
  console.log(JSON.stringify([...contents]));
`;

async function fill(subject: Subject, path: string, random: Random): Promise<Contents> {
  const contents: Contents = new Map();
  await subject.fill(path, async (put) => {
    for (let n = 0; n < BATCHES; n += 1) {
      const key = `key/${randomBetween(random, 0, KEYS)}`;
      const value = random.next() < 0.1 ? undefined : String(random.next()).repeat(randomBetween(random, 1, 20));
      await put(key, value);
      if (value === undefined) contents.delete(key);
      else contents.set(key, value);
    }
  });
  return contents;
}

async function filesOf(path: string): Promise<string[]> {
  const names = await readdir(path, { recursive: true });
  return names.filter((name) => /\.(?:ldb|log)$/.test(name)).sort();
}

/** Flips one bit of one table or log file, every byte of all of them being equally likely. */
async function flipOneBit(path: string, random: Random): Promise<string> {
  const files = await Promise.all(
    (await filesOf(path)).map(async (name) => ({ name, bytes: await readFile(join(path, name)) })),
  );
  let at = randomBetween(
    random,
    0,
    files.reduce((sum, { bytes }) => sum + bytes.length, 0),
  );
  const bit = randomBetween(random, 0, 8);
  for (const { name, bytes } of files) {
    if (at < bytes.length) {
      bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      await writeFile(join(path, name), bytes);
      return `${name} byte ${at} bit ${bit}`;
    }
    at -= bytes.length;
  }
  throw new Error('there is nothing to flip');
}

async function tryRead(subject: Subject, path: string, keys: Iterable<string>): Promise<Found> {
  try {
    return { at: 'read', contents: await subject.read(path, keys) };
  } catch (error) {
    return { at: 'reported', error };
  }
}

function sameContents(a: Contents, b: Contents): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}

interface Tally {
  reported: number;
  harmless: number;
  readonly wrong: string[];
  readonly oddErrors: string[];
}

async function flipMany(t: TestContext, subject: Subject, flips: number): Promise<Tally> {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const directory = await temporaryDirectory(t);
  const whole = join(directory, 'whole');
  const written = await fill(subject, whole, random);
  // A second opening turns the first log into a table; writes after it leave a log again.
  const names = await filesOf(whole);
  assert.ok(names.some((name) => name.endsWith('.ldb')) && names.some((name) => name.endsWith('.log')), names.join());
  const tally: Tally = { reported: 0, harmless: 0, wrong: [], oddErrors: [] };
  for (let flip = 0; flip < flips; flip += 1) {
    const copy = join(directory, `copy-${flip}`);
    await copyAsKilled(whole, copy);
    const what = await flipOneBit(copy, random);
    const found = await tryRead(subject, copy, written.keys());
    if (found.at === 'reported') {
      tally.reported += 1;
      if (!isCode(found.error, 'data_loss')) tally.oddErrors.push(`${what}: ${String(found.error)}`);
    } else if (sameContents(found.contents, written)) tally.harmless += 1;
    else tally.wrong.push(what);
    await rm(copy, { recursive: true });
  }
  t.diagnostic(`${flips} flips: ${tally.reported} reported, ${tally.harmless} harmless, ${tally.wrong.length} wrong`);
  return tally;
}

it('reports every flipped bit that matters, and returns no wrong value', { timeout: 300_000 }, async (t) => {
  const { wrong, reported, oddErrors } = await flipMany(t, ours, FLIPS);
  assert.deepEqual(wrong, []);
  assert.deepEqual(oddErrors, [], 'damage must be reported as data_loss');
  assert.ok(reported > FLIPS / 2, `${reported} of ${FLIPS} flips were reported`);
});

it('the same flips on plain level come back as wrong values', { timeout: 300_000 }, async (t) => {
  const { wrong } = await flipMany(t, plainLevel, PLAIN_FLIPS);
  assert.ok(
    wrong.length > PLAIN_FLIPS / 6,
    `only ${wrong.length} of ${PLAIN_FLIPS}: the trap is gone, and this scenario proves nothing`,
  );
});
