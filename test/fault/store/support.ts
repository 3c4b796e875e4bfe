import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { freshSeed } from '../../../src/kit/random.js';
import { acknowledge, type Acknowledgements } from './workload.js';
import { programArgs } from '../../support/program.js';

const WRITER = join(import.meta.dirname, 'writer');

export async function temporaryDirectory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'muster-fault-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** The seed of this run: printed, and taken from MUSTER_SEED to replay a failure. */
export function seedOf(t: TestContext): number {
  const seed = Number(process.env['MUSTER_SEED'] ?? freshSeed());
  t.diagnostic(`MUSTER_SEED=${seed}`);
  return seed;
}

/** Mounts a tmpfs of 3 MiB; undefined, and the test skipped, where that is not allowed. */
export async function smallDisk(t: TestContext): Promise<string | undefined> {
  const disk = await mkdtemp(join(tmpdir(), 'muster-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]).status === 0;
  t.after(async () => {
    if (mounted) spawnSync('umount', ['-l', disk]);
    await rm(disk, { recursive: true });
  });
  if (mounted) return disk;
  t.skip('needs root, to mount a small tmpfs');
  return undefined;
}

export function has(program: string): boolean {
  return spawnSync(program, ['-V'], { stdio: 'ignore' }).error === undefined;
}

/** Copies a data directory as a killed process leaves it: without the locks it held. */
export async function copyAsKilled(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, filter: (source) => !['LOCK', 'lock'].includes(basename(source)) });
}

/** A writer process and what it said. */
export interface Writer {
  readonly child: ChildProcess;
  readonly acknowledged: Acknowledgements;
  /** Acknowledgements so far. */
  count(): number;
  /** Resolves at `count` acknowledgements, or when the process ends. */
  reached(count: number): Promise<void>;
  /** Resolves with the last line that is no acknowledgement, when the process has ended. */
  readonly ended: Promise<string>;
}

export interface WriterOptions {
  readonly path: string;
  readonly seed: number;
  readonly batches: number;
  /** A program to run it under, with its arguments. */
  readonly under?: readonly string[];
  /** What writes; default: writer.ts, which writes to a store. */
  readonly program?: string;
  /** More arguments of the writer. */
  readonly more?: readonly string[];
}

export function startWriter({ under = [], program = WRITER, more = [], ...writer }: WriterOptions): Writer {
  const { path, seed, batches } = writer;
  const argv = [...under, process.execPath, ...programArgs(program, path, String(seed), String(batches), ...more)];
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
  const acknowledged: Acknowledgements = new Map();
  let count = 0;
  let last = '';
  let waiting: { count: number; resolve: () => void }[] = [];
  const wake = (reached: number): void => {
    for (const waiter of waiting) if (waiter.count <= reached) waiter.resolve();
    waiting = waiting.filter((waiter) => waiter.count > reached);
  };
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    const [word, lane, n] = line.split(' ');
    if (word !== 'ack') {
      last = line;
      return;
    }
    acknowledge(acknowledged, Number(lane), Number(n));
    count += 1;
    wake(count);
  });
  const ended = new Promise<string>((resolve) => {
    // Emitted once the process is gone and its output is read to the end.
    child.on('close', () => {
      wake(Infinity);
      resolve(last);
    });
  });
  return {
    child,
    acknowledged,
    count: () => count,
    reached: (wanted) =>
      new Promise((resolve) => {
        waiting.push({ count: wanted, resolve });
        wake(count);
      }),
    ended,
  };
}
