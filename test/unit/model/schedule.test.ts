import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { nextDue, scheduleProblem } from '../../../src/model/schedule.js';

function after(schedule: string, zone: string, from: string, count: number): string[] {
  const found: string[] = [];
  let at = Date.parse(from);
  for (let index = 0; index < count; index += 1) {
    at = nextDue(schedule, zone, at) ?? NaN;
    found.push(new Date(at).toISOString().slice(0, 16));
  }
  return found;
}

describe('a schedule', () => {
  it('is once a day where a local time comes twice, and where it is left out', () => {
    assert.deepEqual(after('30 2 * * *', 'Europe/Berlin', '2026-10-23T12:00:00Z', 3), [
      '2026-10-24T00:30',
      '2026-10-25T00:30',
      '2026-10-26T01:30',
    ]);
    assert.deepEqual(after('30 2 * * *', 'Europe/Berlin', '2026-03-27T12:00:00Z', 3), [
      '2026-03-28T01:30',
      '2026-03-29T01:30',
      '2026-03-30T00:30',
    ]);
  });

  it('is never answered with the past, also from within the hour that comes twice', () => {
    assert.equal(
      nextDue('30 2 * * *', 'Europe/Berlin', Date.parse('2026-10-25T01:10:00Z')),
      Date.parse('2026-10-26T01:30:00Z'),
    );
    assert.equal(
      nextDue('*/30 * * * *', 'Europe/Berlin', Date.parse('2026-10-25T01:00:01Z')),
      Date.parse('2026-10-25T02:00:00Z'),
    );
  });

  it('says what is wrong with it', () => {
    assert.equal(scheduleProblem('0 3 * * *', 'Europe/Berlin'), undefined);
    assert.match(scheduleProblem('61 3 * * *', 'UTC')?.text ?? '', /minute/);
    assert.match(scheduleProblem('0 0 31 2 *', 'UTC')?.text ?? '', /never comes/);
    assert.match(scheduleProblem('0 0 3 * * *', 'UTC')?.text ?? '', /five cron fields/);
    assert.equal(scheduleProblem('0 3 * * *', 'Mars/Base')?.of, 'time zone');
  });

  it('comes after any instant, and is the same from every instant before it', () => {
    const zones = fc.constantFrom(
      'UTC',
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'America/Santiago',
    );
    const schedules = fc.oneof(
      fc.tuple(fc.nat(59), fc.nat(23)).map(([minute, hour]) => `${minute} ${hour} * * *`),
      fc.constantFrom('*/15 * * * *', '0 * * * *', '30 1,2,3 * * *', '45 1 * * 0'),
    );
    // Around changes of clocks, and elsewhere.
    const changes = [
      '2026-03-29T01:00:00Z',
      '2026-10-25T01:00:00Z',
      '2026-11-01T06:00:00Z',
      '2026-04-04T15:00:00Z',
      '2026-04-05T03:00:00Z',
    ];
    const instants = fc.oneof(
      fc
        .tuple(fc.constantFrom(...changes), fc.integer({ min: -10_800_000, max: 10_800_000 }))
        .map(([at, by]) => Date.parse(at) + by),
      fc.integer({ min: Date.parse('2026-01-01T00:00:00Z'), max: Date.parse('2027-01-01T00:00:00Z') }),
    );
    fc.assert(
      fc.property(
        schedules,
        zones,
        instants,
        fc.double({ min: 0, max: 1, noNaN: true }),
        (schedule, zone, from, share) => {
          const due = nextDue(schedule, zone, from);
          assert.ok(due !== undefined && due > from);
          const between = Math.floor(from + (due - from - 1) * share);
          assert.equal(nextDue(schedule, zone, between), due);
        },
      ),
      { numRuns: 300 },
    );
  });
});
