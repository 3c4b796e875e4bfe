import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RateWindow } from '../../../src/counter/rate.js';

describe('rates over the last minute', () => {
  it('are unknown before two samples', () => {
    const window = new RateWindow();
    assert.equal(window.perSecond(0, 0), undefined);
    window.note(0, [5]);
    assert.equal(window.perSecond(1000, 0), undefined);
  });

  it('follow steady growth, with samples every second', () => {
    const window = new RateWindow();
    for (let second = 0; second <= 300; second += 1) window.note(second * 1000, [second * 7]);
    assert.equal(Math.round((window.perSecond(300_000, 0) ?? 0) * 10) / 10, 7);
  });

  it('fall to zero when nothing grows', () => {
    const window = new RateWindow();
    window.note(0, [0]);
    window.note(10_000, [600]);
    assert.equal(window.perSecond(60_000, 0), 10);
    assert.equal(window.perSecond(65_000, 0), 10);
    assert.equal(window.perSecond(70_000, 0), 0);
    assert.equal(window.perSecond(700_000, 0), 0);
  });

  it('know a place from when it was first seen', () => {
    const window = new RateWindow();
    window.note(0, [0]);
    window.note(10_000, [10, 100]);
    assert.equal(window.perSecond(10_000, 1), undefined);
    window.note(20_000, [20, 150]);
    assert.equal(window.perSecond(20_000, 1), 5);
    assert.equal(window.perSecond(20_000, 0), 1);
  });
});
