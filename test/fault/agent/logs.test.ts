import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createReadStream, openSync, closeSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { createGunzip } from 'node:zlib';
import { Journal, type RotationEntry } from '../../../src/agent/logs/journal.js';
import type { LoggedService } from '../../../src/agent/logs/files.js';
import { Logs } from '../../../src/agent/logs/logs.js';
import { isMark, parseRotated } from '../../../src/agent/logs/names.js';
import { systemClock } from '../../../src/kit/clock.js';
import { createLogger } from '../../../src/kit/logger.js';
import { freshSeed, seededRandom } from '../../../src/kit/random.js';
import { openDirectory } from '../../support/supervised.js';
import { waitFor } from '../../support/waiting.js';
import { programArgs } from '../../support/program.js';

const LOGS_HOST = join(import.meta.dirname, '../../support/logs-host');
const MIB = 1024 * 1024;

/** Writes numbered lines of varying length, 5 MB/s and more, to its standard output, until it has written enough. */
const WRITER = `
  const [from, until] = process.argv.slice(1).map(Number);
  const { writeSync } = require('node:fs');
  for (let n = from; n < until; ) {
    let text = '';
    for (let i = 0; i < 200 && n < until; i++, n++) text += n + ' ' + 'x'.repeat((n * 7919) % 190) + '\\n';
    writeSync(1, text);
    if (process.env.PACE) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(process.env.PACE));
  }
`;

interface Bench {
  readonly data: string;
  readonly root: string;
  readonly logged: LoggedService;
}

async function bench(t: TestContext, maxSizeBytes: number, end?: () => Promise<void>): Promise<Bench> {
  const data = await openDirectory(t, end);
  const root = join(data, 'logs', 'loud');
  await mkdir(root, { recursive: true });
  const logs = { files: ['*.log'], maxSizeBytes, keep: 1000, maxAgeMs: 1e12 };
  return { data, root, logged: { service: 'loud', root, logs } };
}

function openLogs({ data, logged }: Bench, more: { collapse?: boolean } = {}): Logs {
  const logger = createLogger('silent');
  return new Logs({ dataDirectory: data, services: () => [logged], clock: systemClock, logger, ...more });
}

function write({ root }: Bench, from: number, until: number, paceMs = 0): ChildProcess {
  const fd = openSync(join(root, 'loud.log'), 'a');
  const env = { ...process.env, PACE: paceMs === 0 ? '' : String(paceMs) };
  const child = spawn(process.execPath, ['-e', WRITER, String(from), String(until)], {
    stdio: ['ignore', fd, 'inherit'],
    env,
  });
  closeSync(fd);
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  await waitFor('the writer to end', () => child.exitCode !== null || child.signalCode !== null, 120_000);
  assert.equal(child.exitCode, 0);
}

/** Every line in order: of the rotated files, then of the live one, without marks. */
async function* allLines(root: string): AsyncGenerator<string> {
  const rotated = (await readdir(root)).flatMap((name) => parseRotated(name) ?? []).sort((a, b) => a.number - b.number);
  for (const { name } of [...rotated, { name: 'loud.log' }]) {
    const file = createReadStream(join(root, name));
    const input = name.endsWith('.gz') ? file.pipe(createGunzip()) : file;
    for await (const line of createInterface({ input })) if (!isMark(line)) yield line;
  }
}

async function checkLines(root: string, until: number): Promise<void> {
  let wanted = 0;
  for await (const line of allLines(root)) {
    const text = `${wanted} ${'x'.repeat((wanted * 7919) % 190)}`;
    assert.equal(line, text, `line ${wanted}`);
    wanted += 1;
  }
  assert.equal(wanted, until, 'lines in all');
}

async function rotatedCount(root: string): Promise<number> {
  return (await readdir(root)).filter((name) => parseRotated(name)).length;
}

describe('log rotation', () => {
  it('loses and repeats no line of a fast writer, nor of the next writer, and compresses older files', async (t) => {
    const b = await bench(t, 2 * MIB);
    const logs = openLogs(b);
    const until = 300_000;
    for (const [from, to] of [
      [0, 150_000],
      [150_000, until],
    ] as const) {
      const writer = write(b, from, to, 3);
      while (writer.exitCode === null) {
        await logs.check();
        await new Promise((done) => setImmediate(done));
      }
      await ended(writer);
    }
    await logs.check();
    await checkLines(b.root, until);
    const names = (await readdir(b.root)).flatMap((name) => parseRotated(name) ?? []);
    assert.ok(names.length >= 5, `${names.length} rotations`);
    assert.equal(names.filter((name) => !name.compressed).length, 1, 'all but the newest are compressed');
  });

  it('an agent killed at any moment of it neither loses nor repeats a line', { timeout: 250_000 }, async (t) => {
    const seed = freshSeed();
    t.diagnostic(`seed ${seed}`);
    const random = seededRandom(seed);
    const children: ChildProcess[] = [];
    const b = await bench(t, MIB, () => {
      for (const child of children) child.kill('SIGKILL');
      return Promise.resolve();
    });
    const until = 500_000;
    const writer = write(b, 0, until, 5);
    children.push(writer);
    let kills = 0;
    while (writer.exitCode === null) {
      const host = spawn(process.execPath, programArgs(LOGS_HOST, b.data, String(MIB)), {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(host);
      const before = await rotatedCount(b.root);
      await waitFor(
        'the host to rotate',
        async () => writer.exitCode !== null || (await rotatedCount(b.root)) > before || host.exitCode !== null,
      );
      await new Promise((done) => setTimeout(done, random.next() * 60));
      host.kill('SIGKILL');
      await waitFor('the host to end', () => host.signalCode !== null || host.exitCode !== null);
      kills += 1;
    }
    await ended(writer);
    t.diagnostic(`${kills} kills`);
    const logs = openLogs(b);
    const stop = new AbortController();
    const running = logs.run(stop.signal);
    // tail waits for the recovery.
    for await (const { text } of logs.tail('loud', { lines: 1, follow: false }, stop.signal)) {
      assert.match(text, new RegExp(`^${until - 1} `));
    }
    stop.abort();
    await running;
    assert.deepEqual(await new Journal(join(b.data, 'logs', '.rotation')).load(), { entries: [], unreadable: [] });
    await checkLines(b.root, until);
  });

  it('gives several files for one that grew while no agent ran', async (t) => {
    const b = await bench(t, 256 * 1024);
    await ended(write(b, 0, 50_000));
    await openLogs(b).check();
    assert.ok((await rotatedCount(b.root)) >= 8);
    await checkLines(b.root, 50_000);
  });

  it('copies and truncates where it must, says so once, and keeps what is not being written at that moment', async (t) => {
    const b = await bench(t, MIB);
    const said: string[] = [];
    const logger = createLogger('warn', { write: (line) => void said.push(line) });
    const logs = new Logs({
      dataDirectory: b.data,
      services: () => [b.logged],
      clock: systemClock,
      logger,
      collapse: false,
    });
    for (const [from, to] of [
      [0, 30_000],
      [30_000, 60_000],
      [60_000, 61_000],
    ] as const) {
      await ended(write(b, from, to));
      await logs.check();
    }
    assert.equal(await rotatedCount(b.root), 2);
    await checkLines(b.root, 61_000);
    assert.equal(said.filter((line) => line.includes('cannot shorten a file from the front')).length, 1);
  });

  it('undoes a rotation whose copy was not finished, and finishes one whose copy was', async (t) => {
    for (const [step, files] of [
      ['copy', 0],
      ['cut', 1],
    ] as const) {
      const b = await bench(t, 2 * MIB);
      await ended(write(b, 0, 30_000));
      const logs = openLogs(b);
      const journal = new Journal(join(b.data, 'logs', '.rotation'));
      await journal.load();
      const caught: RotationEntry[] = [];
      const writing = journal.write.bind(journal);
      t.mock.method(Journal.prototype, 'write', async (entry: RotationEntry) => {
        await writing(entry);
        caught.push(entry);
        if (entry.step === step) throw new Error('killed here');
      });
      await logs.check();
      t.mock.restoreAll();
      assert.equal(caught.at(-1)?.step, step);
      const stop = new AbortController();
      const next = openLogs({ ...b, logged: { ...b.logged, logs: { ...b.logged.logs, maxSizeBytes: 1e9 } } });
      const running = next.run(stop.signal);
      for await (const line of next.tail('loud', { lines: 1, follow: false }, stop.signal))
        assert.match(line.text, /^29999 /);
      stop.abort();
      await running;
      assert.equal(await rotatedCount(b.root), files);
      await checkLines(b.root, 30_000);
    }
  });
});

describe('tail', () => {
  it('follows a fast writer through rotations without a gap or a repeat', async (t) => {
    const b = await bench(t, MIB);
    const logs = openLogs(b);
    const stop = new AbortController();
    t.after(() => {
      stop.abort();
    });
    await ended(write(b, 0, 100));
    const until = 200_000;
    let wanted = 90;
    const reading = (async () => {
      for await (const { text, notice } of logs.tail('loud', { lines: 10, follow: true }, stop.signal)) {
        assert.equal(notice, false, text);
        assert.equal(Number(text.split(' ')[0]), wanted);
        wanted += 1;
        if (wanted === until) break;
      }
    })();
    const running = logs.run(stop.signal);
    await waitFor('the first lines', () => wanted === 100);
    const writer = write(b, 100, until, 2);
    while (writer.exitCode === null) {
      await logs.check();
      await new Promise((done) => setImmediate(done));
    }
    await ended(writer);
    await reading;
    stop.abort();
    await running;
    assert.ok((await rotatedCount(b.root)) >= 3);
  });
});
