import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Command } from '../../../generated/muster/v1/center.js';
import type { Outcome } from '../../../generated/muster/v1/types.js';
import { orderAndFollow } from '../../../src/cli/command-following.js';
import { ManualClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { fakeIo } from '../../support/io.js';

const REQUEST = {
  machine: 'm-1',
  service: 'orders',
  action: 'ACTION_RESTART',
  expiresIn: undefined,
  requestId: 'r-1',
  reason: '',
} as const;

const away = (): MusterError => new MusterError('unavailable', 'the center is away');
const command = (outcome: Outcome): Command => Command.fromPartial({ id: 'c-1', outcome });
type Center = Parameters<typeof orderAndFollow>[1];
type Step = Outcome | MusterError | 'hang';

/** A center that answers orders and watches one after the other as written; the last of each is given for ever. */
function center(script: { readonly orders: readonly ('ok' | MusterError)[]; readonly watches: readonly Step[][] }) {
  const asked = { requestIds: [] as string[], watches: 0 };
  const last = <T>(items: readonly T[], index: number): T | undefined => items[Math.min(index, items.length - 1)];
  const client: Center = {
    runCommand: (request) => {
      const answer = last(script.orders, asked.requestIds.length);
      asked.requestIds.push(request.requestId);
      return answer instanceof MusterError ? Promise.reject(answer) : Promise.resolve(command('OUTCOME_QUEUED'));
    },
    watchCommand: async function* (_request, options) {
      const steps = last(script.watches, asked.watches) ?? [];
      asked.watches += 1;
      for (const step of steps) {
        if (step instanceof MusterError) throw step;
        if (step === 'hang') await untilGivenUp(options?.signal);
        else yield command(step);
      }
    },
  };
  return { client, asked };
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

function start(script: Parameters<typeof center>[0], signal?: AbortSignal) {
  const clock = new ManualClock();
  const { client, asked } = center(script);
  const io = fakeIo({ home: '/nowhere', clock, ...(signal ? { signal } : {}) });
  return { clock, asked, followed: orderAndFollow(io, client, REQUEST) };
}

describe('ordering and following a command', () => {
  it('ends with the final outcome', async () => {
    const { followed } = start({ orders: ['ok'], watches: [['OUTCOME_STARTED', 'OUTCOME_SUCCEEDED', 'hang']] });
    const { kind, command: ended } = { command: undefined, ...(await followed) };
    assert.deepEqual([kind, ended?.outcome], ['known', 'OUTCOME_SUCCEEDED']);
  });

  it('orders again under the same id when the answer was lost, and follows on when the center is back', async () => {
    const { clock, asked, followed } = start({
      orders: [away(), 'ok'],
      watches: [['OUTCOME_STARTED', away()], [away()], ['OUTCOME_STARTED'], ['OUTCOME_FAILED']],
    });
    await clock.advance(5000);
    const { kind, command: ended } = { command: undefined, ...(await followed) };
    assert.deepEqual([kind, ended?.outcome], ['known', 'OUTCOME_FAILED']);
    assert.deepEqual(asked, { requestIds: ['r-1', 'r-1'], watches: 4 });
  });

  it('never says "not ordered" of what was ordered, nor of what cannot be known', async () => {
    const unclear = start({ orders: [away()], watches: [] });
    await unclear.clock.advance(20_000);
    assert.equal((await unclear.followed).kind, 'unclear');
    const refused = start({ orders: [new MusterError('denied', 'you may not')], watches: [] });
    assert.deepEqual(await refused.followed, { kind: 'refused', why: 'you may not' });
    const gone = start({ orders: ['ok'], watches: [[away()]] });
    await gone.clock.advance(80_000);
    assert.equal((await gone.followed).kind, 'lost');
  });

  it('gives an unknown outcome time to become known, and then says that it is unknown', async () => {
    const resolved = start({ orders: ['ok'], watches: [['OUTCOME_UNKNOWN', 'OUTCOME_SUCCEEDED']] });
    const { command: ended } = { command: undefined, ...(await resolved.followed) };
    assert.equal(ended?.outcome, 'OUTCOME_SUCCEEDED');
    const stays = start({ orders: ['ok'], watches: [['OUTCOME_UNKNOWN', 'hang']] });
    await stays.clock.advance(20_000);
    const { kind, command: unknown } = { command: undefined, ...(await stays.followed) };
    assert.deepEqual([kind, unknown?.outcome], ['known', 'OUTCOME_UNKNOWN']);
  });

  it('stops when the user does', async () => {
    const stop = new AbortController();
    const { followed } = start({ orders: ['ok'], watches: [['OUTCOME_STARTED', 'hang']] }, stop.signal);
    stop.abort(new MusterError('cancelled', 'Ctrl-C'));
    await assert.rejects(followed);
  });
});
