import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openQueueLog } from '../../../src/queue/log/leveldb-log.js';
import { copyAsKilled, seedOf, temporaryDirectory } from '../store/support.js';
import type { Answer, Task } from './reader.js';
import { Workload } from './workload.js';

/** Flipped bits; MUSTER_LOG_FLIPS asks for more of them. */
const FLIPS = Number(process.env['MUSTER_LOG_FLIPS'] ?? 60);
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

/** Flips one bit of one file; every other time near the end of one, where keys and checksums lie closer together. */
async function flipOneBit(path: string, random: Random): Promise<string> {
  const files = await dataFiles(path);
  const total = files.reduce((sum, { bytes }) => sum + bytes.length, 0);
  let at = randomBetween(random, 0, total);
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

/** A reader, started again when LevelDB has ended it. */
class Reader {
  #child: ChildProcess | undefined;

  /** What it found; undefined: the process ended. */
  async ask(task: Task): Promise<Answer | undefined> {
    const child = (this.#child ??= fork(join(import.meta.dirname, 'reader.ts'), {
      execArgv: ['--import', 'tsx'],
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
  const reported = new Map<string, number>();
  const count = (by: string): void => void reported.set(by, (reported.get(by) ?? 0) + 1);
  let harmless = 0;
  const wrong: string[] = [];
  const silent: string[] = [];
  for (let flip = 0; flip < FLIPS; flip += 1) {
    const path = join(directory, `copy-${flip}`);
    await copyAsKilled(whole, path);
    const what = await flipOneBit(path, random);
    const task: Task = { path, seed, commits: COMMITS, first: ORDERS[flip % ORDERS.length] ?? 'read' };
    let answer = await reader.ask(task);
    let by = '';
    if (!answer) {
      // LevelDB ended the process: the next start must say why.
      answer = await reader.ask({ ...task, first: 'read' });
      by = 'next start after an abort: ';
    }
    if (!answer) silent.push(`${what}, ${task.first}: the process ended twice`);
    else if (answer.at === 'wrong') wrong.push(`${what}: ${answer.message}`);
    else if (answer.at === 'harmless') harmless += 1;
    else count(`${by}${answer.by}`);
    if (answer?.at === 'reported' && answer.odd) wrong.push(`${what}: not data_loss: ${answer.message}`);
    await rm(path, { recursive: true });
  }
  const told = [...reported].map(([by, times]) => `${times} by ${by}`).join(', ');
  t.diagnostic(`${FLIPS} flips over ${files.length} files: ${told}; ${harmless} harmless`);
  assert.deepEqual(wrong, []);
  assert.deepEqual(silent, []);
  assert.ok(harmless < FLIPS / 4, `${harmless} of ${FLIPS} flips were harmless: is everything read?`);
});
