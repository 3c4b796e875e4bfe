import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Answer, Probe } from '../../../../src/agent/probes/answer.js';
import { PolledCheck, type PolledCheckSpec } from '../../../../src/agent/probes/polled-check.js';
import { Slots } from '../../../../src/kit/slots.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { seededRandom } from '../../../../src/kit/random.js';

const PASS: Answer = { verdict: 'pass', output: 'fine' };
const FAIL: Answer = { verdict: 'fail', output: 'down' };

/** A service older than its start-up time: only regular checks. */
const LONG_AGO_MS = 0;

class Bench {
  readonly clock = new ManualClock();
  readonly slots = new Slots(2);
  readonly results: { atMs: number; health: string; output: string }[] = [];
  readonly askedMs: number[] = [];
  running = 0;
  overlaps = 0;

  start(
    probe: Probe,
    spec: Partial<PolledCheckSpec> = {},
    parts: { startedMs?: number; seed?: number } = {},
  ): PolledCheck {
    const check: PolledCheck = new PolledCheck(
      {
        name: 'ping',
        kind: 'http',
        everyMs: 10_000,
        timeoutMs: 2000,
        thresholds: { failures: 3, successes: 1 },
        ...spec,
        probe: this.#watched(probe),
      },
      {
        clock: this.clock,
        random: seededRandom(parts.seed ?? 1),
        slots: this.slots,
        startedMs: parts.startedMs ?? LONG_AGO_MS,
        onResult: () => {
          const { health, output } = check.result;
          this.results.push({ atMs: this.clock.monotonic(), health, output });
        },
      },
    );
    return check;
  }

  #watched(probe: Probe): Probe {
    return async (signal) => {
      this.askedMs.push(this.clock.monotonic());
      this.running += 1;
      if (this.running > 1) this.overlaps += 1;
      try {
        return await probe(signal);
      } finally {
        this.running -= 1;
      }
    };
  }
}

/** Never answers, but ends when told to. */
const hanging: Probe = (signal) =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => {
      reject(signal.reason as Error);
    });
  });

describe('the pace of a check', () => {
  it('is UNKNOWN until the first result, which comes within a second', async () => {
    const bench = new Bench();
    const check = bench.start(() => Promise.resolve(PASS));
    assert.deepEqual(
      { health: check.result.health, lastRunMs: check.result.lastRunMs, sinceMs: check.result.sinceMs },
      { health: 'UNKNOWN', lastRunMs: undefined, sinceMs: bench.clock.now() },
    );
    await bench.clock.advance(1000);
    assert.equal(check.result.health, 'PASSING');
    assert.equal(bench.results.length, 1);
    check.stop();
    assert.equal(bench.clock.pending, 0);
  });

  it('then comes at its interval, with another phase for another seed', async () => {
    const phases = new Set<number>();
    for (const seed of [1, 2, 3, 4, 5]) {
      const bench = new Bench();
      const check = bench.start(() => Promise.resolve(PASS), {}, { seed });
      await bench.clock.advance(60_000);
      const [first = 0, second = 0, third = 0, fourth = 0] = bench.askedMs;
      assert.ok(second - first >= 5000 && second - first <= 10_000, `second after ${second - first} ms`);
      assert.equal(third - second, 10_000);
      assert.equal(fourth - third, 10_000);
      phases.add(Math.floor(third));
      check.stop();
    }
    assert.ok(phases.size >= 4, `${phases.size} phases of 5`);
  });

  it('never overlaps itself, and ends what runs out of time', async () => {
    const bench = new Bench();
    const check = bench.start(hanging, { everyMs: 1000, timeoutMs: 2500 });
    await bench.clock.advance(20_000);
    assert.equal(bench.overlaps, 0);
    assert.equal(check.result.health, 'CRITICAL');
    assert.match(check.result.output, /^no answer within 2s$|^no answer within 2500ms$/);
    assert.equal(check.result.tookMs, 2500);
    assert.ok(bench.askedMs.length >= 6, `${bench.askedMs.length} runs`);
    check.stop();
    await bench.clock.advance(1000);
    assert.equal(bench.running, 0);
    assert.equal(bench.clock.pending, 0);
  });

  it('goes on failing while a run cannot be ended, without starting another', async () => {
    const bench = new Bench();
    const check = bench.start(() => new Promise(() => undefined));
    await bench.clock.advance(60_000);
    assert.equal(bench.askedMs.length, 1);
    assert.equal(check.result.health, 'CRITICAL');
    assert.match(check.result.output, /cannot be ended/);
    check.stop();
  });

  it('waits for a slot, and its time begins only then', async () => {
    const bench = new Bench();
    const giveBack = await Promise.all([bench.slots.take(), bench.slots.take()]);
    const check = bench.start(() => Promise.resolve(PASS));
    await bench.clock.advance(30_000);
    assert.equal(bench.askedMs.length, 0);
    assert.equal(check.result.health, 'UNKNOWN');
    giveBack[0]();
    await bench.clock.advance(0);
    assert.equal(check.result.health, 'PASSING');
    check.stop();
  });

  it('tells nothing after stop, even of a run under way, and frees its slot', async () => {
    const bench = new Bench();
    const check = bench.start(hanging);
    await bench.clock.advance(1000);
    assert.equal(bench.running, 1);
    check.stop();
    await bench.clock.advance(60_000);
    assert.equal(bench.running, 0);
    assert.deepEqual(bench.results, []);
    const both = await Promise.all([bench.slots.take(), bench.slots.take()]);
    assert.equal(both.length, 2);
  });

  it('a stop while it waits for a slot gives the slot on', async () => {
    const bench = new Bench();
    const held = await Promise.all([bench.slots.take(), bench.slots.take()]);
    const check = bench.start(() => Promise.resolve(PASS));
    await bench.clock.advance(1000);
    check.stop();
    held[0]();
    held[1]();
    await Promise.all([bench.slots.take(), bench.slots.take()]);
    assert.equal(bench.askedMs.length, 0);
  });

  it('counts what a probe throws as a failure', async () => {
    const bench = new Bench();
    const check = bench.start(() => Promise.reject(new Error('broken probe')), {
      thresholds: { failures: 1, successes: 1 },
    });
    await bench.clock.advance(1000);
    assert.equal(check.result.health, 'CRITICAL');
    assert.equal(check.result.output, 'broken probe');
    check.stop();
  });
});

describe('a check of a service that has just started', () => {
  it('sees soon that it is well, while failures count at the pace asked for', async () => {
    const bench = new Bench();
    let up = false;
    const check = bench.start(() => Promise.resolve(up ? PASS : FAIL), {}, { startedMs: bench.clock.now() });
    await bench.clock.advance(4000);
    assert.equal(check.result.health, 'WARNING');
    assert.equal(check.result.streak, 1, 'only the regular check has counted');
    assert.ok(bench.askedMs.length >= 4, `${bench.askedMs.length} runs`);
    up = true;
    await bench.clock.advance(1000);
    assert.equal(check.result.health, 'PASSING');
    const asked = bench.askedMs.length;
    await bench.clock.advance(4000);
    assert.ok(bench.askedMs.length <= asked + 1, 'back to the regular pace');
    check.stop();
  });

  it('is CRITICAL after as many regular checks as asked for, also where each runs out of time', async () => {
    const bench = new Bench();
    const check = bench.start(hanging, {}, { startedMs: bench.clock.now() });
    await bench.clock.advance(35_000);
    assert.equal(check.result.health, 'CRITICAL');
    assert.equal(bench.overlaps, 0);
    const regular = bench.results.length;
    assert.ok(regular >= 3 && regular <= 5, `${regular} results`);
    check.stop();
  });
});
