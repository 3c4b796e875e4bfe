import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseRotated } from '../../../src/agent/logs/names.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { ANY_SEARCH, searchBench, type SearchBench } from '../../support/searching.js';
import { waitFor } from '../../support/waiting.js';
import { programArgs } from '../../support/program.js';

const SEARCH_HOST = join(import.meta.dirname, '../../support/search-host');
/** Takes a minute of processor time and more over the lines of `slowLog`. */
const SLOW = '(a|b)*a(a|b){200}(c|(a|b){200}d)';

/** Numbered lines, a few hundred at a time. */
const WRITER = `
  const [from, until] = process.argv.slice(1).map(Number);
  const { writeSync } = require('node:fs');
  for (let n = from; n < until; ) {
    let text = '';
    for (let i = 0; i < 300 && n < until; i++, n++) text += n + ' ' + 'x'.repeat((n * 7919) % 190) + '\\n';
    writeSync(1, text);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4);
  }
`;

function write({ root }: SearchBench, until: number): ChildProcess {
  const fd = openSync(join(root, 'app.log'), 'a');
  const child = spawn(process.execPath, ['-e', WRITER, '0', String(until)], { stdio: ['ignore', fd, 'inherit'] });
  closeSync(fd);
  return child;
}

async function slowLog(b: SearchBench): Promise<void> {
  let state = 1;
  const bit = (): string => ((state = (state * 48_271) % 2_147_483_647) & 8192 ? 'a' : 'b');
  const line = `${Array.from({ length: 20_000 }, bit).join('')}\n`;
  await b.write('app.log', line.repeat(2000));
}

/** The last number of the last whole line in the file. */
function newestNumber({ root }: SearchBench): number {
  const lines = readFileSync(join(root, 'app.log'), 'utf8').trimEnd().split('\n');
  return Number(/^(\d+) /.exec(lines.at(-2) ?? '')?.[1] ?? -1);
}

/** Processes that have this text among their arguments. */
function processesWith(text: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
      } catch {
        return false;
      }
    });
}

/** Searches for every line, taking batches as slowly as told. Fails where the lines are not 0, 1, 2, ... to the last one there was. */
async function searchAll(b: SearchBench, pauseMs: number): Promise<number> {
  const least = newestNumber(b);
  const running = await b.logs.search('app', { ...ANY_SEARCH, pattern: ' ', linesMax: 100_000 });
  let wanted = 0;
  for await (const batch of running.hits(new AbortController().signal)) {
    for (const { text, file, line } of batch) {
      const number = Number(/^(\d+) /.exec(text)?.[1]);
      assert.equal(number, wanted, `${file}:${line} after ${wanted} lines`);
      wanted += 1;
    }
    if (pauseMs > 0) await sleep(systemClock, pauseMs);
  }
  const { limits, problems } = running.report();
  assert.deepEqual([limits, problems], [[], []]);
  assert.ok(wanted > least, `${wanted} lines, ${least} were there before`);
  return wanted;
}

async function rotatedCount({ root }: SearchBench): Promise<number> {
  return (await readdir(root)).filter((name) => parseRotated(name)).length;
}

describe('a search while the log is written and rotated', () => {
  for (const [pace, pauseMs] of [
    ['fast', 0],
    ['slow', 5],
  ] as const) {
    it(`finds each line once, read ${pace}`, { timeout: 240_000 }, async (t) => {
      const b = await searchBench(t, { logs: { files: [], maxSizeBytes: 256 * 1024, keep: 1000, maxAgeMs: 1e12 } });
      const until = 90_000;
      const writer = write(b, until);
      t.after(() => writer.kill('SIGKILL'));
      const stop = new AbortController();
      const rotating = (async () => {
        while (!stop.signal.aborted) {
          await b.logs.check();
          await new Promise((done) => setImmediate(done));
        }
      })();
      try {
        await waitFor('some rotations', async () => (await rotatedCount(b)) >= 2);
        let searches = 0;
        do {
          await searchAll(b, pauseMs);
          searches += 1;
        } while (writer.exitCode === null);
        assert.equal(await searchAll(b, 0), until);
        t.diagnostic(`${searches} searches, ${await rotatedCount(b)} rotations`);
      } finally {
        stop.abort();
        await rotating;
      }
    });
  }
});

describe('a search that costs too much', () => {
  it('never holds up the agent', async (t) => {
    const b = await searchBench(t);
    await slowLog(b);
    let ticks = 0;
    let worstMs = 0;
    let lastMs = performance.now();
    const timer = setInterval(() => {
      const nowMs = performance.now();
      worstMs = Math.max(worstMs, nowMs - lastMs);
      lastMs = nowMs;
      ticks += 1;
    }, 20);
    const { report } = await b.find({ pattern: SLOW, regex: true, cpuMs: 2000 });
    clearInterval(timer);
    t.diagnostic(`${ticks} ticks, the longest gap ${worstMs.toFixed(0)} ms`);
    assert.deepEqual(report.limits, ['CPU']);
    assert.ok(ticks >= 20, `${ticks} ticks`);
  });

  it('leaves no process behind when it is cancelled, nor when the agent is killed', async (t) => {
    const b = await searchBench(t);
    await slowLog(b);
    const pattern = `${SLOW}|never${process.pid}`;
    const stop = new AbortController();
    const found = b.find({ pattern, regex: true }, stop.signal);
    await waitFor('grep to run', () => processesWith(pattern).length > 0);
    stop.abort();
    assert.deepEqual((await found).report.limits, ['CANCELLED']);
    await waitFor('grep to be gone', () => processesWith(pattern).length === 0);

    const data = join(b.root, '../..');
    const host = spawn(process.execPath, programArgs(SEARCH_HOST, data, pattern), { stdio: 'inherit' });
    await waitFor('grep to run', () =>
      processesWith(pattern).some((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'grep'),
    );
    host.kill('SIGKILL');
    await waitFor('grep to be gone', () => processesWith(pattern).length === 0);
  });

  it('is not begun with more of a file than was there', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', 'x 1\nx 2\n');
    const running = await b.logs.search('app', ANY_SEARCH);
    const texts: string[] = [];
    for await (const batch of running.hits(new AbortController().signal)) {
      if (texts.length === 0) await writeFile(join(b.root, 'app.log'), 'x 3\n', { flag: 'a' });
      texts.push(...batch.map(({ text }) => text));
    }
    assert.deepEqual(texts, ['x 1', 'x 2']);
  });
});
