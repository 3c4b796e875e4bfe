import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ManualClock } from '../../../src/kit/clock.js';
import { Wake } from '../../../src/kit/wake.js';

it('a call before the rest is not lost, one before it was armed is', async () => {
  const wake = new Wake();
  wake.arm();
  wake.call();
  await wake.rest(new AbortController().signal);
  wake.arm();
  let over = false;
  const rest = wake.rest(new AbortController().signal).then(() => {
    over = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(over, false);
  wake.call();
  await rest;
});

it('a rest ends with its signal, and after its time', async () => {
  const wake = new Wake();
  const signal = new AbortController();
  const clock = new ManualClock();
  wake.arm();
  const timed = wake.rest(signal.signal, { ms: 1000, clock });
  await clock.advance(1000);
  await timed;
  const rest = wake.rest(signal.signal);
  signal.abort();
  await rest;
});
