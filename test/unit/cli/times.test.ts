import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sinceOf, timeArgument, untilOf } from '../../../src/cli/times.js';

/** A local time on 23 November 2026, or that day of the month. */
const at = (hours: number, minutes = 0, day = 23): number => new Date(2026, 10, day, hours, minutes).getTime();
const NOW = at(15);
const since = (text: string): number => sinceOf(timeArgument(text), NOW);

describe('a time as it is typed', () => {
  it('is how long ago, a time of day, a day, or a time with or without a zone', () => {
    assert.equal(since('2h'), at(13));
    assert.equal(since('1h30m'), at(13, 30));
    assert.equal(since('14:02'), at(14, 2));
    assert.equal(since('9:05:07'), at(9, 5) + 7000);
    assert.equal(since('2026-11-20'), at(0, 0, 20));
    assert.equal(since('2026-11-20 14:02'), at(14, 2, 20));
    assert.equal(since('2026-11-20T14:02'), at(14, 2, 20));
    assert.equal(since('2026-11-20T14:02:03.5Z'), Date.UTC(2026, 10, 20, 14, 2, 3, 500));
    assert.equal(since('2026-11-20T14:02+02:00'), Date.UTC(2026, 10, 20, 12, 2));
  });

  it('is the last such time of day, and for the end of a span the first one after its begin', () => {
    assert.equal(since('16:00'), at(16, 0, 22), 'today it has not been 16:00 yet');
    const until = (text: string, sinceMs?: number): number => untilOf(timeArgument(text), NOW, sinceMs);
    assert.equal(until('14:00'), at(14));
    assert.equal(until('02:00', since('22:00')), at(2), 'over midnight');
    assert.equal(until('23:00', since('22:00')), at(23, 0, 22));
    assert.equal(until('16:00', since('14:00')), at(16), 'a time to come');
    assert.equal(until('1h', since('2h')), at(14));
  });

  it('says how to write it', () => {
    for (const text of ['yesterday', '25:00', '14:60', '2026-02-31', '2026-11-23T14', '14.02', '', '-2h']) {
      assert.throws(() => timeArgument(text), /such as 2h or 30m, a time of day, such as 14:02/, text);
    }
  });
});
