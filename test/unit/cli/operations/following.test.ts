import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  OperationCounts,
  type WatchOperationResponse,
  type OperationState,
} from '../../../../generated/muster/v1/center.js';
import type { Outcome } from '../../../../generated/muster/v1/types.js';
import { followOperation, orderOperation } from '../../../../src/cli/operations/following.js';
import { OperationView } from '../../../../src/cli/operations/view.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { fakeIo } from '../../../support/io.js';
import { operation, target } from '../../../support/scripted-center.js';

const away = (): MusterError => new MusterError('unavailable', 'the center is away');
const RUNNING = 'OPERATION_STATE_RUNNING';
const SUCCEEDED = 'OPERATION_STATE_SUCCEEDED';
const PARTIAL = 'OPERATION_STATE_PARTIAL';

type Step = readonly [OperationState, Outcome] | MusterError | 'hang';

function update([state, outcome]: readonly [OperationState, Outcome]): WatchOperationResponse {
  const counts = OperationCounts.fromPartial({ total: 1 });
  return { snapshot: false, operation: operation(state, { counts }), targets: [target(0, outcome)] };
}

function untilGivenUp(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const giveUp = (): void => {
      reject(new MusterError('cancelled', 'gave up'));
    };
    if (signal?.aborted) giveUp();
    else signal?.addEventListener('abort', giveUp);
  });
}

/** A center whose watches go as written, one after the other; the last is given for ever. */
function follow(watches: readonly (readonly Step[])[], signal?: AbortSignal) {
  const clock = new ManualClock();
  const io = fakeIo({ home: '/nowhere', clock, ...(signal ? { signal } : {}) });
  const view = new OperationView(operation(RUNNING));
  const heard: string[] = [];
  let asked = 0;
  const followed = followOperation(
    io,
    {
      watchOperation: async function* (_request, options) {
        const steps = watches[Math.min(asked, watches.length - 1)] ?? [];
        asked += 1;
        for (const step of steps) {
          if (step instanceof MusterError) throw step;
          if (step === 'hang') await untilGivenUp(options?.signal);
          else yield update(step);
        }
      },
    },
    view,
    {
      changed: (targets) => void heard.push(...targets.map(({ outcome }) => outcome)),
      away: () => void heard.push('away'),
      back: () => void heard.push('back'),
    },
  );
  return { clock, view, heard, followed, watches: () => asked };
}

describe('ordering an operation', () => {
  const order = (answers: readonly (MusterError | 'ok')[], signal?: AbortSignal) => {
    const clock = new ManualClock();
    let asked = 0;
    const io = fakeIo({ home: '/nowhere', clock, ...(signal ? { signal } : {}) });
    const ordered = orderOperation(io, () => {
      const answer = answers[Math.min(asked, answers.length - 1)];
      asked += 1;
      return answer instanceof MusterError ? Promise.reject(answer) : Promise.resolve(operation(RUNNING));
    });
    return { clock, ordered, asked: () => asked };
  };

  it('orders again when the answer was lost', async () => {
    const { clock, ordered, asked } = order([away(), new MusterError('deadline', 'late'), 'ok']);
    await clock.advance(2000);
    assert.equal((await ordered).kind, 'ordered');
    assert.equal(asked(), 3);
  });

  it('never says "not ordered" of what cannot be known', async () => {
    const { clock, ordered } = order([away()]);
    await clock.advance(20_000);
    assert.deepEqual(await ordered, { kind: 'unclear', why: 'the center is away' });
    const stop = new AbortController();
    const stopped = order([away()], stop.signal);
    await stopped.clock.advance(100);
    stop.abort(new Error('SIGINT'));
    assert.equal((await stopped.ordered).kind, 'unclear');
  });

  it('passes a refusal on', async () => {
    await assert.rejects(order([new MusterError('denied', 'you may not')]).ordered, /you may not/);
  });
});

describe('following an operation', () => {
  it('ends when it has ended and all is settled', async () => {
    const { followed, heard } = follow([
      [[RUNNING, 'OUTCOME_STARTED'], [RUNNING, 'OUTCOME_SUCCEEDED'], [SUCCEEDED, 'OUTCOME_SUCCEEDED'], 'hang'],
    ]);
    assert.equal(await followed, 'ended');
    assert.deepEqual(heard, ['OUTCOME_STARTED', 'OUTCOME_SUCCEEDED']);
  });

  it('goes on when the center is back, and tells what changed meanwhile once', async () => {
    const { clock, followed, heard, watches } = follow([
      [[RUNNING, 'OUTCOME_STARTED'], away()],
      [away()],
      [[RUNNING, 'OUTCOME_STARTED']],
      [[SUCCEEDED, 'OUTCOME_SUCCEEDED']],
    ]);
    await clock.advance(5000);
    assert.equal(await followed, 'ended');
    assert.deepEqual(heard, ['OUTCOME_STARTED', 'away', 'back', 'away', 'back', 'OUTCOME_SUCCEEDED']);
    assert.equal(watches(), 4);
  });

  it('waits a minute for a center that went away after a long silence, and then says that it is lost', async () => {
    const clock = new ManualClock();
    let asked = 0;
    const followed = followOperation(
      fakeIo({ home: '/nowhere', clock }),
      {
        watchOperation: async function* () {
          asked += 1;
          if (asked === 1) {
            yield update([RUNNING, 'OUTCOME_STARTED']);
            // Silence for longer than the patience is no sign of anything.
            await new Promise<void>((resolve) => clock.after(300_000, resolve));
          }
          throw away();
        },
      },
      new OperationView(operation(RUNNING)),
      { changed: () => undefined, away: () => undefined, back: () => undefined },
    );
    let ended: string | undefined;
    void followed.then((end) => (ended = end));
    await clock.advance(300_000 + 30_000);
    assert.equal(ended, undefined);
    await clock.advance(40_000);
    assert.equal(await followed, 'lost');
  });

  it('gives what is unknown time to become known once the operation has ended, and no longer', async () => {
    const resolved = follow([
      [
        [PARTIAL, 'OUTCOME_UNKNOWN'],
        [SUCCEEDED, 'OUTCOME_SUCCEEDED'],
      ],
    ]);
    assert.equal(await resolved.followed, 'ended');
    assert.equal(resolved.view.counts.succeeded, 1);
    const stays = follow([[[PARTIAL, 'OUTCOME_UNKNOWN'], 'hang']]);
    await stays.clock.advance(30_000);
    assert.equal(await stays.followed, 'ended');
    assert.equal(stays.view.counts.unknown, 1);
    const center = follow([[[PARTIAL, 'OUTCOME_UNKNOWN']]]);
    assert.equal(await center.followed, 'ended', 'the center ends the watch itself');
  });

  it('is left when the user does', async () => {
    const stop = new AbortController();
    const { followed } = follow([[[RUNNING, 'OUTCOME_STARTED'], 'hang']], stop.signal);
    stop.abort(new MusterError('cancelled', 'Ctrl-C'));
    assert.equal(await followed, 'detached');
  });

  it('throws what the center refuses', async () => {
    await assert.rejects(follow([[new MusterError('not_found', 'no such operation')]]).followed, /no such/);
  });
});
