import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ListMachinesResponse,
  OperationCounts,
  SearchCoverage,
  SearchLogsRequest,
  SearchLogsResponse,
} from '../../../../generated/muster/v1/center.js';
import { LogHit, LogSearch, SearchReport } from '../../../../generated/muster/v1/types.js';
import { isComplete } from '../../../../src/cli/logs/coverage.js';
import { SearchFollower } from '../../../../src/cli/logs/search-following.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { fakeIo } from '../../../support/io.js';
import { operation, target } from '../../../support/scripted-center.js';

const away = (): MusterError => new MusterError('unavailable', 'the center is away');
const whole: Step = { coverage: SearchCoverage.fromPartial({ machines: 1, machinesComplete: 1 }) };

type Step = Parameters<typeof SearchLogsResponse.fromPartial>[0] | MusterError;

function began(total: number): Step {
  return { operation: operation('OPERATION_STATE_RUNNING', { counts: OperationCounts.fromPartial({ total }) }) };
}

function hit(machineName: string, line: number): LogHit {
  return LogHit.fromPartial({ machineName, file: 'orders.log', line, text: `line ${line}` });
}

const ended = (machineName: string) =>
  target(0, 'OUTCOME_SUCCEEDED', { machineName, search: SearchReport.fromPartial({ files: 1 }) });

/** A center whose searches go as written, the last for ever, over machines with these names. */
function follow(names: readonly string[], searches: readonly (readonly Step[])[], selector = '') {
  const clock = new ManualClock();
  const asked: SearchLogsRequest[] = [];
  const told: string[] = [];
  const follower = new SearchFollower(
    fakeIo({ home: '/nowhere', clock }),
    {
      searchLogs: async function* (request) {
        asked.push(request);
        await Promise.resolve();
        for (const step of searches[Math.min(asked.length, searches.length) - 1] ?? []) {
          if (step instanceof MusterError) throw step;
          yield SearchLogsResponse.fromPartial(step);
        }
      },
      listTargets: () =>
        Promise.resolve({
          targets: names.map((machineName, index) => target(index, 'OUTCOME_CANCELLED', { machineName })),
          nextPageToken: '',
        }),
      listMachines: () => Promise.resolve(ListMachinesResponse.fromPartial({})),
    },
    SearchLogsRequest.fromPartial({ service: 'orders', selector, search: LogSearch.fromPartial({ maxLines: 10 }) }),
    {
      began: () => undefined,
      hit: ({ machineName, line }, skipped) => {
        told.push(`${machineName} ${line}${skipped ? ' behind a gap' : ''}`);
        return Promise.resolve();
      },
      away: () => Promise.resolve(void told.push('away')),
      again: (machines) => Promise.resolve(void told.push(`again on ${machines}`)),
    },
  );
  return { clock, asked, told, searched: follower.run() };
}

describe('following a search', () => {
  it('says what it does not know of a center that stays away', async () => {
    const { clock, told, searched } = follow(
      ['a', 'b'],
      [[began(2), { hits: [hit('a', 1)] }, { ended: [ended('a')] }, away()], [away()]],
    );
    await clock.advance(80_000);
    const { end, hits, seen } = await searched;
    assert.deepEqual([end, hits, seen.unanswered, seen.coverage.machinesComplete], ['lost', 1, 1, 1]);
    assert.equal(isComplete(seen), false);
    assert.deepEqual(told.slice(0, 2), ['a 1', 'away']);
    assert.equal(told.filter((what) => what === 'away').length, 1);
  });

  it('begins anew where it had not begun', async () => {
    const { clock, asked, told, searched } = follow(
      ['a'],
      [[away()], [began(1), { hits: [hit('a', 1)] }, { ended: [ended('a')] }, whole]],
    );
    await clock.advance(1000);
    assert.equal((await searched).end, 'ended');
    assert.deepEqual(told, ['away', 'a 1']);
    assert.deepEqual(
      asked.map(({ selector }) => selector),
      ['', ''],
    );
  });

  it('searches many machines again in several searches, and leaves none out', async () => {
    const names = Array.from({ length: 100 }, (_, index) => `machine-${index}.${'x'.repeat(80)}`);
    const { clock, asked, told, searched } = follow(
      names,
      [
        [began(100), away()],
        [began(1), whole],
      ],
      'role=web',
    );
    await clock.advance(1000);
    assert.equal((await searched).end, 'ended');
    const selectors = asked.slice(1).map(({ selector }) => selector);
    assert.ok(selectors.length > 2);
    assert.ok(selectors.every((text) => text.startsWith('role=web,machine in (') && text.length < 4096));
    const again = selectors.flatMap((text) => text.slice('role=web,machine in ('.length, -1).split(','));
    assert.deepEqual(again, names);
    assert.equal(told.filter((what) => what.startsWith('again')).length, selectors.length);
  });

  it('counts machines that were removed meanwhile among those that had not answered', async () => {
    const { clock, searched } = follow(
      ['a'],
      [[began(1), away()], [new MusterError('not_found', 'no machine matches')]],
    );
    await clock.advance(1000);
    const { end, seen } = await searched;
    assert.deepEqual([end, seen.unanswered, isComplete(seen)], ['ended', 1, false]);
  });

  it('leaves out what was told of, marks the gap, and asks for no more lines than are left', async () => {
    const { clock, asked, told, searched } = follow(
      ['a', 'b'],
      [
        [began(2), { hits: [hit('a', 1), hit('b', 1), hit('b', 2)], ended: [ended('a')] }, away()],
        [began(1), { hits: [hit('b', 1), hit('b', 2), hit('b', 3)], ended: [ended('b')] }, whole],
      ],
    );
    await clock.advance(1000);
    const { hits, seen } = await searched;
    assert.deepEqual(told, ['a 1', 'b 1', 'b 2', 'away', 'again on 1', 'b 3 behind a gap']);
    assert.deepEqual([hits, asked[1]?.search?.maxLines, isComplete(seen)], [4, 9, true]);
  });
});
