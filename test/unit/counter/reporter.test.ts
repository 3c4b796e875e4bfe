import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Counter, Registry } from '../../../src/counter/index.js';
import { Reporter, REPORT_INTERVAL_MS } from '../../../src/counter/reporter.js';
import { BATCH_POINTS_MAX, type Batch, type PointRefusal } from '../../../src/counter/series.js';
import { ManualClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { seededRandom } from '../../../src/kit/random.js';

type Answer = (batch: Batch, signal: AbortSignal) => Promise<readonly PointRefusal[]>;

function start(answer: Answer = () => Promise.resolve([])) {
  const clock = new ManualClock();
  const registry = new Registry();
  const batches: Batch[] = [];
  const warnings: string[] = [];
  const receiver = { answer };
  const reporter = new Reporter({
    registry,
    transport: {
      send: (batch, signal) => {
        batches.push(batch);
        return receiver.answer(batch, signal);
      },
    },
    clock,
    random: seededRandom(1),
    service: 'orders',
    warn: (message) => warnings.push(message),
  });
  return { clock, registry, batches, warnings, receiver, reporter };
}

const away: Answer = () => Promise.reject(new MusterError('unavailable', 'away'));

function values(batch: Batch | undefined): Record<string, number> {
  return Object.fromEntries((batch?.points ?? []).map(({ definition, value }) => [definition.name, value]));
}

describe('the reporter', () => {
  it('sends what has changed once a second, and nothing when nothing has', async () => {
    const { clock, registry, batches, reporter } = start();
    const a = new Counter('a', {}, registry);
    const b = new Counter('b', {}, registry);
    reporter.start();
    await clock.advance(REPORT_INTERVAL_MS);
    b.increment(2);
    await clock.advance(REPORT_INTERVAL_MS);
    await clock.advance(10 * REPORT_INTERVAL_MS);
    a.increment();
    await clock.advance(REPORT_INTERVAL_MS);
    assert.deepEqual(batches.map(values), [{ a: 0, b: 0 }, { b: 2 }, { a: 1 }]);
    assert.deepEqual(
      batches.map(({ resumed }) => resumed),
      [false, true, true],
    );
    assert.equal(new Set(batches.map(({ uid }) => uid)).size, 1);
    reporter.stop();
    await clock.advance(60_000);
    assert.equal(clock.pending, 0);
  });

  it('splits many series into batches', async () => {
    const { registry, batches, reporter } = start();
    for (let n = 0; n < 2 * BATCH_POINTS_MAX + 1; n += 1) new Counter(`c${n}`, {}, registry);
    await reporter.flush({ final: true });
    assert.deepEqual(
      batches.map(({ points, final }) => [points.length, final]),
      [
        [BATCH_POINTS_MAX, false],
        [BATCH_POINTS_MAX, false],
        [1, true],
      ],
    );
  });

  it('sends again until it is acknowledged, with growing pauses', async () => {
    const { clock, registry, batches, receiver, reporter } = start(away);
    const a = new Counter('a', {}, registry);
    a.increment();
    reporter.start();
    await clock.advance(60_000);
    const tries = batches.length;
    assert.ok(tries > 5 && tries < 60, String(tries));
    await assert.rejects(reporter.flush(), { code: 'unavailable' });
    a.increment();
    receiver.answer = () => Promise.resolve([]);
    await clock.advance(10_000);
    assert.deepEqual(values(batches.at(-1)), { a: 2 });
    reporter.stop();
  });

  it('says once what will not pass by itself', async () => {
    const { clock, registry, warnings, receiver, reporter } = start(away);
    new Counter('a', {}, registry);
    reporter.start();
    await clock.advance(20_000);
    assert.deepEqual(warnings, []);
    receiver.answer = () => Promise.reject(new MusterError('exhausted', 'too many processes'));
    await clock.advance(60_000);
    assert.deepEqual(warnings, ['too many processes']);
    reporter.stop();
  });

  it('flushes within its time or says why not', async () => {
    const hang: Answer = (_, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(signal.reason as Error);
        });
      });
    const { clock, registry, reporter } = start(hang);
    new Counter('a', {}, registry);
    const first = assert.rejects(reporter.flush({ timeoutMs: 9_000 }), { code: 'deadline' });
    // Waits behind the first, but not longer than it was told.
    const second = assert.rejects(reporter.flush({ timeoutMs: 1_000 }), { code: 'deadline', message: /1000 ms/ });
    await clock.advance(1_000);
    await second;
    await clock.advance(8_000);
    await first;
    assert.equal(clock.pending, 0);
  });

  it('flushes what was counted before the call, and is idle where there is nothing', async () => {
    const { registry, batches, reporter } = start();
    await reporter.flush();
    await reporter.flush({ final: true });
    assert.equal(batches.length, 0);
    const a = new Counter('a', {}, registry);
    a.increment(3);
    await reporter.flush();
    await reporter.flush({ final: true });
    assert.deepEqual(
      batches.map((batch) => [values(batch), batch.final]),
      [
        [{ a: 3 }, false],
        [{}, true],
      ],
    );
  });

  it('says once what is refused, and offers it again after a minute', async () => {
    const refuse: Answer = ({ points }) =>
      Promise.resolve(
        points.flatMap(({ definition: { name } }, index) =>
          name === 'b' ? [{ index, reason: 'TOO_MANY_SERIES', message: 'b is too much' } as const] : [],
        ),
      );
    const { clock, registry, batches, warnings, reporter } = start(refuse);
    new Counter('a', {}, registry);
    const b = new Counter('b', {}, registry);
    reporter.start();
    await clock.advance(30_000);
    b.increment();
    await clock.advance(20_000);
    assert.equal(batches.length, 1);
    await clock.advance(15_000);
    assert.equal(batches.length, 2);
    assert.deepEqual(warnings, ['b is too much']);
    reporter.stop();
  });

  it('goes on under a new uid from what was acknowledged, when it was forgotten', async () => {
    const { registry, batches, receiver, reporter } = start();
    const a = new Counter('a', {}, registry);
    const b = new Counter('b', {}, registry);
    a.increment(5);
    await reporter.flush();
    const known = batches[0]?.uid;
    receiver.answer = ({ uid }) =>
      uid === known
        ? Promise.reject(new MusterError('precondition', 'who?', { reason: 'PROCESS_FORGOTTEN' }))
        : Promise.resolve([]);
    a.increment(2);
    b.increment(1);
    await reporter.flush();
    assert.deepEqual(values(batches.at(-1)), { a: 2, b: 1 });
    a.increment(1);
    await reporter.flush();
    assert.deepEqual(values(batches.at(-1)), { a: 3 });
    receiver.answer = () => Promise.reject(new MusterError('precondition', 'who?', { reason: 'PROCESS_FORGOTTEN' }));
    a.increment(1);
    await assert.rejects(reporter.flush(), { reason: 'PROCESS_FORGOTTEN' });
  });
});
