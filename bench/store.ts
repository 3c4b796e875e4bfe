/**
 * Synced writes per second of the store and of plain `level` with `sync: true`, in the same run and on the same disk:
 * `node --import tsx bench/store.ts [SECONDS]`. The ratio is what to look at; the absolutes are the disk's.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Level } from 'level';
import { systemClock } from '../src/kit/clock.js';
import { openLevelStore } from '../src/store/leveldb.js';

const CONCURRENCIES = [1, 64, 256];
const ROUNDS = 3;
const VALUE = new Uint8Array(256).fill(120);
const KEYS = 10_000;
const seconds = Number(process.argv[2] ?? 1);

interface Subject {
  readonly name: string;
  put(key: string): Promise<unknown>;
  close(): Promise<void>;
}

async function store(path: string): Promise<Subject> {
  const opened = await openLevelStore({ path });
  return {
    name: 'store',
    put: (key) => opened.write([{ kind: 'put', key, value: VALUE }]),
    close: () => opened.close(),
  };
}

async function plain(path: string): Promise<Subject> {
  const db = new Level<string, Uint8Array>(path, { valueEncoding: 'view' });
  await db.open();
  return { name: 'level', put: (key) => db.put(key, VALUE, { sync: true }), close: () => db.close() };
}

/** Writes per second with `concurrency` writers, each waiting for its write before the next. */
async function measure(subject: Subject, concurrency: number): Promise<number> {
  const startMs = systemClock.monotonic();
  const endMs = startMs + seconds * 1000;
  let writes = 0;
  const writer = async (): Promise<void> => {
    while (systemClock.monotonic() < endMs) {
      writes += 1;
      await subject.put(`key/${writes % KEYS}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, writer));
  return (writes * 1000) / (systemClock.monotonic() - startMs);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

const directory = await mkdtemp(join(tmpdir(), 'muster-bench-'));
const subjects = [await store(join(directory, 'store')), await plain(join(directory, 'level'))];

async function measureEach(concurrency: number, rates: ReadonlyMap<string, number[]>): Promise<void> {
  for (const subject of subjects) rates.get(subject.name)?.push(await measure(subject, concurrency));
}

try {
  for (const concurrency of CONCURRENCIES) {
    const rates = new Map<string, number[]>(subjects.map(({ name }) => [name, []]));
    // Turn by turn, so that a slow moment of the disk hits both.
    for (let round = 0; round < ROUNDS; round += 1) {
      await measureEach(concurrency, rates);
    }
    const [ours = 0, theirs = 0] = subjects.map(({ name }) => median(rates.get(name) ?? []));
    console.log(
      JSON.stringify({
        concurrency,
        storePerSecond: Math.round(ours),
        levelPerSecond: Math.round(theirs),
        ratio: Number((ours / theirs).toFixed(2)),
      }),
    );
  }
} finally {
  for (const subject of subjects) await subject.close();
  await rm(directory, { recursive: true });
}
