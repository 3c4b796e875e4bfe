import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openQueueLog } from '../../../src/queue/log/leveldb-log.js';
import { copyAsKilled, seedOf, temporaryDirectory } from '../store/support.js';
import type { Answer, Task } from './reader.js';
import { Workload } from './workload.js';
import { programArgs } from '../../support/program.js';

/** Flipped bits; MUSTER_LOG_FLIPS asks for more of them. */
const FLIPS = Number(process.env['MUSTER_LOG_FLIPS'] ?? 40);
const COMMITS = 240;
const WRITE_BUFFER_BYTES = 64 * 1024;
const ORDERS: readonly Task['first'][] = ['read', 'scrub', 'compact'];

/** Filled in two lives, so that there are tables of several levels and a log. */
async function fill(path: string, seed: number): Promise<void> {
  const workload = new Workload(seed);
  for (const until of [COMMITS / 2, COMMITS]) {
    const log = await openQueueLog({ path, writeBufferBytes: WRITE_BUFFER_BYTES });
    await log.load();
    while (workload.number < until) await log.commit(workload.step().changes);
    await log.close();
  }
}

async function dataFiles(path: string): Promise<{ name: string; bytes: Buffer }[]> {
  const names = (await readdir(path, { recursive: true })).filter((name) => /\.(?:ldb|log)$/.test(name)).sort();
  return Promise.all(names.map(async (name) => ({ name, bytes: await readFile(join(path, name)) })));
}

/** Where keys of messages and cursors stand, as far as their bytes show: tables share their beginnings. */
function keysIn(bytes: Buffer): readonly number[] {
  const found: number[] = [];
  for (const kind of ['0', 'C', 'B']) {
    const key = Buffer.from([kind.charCodeAt(0), 0, 0, 0]);
    for (let at = bytes.indexOf(key); at >= 0; at = bytes.indexOf(key, at + 1)) found.push(at);
  }
  return found;
}

/** From the lengths before a key up to the sequence behind it. */
const KEY_BEFORE_BYTES = 4;
const KEY_BYTES = 26;

/** Flips one bit of one file: anywhere, all bytes being equally likely, or in or beside a key, which LevelDB stumbles over. */
async function flipOneBit(path: string, where: 'anywhere' | 'key', random: Random): Promise<string> {
  const places: { name: string; bytes: Buffer; at: number }[] = [];
  const files = await dataFiles(path);
  if (where === 'key') {
    for (const file of files) {
      for (const at of keysIn(file.bytes)) {
        places.push({ ...file, at: at - KEY_BEFORE_BYTES + randomBetween(random, 0, KEY_BYTES) });
      }
    }
  } else {
    let at = randomBetween(
      random,
      0,
      files.reduce((sum, { bytes }) => sum + bytes.length, 0),
    );
    for (const file of files) {
      if (at >= 0 && at < file.bytes.length) places.push({ ...file, at });
      at -= file.bytes.length;
    }
  }
  const place = places[randomBetween(random, 0, places.length)];
  assert.ok(place, 'there is nothing to flip');
  const { name, bytes } = place;
  const at = Math.min(Math.max(place.at, 0), bytes.length - 1);
  const bit = randomBetween(random, 0, 8);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
  await writeFile(join(path, name), bytes);
  return `${name} byte ${at} bit ${bit}`;
}

/** A reader, started again when LevelDB has ended it. */
class Reader {
  #child: ChildProcess | undefined;

  /** What it found; undefined: the process ended. */
  async ask(task: Task): Promise<Answer | undefined> {
    const child = (this.#child ??= spawn(process.execPath, programArgs(join(import.meta.dirname, 'reader')), {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    }));
    const ended = new AbortController();
    const answer = once(child, 'message', { signal: ended.signal }) as Promise<[Answer]>;
    const exit = once(child, 'exit', { signal: ended.signal }).then(() => undefined);
    exit.catch(() => undefined);
    answer.catch(() => undefined);
    child.send(task);
    const first = await Promise.race([answer.then(([found]) => found), exit]);
    ended.abort();
    if (!first) this.#child = undefined;
    return first;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    child.disconnect();
    await once(child, 'exit');
  }
}

interface Tally {
  readonly reported: Map<string, number>;
  harmless: number;
  /** What must not happen: a wrong message, an error that is no data_loss, a process that ends without a word. */
  readonly bad: string[];
}

async function judgeFlip(reader: Reader, task: Task, what: string, tally: Tally): Promise<void> {
  let answer = await reader.ask(task);
  let by = '';
  if (!answer) {
    // LevelDB ended the process: the next start must say why.
    answer = await reader.ask({ ...task, first: 'read' });
    by = 'the start after an abort: ';
  }
  if (!answer) tally.bad.push(`${what}, ${task.first}: the process ended twice`);
  else if (answer.at === 'wrong') tally.bad.push(`${what}: ${answer.message}`);
  else if (answer.at === 'harmless') tally.harmless += 1;
  else {
    tally.reported.set(by + answer.by, (tally.reported.get(by + answer.by) ?? 0) + 1);
    if (answer.odd) tally.bad.push(`${what}: not data_loss: ${answer.message}`);
  }
}

it('every flipped bit is reported or harmless, and none becomes a wrong message', { timeout: 3_600_000 }, async (t) => {
  const seed = seedOf(t);
  const random = seededRandom(seed);
  const directory = await temporaryDirectory(t);
  const whole = join(directory, 'whole');
  await fill(whole, seed);
  const files = await dataFiles(whole);
  assert.ok(files.some(({ name }) => name.endsWith('.ldb')) && files.some(({ name }) => name.endsWith('.log')));
  const reader = new Reader();
  t.after(() => reader.stop());
  const tally: Tally = { reported: new Map(), harmless: 0, bad: [] };
  for (let flip = 0; flip < FLIPS; flip += 1) {
    const path = join(directory, `copy-${flip}`);
    await copyAsKilled(whole, path);
    const what = await flipOneBit(path, random.next() < 0.5 ? 'anywhere' : 'key', random);
    const task: Task = { path, seed, commits: COMMITS, first: ORDERS[flip % ORDERS.length] ?? 'read' };
    await judgeFlip(reader, task, `${what}, ${task.first}`, tally);
    await rm(path, { recursive: true });
  }
  const told = [...tally.reported].map(([by, times]) => `${times} by ${by}`).join(', ');
  t.diagnostic(`${FLIPS} flips over ${files.length} files: ${told}; ${tally.harmless} harmless`);
  assert.deepEqual(tally.bad, []);
  assert.ok(tally.harmless < (FLIPS * 3) / 4, `${tally.harmless} of ${FLIPS} flips were harmless: is everything read?`);
});
