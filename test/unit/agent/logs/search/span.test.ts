import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { seededRandom } from '../../../../../src/kit/random.js';
import type { LogHit } from '../../../../../src/model/log-search.js';
import { searchBench, type SearchBench } from '../../../../support/searching.js';

const NOON = Date.UTC(2026, 5, 23, 12);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

interface Written {
  readonly ms: number;
  readonly text: string;
}

const stamp = (ms: number): string => new Date(ms).toISOString();

/** Lines of `hours` hours, one each `everyMs` or so, some of them followed by lines without a time. */
function written(fromMs: number, untilMs: number, everyMs: number, seed: number): Written[] {
  const random = seededRandom(seed);
  const lines: Written[] = [];
  let count = 0;
  for (let ms = fromMs; ms < untilMs; ms += Math.ceil(random.next() * 2 * everyMs)) {
    // A little out of order, as with several writers.
    const at = Math.max(fromMs, ms - Math.floor(random.next() * 5000));
    lines.push({ ms: at, text: `${stamp(at)} x ${count++} ${'.'.repeat(Math.floor(random.next() * 200))}` });
    if (random.next() < 0.2)
      lines.push({ ms: at, text: `    x at ${count++} in a stack` }, { ms: at, text: `\tno hit` });
  }
  return lines;
}

const text = (lines: readonly Written[]): string => lines.map((line) => `${line.text}\n`).join('');

/** Six hours of a log over two compressed files, a plain one and the live one. */
async function sixHours(b: SearchBench, seed: number): Promise<Written[]> {
  const all: Written[] = [];
  for (const [index, name] of ['app.log.000001', 'app.log.000002', 'app.log.000003', 'app.log'].entries()) {
    const fromMs = NOON + index * 1.5 * HOUR;
    const lines = written(fromMs, fromMs + 1.5 * HOUR, 4000, seed + index);
    const path = join(b.root, name);
    await b.write(name, text(lines), fromMs + 1.5 * HOUR);
    if (index < 2) {
      execFileSync('gzip', [path]);
      const at = (fromMs + 1.5 * HOUR) / 1000;
      await utimes(`${path}.gz`, at, at);
    }
    all.push(...lines);
  }
  return all;
}

const expected = (all: readonly Written[], sinceMs = -Infinity, untilMs = Infinity): string[] =>
  all.filter((line) => line.ms >= sinceMs && line.ms < untilMs && line.text.includes('x')).map((line) => line.text);

describe('a span of time', () => {
  it('shows every line of it and no other, wherever it begins and ends', async (t) => {
    const seed = Number(process.env['SEED'] ?? 1);
    t.diagnostic(`SEED=${seed}`);
    const b = await searchBench(t);
    const all = await sixHours(b, seed);
    const random = seededRandom(seed);
    for (let round = 0; round < 8; round += 1) {
      const sinceMs = round % 4 === 0 ? undefined : NOON - HOUR + Math.floor(random.next() * 7 * HOUR);
      const lengthMs = Math.floor(random.next() * (round % 2 === 0 ? 5 * HOUR : 10 * MINUTE)) + 1;
      const untilMs = round % 3 === 0 ? undefined : (sinceMs ?? NOON) + lengthMs;
      const { hits, report } = await b.find({ sinceMs, untilMs, linesMax: 100_000 });
      const label = `round ${round}: ${stamp(sinceMs ?? 0)} to ${stamp(untilMs ?? 0)}`;
      assert.deepEqual(
        hits.map((hit) => hit.text),
        expected(all, sinceMs, untilMs),
        label,
      );
      assert.deepEqual(report.limits, [], label);
    }
  });

  it('counts lines as in the whole file', async (t) => {
    const b = await searchBench(t);
    const all = await sixHours(b, 7);
    const plain = await b.find({ linesMax: 100_000 });
    const part = await b.find({ sinceMs: NOON + 5.9 * HOUR, linesMax: 100_000 });
    assert.ok(part.hits.length > 10 && part.hits.length < plain.hits.length);
    const place = ({ line, text: shown }: LogHit): string => `${line}:${shown}`;
    assert.deepEqual(part.hits.map(place), plain.hits.slice(-part.hits.length).map(place));
    assert.ok(part.report.bytes < text(all).length / 2);
  });

  it('leaves out files that are wholly outside, and counts them as neither', async (t) => {
    const b = await searchBench(t);
    await sixHours(b, 3);
    const { report } = await b.find({ sinceMs: NOON + 5.9 * HOUR });
    assert.deepEqual([report.files, report.filesTotal], [1, 1]);
    const early = await b.find({ untilMs: NOON + MINUTE });
    assert.deepEqual([early.report.files, early.report.filesTotal], [1, 1]);
    assert.ok((early.report.lastMs ?? 0) < NOON + MINUTE);
  });

  it('takes in no line around a hit that was written outside', async (t) => {
    const b = await searchBench(t);
    await b.write(
      'app.log',
      [`${stamp(NOON - 1)} before`, `${stamp(NOON)} x`, '  more of it', `${stamp(NOON + 5)} after`].join('\n'),
    );
    const { hits } = await b.find({ sinceMs: NOON, untilMs: NOON + 5, before: 2, after: 2 });
    assert.deepEqual(
      hits.map(({ text: shown }) => shown),
      [`${stamp(NOON)} x`, '  more of it'],
    );
  });

  it('searches a file without times whole, and says so', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', 'x one\nx two\n');
    const { hits, report } = await b.find({ sinceMs: Date.now() - HOUR });
    assert.equal(hits.length, 2);
    assert.match(
      report.problems.join(),
      /no line of app\.log carries a time that is understood: all of it was searched/,
    );
    assert.deepEqual(report.limits, []);
    assert.deepEqual((await b.find({ sinceMs: Date.now() + HOUR })).report.filesTotal, 0);
  });

  it('chooses line by line where a file is not in the order of its times, and says so', async (t) => {
    const b = await searchBench(t);
    const lines = Array.from({ length: 20_000 }, (_, index) => ({ ms: NOON + ((index * 7919) % 20_000) * 10_000 }));
    await b.write('app.log', lines.map(({ ms }) => `${stamp(ms)} x\n`).join(''));
    const span = { sinceMs: NOON + 20 * HOUR, untilMs: NOON + 21 * HOUR };
    const { hits, report } = await b.find({ ...span, linesMax: 100_000 });
    assert.equal(hits.length, lines.filter(({ ms }) => ms >= span.sinceMs && ms < span.untilMs).length);
    assert.match(report.problems.join(), /not in the order of their times/);
  });
});
