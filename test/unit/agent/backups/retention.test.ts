import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BAD_KEPT, expired, type Keepable } from '../../../../src/agent/backups/retention.js';

const NOTHING = { last: 0, daily: 0, weekly: 0, monthly: 0 };

function whole(at: string, pinned = false): Keepable {
  return { id: at, startedMs: Date.parse(at), is: 'whole', pinned };
}

const zones = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Pacific/Kiritimati');
const count = fc.nat({ max: 6 });
const keeps = fc.record({ last: count, daily: count, weekly: count, monthly: count });
const START = Date.parse('2026-01-01T00:00:00Z');
const backups = fc
  .array(
    fc.record({
      startedMs: fc.integer({ min: START, max: START + 400 * 86_400_000 }),
      is: fc.constantFrom('whole' as const, 'whole' as const, 'whole' as const, 'bad' as const, 'running' as const),
      pinned: fc.boolean(),
    }),
    { maxLength: 60 },
  )
  .map((all) => all.map((one, index) => ({ ...one, id: `b${index}` })));

function dayOf(ms: number, timeZone: string): string {
  return new Date(ms).toLocaleDateString('sv-SE', { timeZone });
}

describe('which backups are kept', () => {
  it('keeps the last ones, and the last one of each day, week and month that has one', () => {
    const all = [
      '2026-10-01T03:00:00Z',
      '2026-10-19T03:00:00Z',
      '2026-10-25T03:00:00Z',
      '2026-10-26T03:00:00Z',
      '2026-10-26T15:00:00Z',
      '2026-10-27T03:00:00Z',
    ].map((at) => whole(at));
    assert.deepEqual(
      expired(all, { ...NOTHING, last: 2 }, 'UTC').sort(),
      all.slice(0, 4).map(({ id }) => id),
    );
    assert.deepEqual(expired(all, { ...NOTHING, daily: 2 }, 'UTC').sort(), [
      '2026-10-01T03:00:00Z',
      '2026-10-19T03:00:00Z',
      '2026-10-25T03:00:00Z',
      '2026-10-26T03:00:00Z',
    ]);
    // The 25th is a Sunday: its week ends with it.
    assert.deepEqual(expired(all, { ...NOTHING, weekly: 2 }, 'UTC').sort(), [
      '2026-10-01T03:00:00Z',
      '2026-10-19T03:00:00Z',
      '2026-10-26T03:00:00Z',
      '2026-10-26T15:00:00Z',
    ]);
    assert.deepEqual(expired(all, { ...NOTHING, monthly: 3 }, 'UTC').length, 5);
  });

  it('takes days by the calendar of the time zone, also where clocks change', () => {
    // 23:30 and 00:30 in Berlin, on both sides of midnight, in the night in which an hour comes twice.
    const late = whole('2026-10-24T21:30:00Z');
    const early = whole('2026-10-24T22:30:00Z');
    assert.deepEqual(expired([late, early], { ...NOTHING, daily: 2 }, 'Europe/Berlin'), []);
    assert.deepEqual(expired([late, early], { ...NOTHING, daily: 2 }, 'UTC'), [late.id]);
  });

  it('keeps what a release that can be gone back to was backed up with', () => {
    const all = [whole('2026-10-01T03:00:00Z', true), whole('2026-10-02T03:00:00Z'), whole('2026-10-03T03:00:00Z')];
    assert.deepEqual(expired(all, { ...NOTHING, last: 1 }, 'UTC'), ['2026-10-02T03:00:00Z']);
  });

  it('holds for any backups and any policy', () => {
    fc.assert(
      fc.property(backups, keeps, zones, (all, keep, zone) => {
        const gone = new Set(expired(all, keep, zone));
        const left = all.filter(({ id }) => !gone.has(id));
        const good = all.filter(({ is }) => is === 'whole').sort((a, b) => b.startedMs - a.startedMs);
        const newest = good[0];
        // Never the newest good one, never a pinned one, never one that runs.
        assert.ok(!newest || left.some(({ startedMs, is }) => is === 'whole' && startedMs === newest.startedMs));
        for (const { id, is, pinned } of all)
          if (is === 'running' || (pinned && is === 'whole')) assert.ok(!gone.has(id));
        const unpinned = left.filter(({ is, pinned }) => is === 'whole' && !pinned).length;
        assert.ok(unpinned <= Math.max(keep.last, 1) + keep.daily + keep.weekly + keep.monthly);
        assert.ok(left.filter(({ is }) => is === 'bad').length <= BAD_KEPT);
        // Each of the last days that has one, has one left.
        const days = [...new Set(good.map(({ startedMs }) => dayOf(startedMs, zone)))].slice(0, keep.daily);
        for (const day of days)
          assert.ok(left.some(({ is, startedMs }) => is === 'whole' && dayOf(startedMs, zone) === day));
        // What is left is left: cleaning up again takes nothing more.
        assert.deepEqual(expired(left, keep, zone), []);
      }),
    );
  });
});
