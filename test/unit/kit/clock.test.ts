import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock, sleep, systemClock, withTimeout } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';

describe('ManualClock', () => {
  it('fires timers in order of due time, ties in order of asking, each at its own time', async () => {
    const clock = new ManualClock(1000);
    const fired: string[] = [];
    const note = (name: string) => () => {
      fired.push(`${name}@${clock.now()}`);
    };
    clock.after(30, note('c'));
    clock.after(10, note('a'));
    clock.after(10, note('b'));
    clock.after(31, note('late'));
    await clock.advance(30);
    assert.deepEqual(fired, ['a@1010', 'b@1010', 'c@1030']);
    assert.equal(clock.pending, 1);
    assert.equal(clock.now(), 1030);
    assert.equal(clock.monotonic(), 30);
  });

  it('fires what a timer or the promises it settles asked for, if that falls due too', async () => {
    const clock = new ManualClock();
    const beats: number[] = [];
    const beat = async (): Promise<void> => {
      for (;;) {
        await sleep(clock, 10);
        beats.push(clock.monotonic());
      }
    };
    void beat();
    await clock.advance(35);
    assert.deepEqual(beats, [10, 20, 30]);
  });

  it('lets work that is just starting set its timers before time moves', async () => {
    const clock = new ManualClock();
    let done = false;
    const work = async (): Promise<void> => {
      await Promise.resolve();
      await Promise.resolve();
      await sleep(clock, 5);
      done = true;
    };
    void work();
    await clock.advance(5);
    assert.equal(done, true);
  });

  it('does not fire a cancelled timer, and cancelling twice is harmless', async () => {
    const clock = new ManualClock();
    const timer = clock.after(1, () => assert.fail('was cancelled'));
    timer.cancel();
    timer.cancel();
    await clock.advance(10);
    assert.equal(clock.pending, 0);
  });

  it('counts a negative delay as none', async () => {
    const clock = new ManualClock();
    let fired = false;
    clock.after(-5, () => {
      fired = true;
    });
    await clock.advance(0);
    assert.equal(fired, true);
    assert.equal(clock.monotonic(), 0);
  });

  it('shifts the wall clock alone, without touching timers', async () => {
    const clock = new ManualClock(5000);
    let firedAtMs = -1;
    clock.after(100, () => {
      firedAtMs = clock.monotonic();
    });
    clock.jumpWallClock(-4000);
    assert.equal(clock.now(), 1000);
    await clock.advance(100);
    assert.equal(firedAtMs, 100);
    assert.equal(clock.now(), 1100);
  });
});

describe('systemClock', () => {
  it('tells wall-clock and monotonic time', () => {
    const before = Date.now();
    const now = systemClock.now();
    assert.ok(now >= before && now <= Date.now());
    const first = systemClock.monotonic();
    assert.ok(systemClock.monotonic() >= first);
  });

  it('fires once', async () => {
    await new Promise<void>((resolve) => {
      systemClock.after(1, resolve);
    });
  });

  it('splits delays longer than Node can wait', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const pieceMs = 2_147_483_647;
    let fired = 0;
    systemClock.after(2 * pieceMs + 1000, () => {
      fired += 1;
    });
    for (const stepMs of [pieceMs, pieceMs, 999]) t.mock.timers.tick(stepMs);
    assert.equal(fired, 0);
    t.mock.timers.tick(1);
    assert.equal(fired, 1);
  });

  it('can be cancelled in a later piece', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const timer = systemClock.after(2_147_483_647 * 2, () => assert.fail('was cancelled'));
    t.mock.timers.tick(2_147_483_647);
    timer.cancel();
    timer.cancel();
    t.mock.timers.tick(2_147_483_647);
  });

  it('counts a negative delay as none', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let fired = false;
    systemClock.after(-1, () => {
      fired = true;
    });
    t.mock.timers.tick(1);
    assert.equal(fired, true);
  });
});

describe('sleep', () => {
  it('resolves when the time has come and leaves no listener behind', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    let awake = false;
    const sleeping = sleep(clock, 10, controller.signal).then(() => {
      awake = true;
    });
    await clock.advance(9);
    assert.equal(awake, false);
    await clock.advance(1);
    await sleeping;
    controller.abort(new Error('too late to matter'));
    assert.equal(clock.pending, 0);
  });

  it('rejects with the reason of an abort, and its timer is gone', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const reason = new Error('enough');
    const sleeping = sleep(clock, 10, controller.signal);
    controller.abort(reason);
    await assert.rejects(sleeping, reason);
    assert.equal(clock.pending, 0);
  });

  it('rejects at once where the signal has already aborted', async () => {
    const clock = new ManualClock();
    await assert.rejects(sleep(clock, 10, AbortSignal.abort(new Error('before'))), /before/);
    assert.equal(clock.pending, 0);
  });
});

describe('withTimeout', () => {
  const reason = (): Error => new MusterError('deadline', 'the probe took longer than 50ms');

  it('answers with what the work does, and leaves no timer', async () => {
    const clock = new ManualClock();
    assert.equal(await withTimeout(clock, { timeoutMs: 50, reason }, () => Promise.resolve(7)), 7);
    await assert.rejects(
      withTimeout(clock, { timeoutMs: 50, reason }, () => Promise.reject(new Error('broken'))),
      /broken/,
    );
    assert.equal(clock.pending, 0);
  });

  it('aborts the work with the reason when the time is over', async () => {
    const clock = new ManualClock();
    const work = withTimeout(clock, { timeoutMs: 50, reason }, (signal) => sleep(clock, 60_000, signal));
    const rejected = assert.rejects(work, { code: 'deadline' });
    await clock.advance(50);
    await rejected;
    assert.equal(clock.pending, 0);
  });

  it("aborts the work with the parent's reason", async () => {
    const clock = new ManualClock();
    const parent = new AbortController();
    const limit = { timeoutMs: 50, reason, parent: parent.signal };
    const work = withTimeout(clock, limit, (signal) => sleep(clock, 60_000, signal));
    parent.abort(new MusterError('cancelled', 'the agent is stopping'));
    await assert.rejects(work, { code: 'cancelled' });
    assert.equal(clock.pending, 0);
  });
});
