import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../src/kit/clock.js';
import { RateMeter } from '../../../src/queue/rate.js';

function assertBetween(value: number, low: number, high: number): void {
  assert.ok(value > low && value < high, `${value} is not between ${low} and ${high}`);
}

describe('a rate', () => {
  /** Adds `perSecond` for so long, looking every second. */
  async function run(
    clock: ManualClock,
    meter: RateMeter,
    { perSecond, seconds }: { perSecond: number; seconds: number },
  ): Promise<void> {
    for (let second = 0; second < seconds; second += 1) {
      meter.add(perSecond);
      await clock.advance(1000);
      assert.ok(meter.perSecond >= 0);
    }
  }

  it('comes near what is added, and fades when nothing is', async () => {
    const clock = new ManualClock();
    const meter = new RateMeter(clock);
    assert.equal(meter.perSecond, 0);
    await run(clock, meter, { perSecond: 500, seconds: 60 });
    assertBetween(meter.perSecond, 495, 505);
    await run(clock, meter, { perSecond: 0, seconds: 60 });
    assertBetween(meter.perSecond, 0, 5);
  });

  it('does not depend on how often one looks', async () => {
    const clock = new ManualClock();
    const [often, once] = [new RateMeter(clock), new RateMeter(clock)];
    for (let second = 0; second < 10; second += 1) {
      for (const meter of [often, once]) meter.add(100);
      await clock.advance(1000);
      assert.ok(often.perSecond > 0);
    }
    assert.ok(Math.abs(often.perSecond - once.perSecond) < 1e-9);
  });

  it('is not reckoned anew for a tenth of a second, and loses nothing', async () => {
    const clock = new ManualClock();
    const meter = new RateMeter(clock);
    meter.add(1000);
    await clock.advance(99);
    assert.equal(meter.perSecond, 0);
    await clock.advance(9901);
    assertBetween(meter.perSecond, 60, 70);
  });
});
