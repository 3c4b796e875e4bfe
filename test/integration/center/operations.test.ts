import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { CommandUpdate, StartOperationRequest, type Operation } from '../../../generated/muster/v1/center.js';
import type { Outcome } from '../../../generated/muster/v1/types.js';
import { systemClock } from '../../../src/kit/clock.js';
import { isCode } from '../../../src/kit/errors.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs } from '../../support/fake-agent.js';
import { waitFor } from '../../support/waiting.js';

/** Sooner than a watch that hears nothing speaks up by itself. */
const AT_ONCE_MS = 10_000;

/** A center on which a restart of `orders` on one machine has ended so. */
async function ended(t: TestContext, outcome: Outcome): Promise<{ center: TestCenter; operation: Operation }> {
  const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  const identified = await joinAs(center.address, { token: await center.token(), name: 'a', caPem });
  const stream = await new FakeAgent(t, center.address, 'a', identified).connect();
  await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
  await waitFor('the instance', () => center.operator.getInstance({ machine: 'a', service: 'orders' }));
  const { id } = await center.operator.startOperation(
    StartOperationRequest.fromPartial({ action: 'ACTION_RESTART', service: 'orders' }),
  );
  const { command } = await stream.awaited('command');
  for (const told of ['OUTCOME_STARTED', outcome] as const) {
    const value = CommandUpdate.fromPartial({ command, outcome: told, action: 'ACTION_RESTART', service: 'orders' });
    await stream.send({ $case: 'commandUpdate', value });
  }
  const operation = await waitFor('the end', async () => {
    const found = await center.operator.getOperation({ id });
    return found.ended !== undefined && found;
  });
  return { center, operation };
}

describe('the operations of a service', () => {
  it('are none, or those it had; that of a name that nothing has is said', async (t) => {
    const { center, operation } = await ended(t, 'OUTCOME_SUCCEEDED');
    const list = (service: string, openOnly = false) =>
      center.operator.listOperations({ pageSize: 10, pageToken: '', service, openOnly });
    assert.deepEqual(
      (await list('orders')).operations.map(({ id }) => id),
      [operation.id],
    );
    assert.deepEqual((await list('orders', true)).operations, []);
    assert.deepEqual((await list('', true)).operations, []);
    await assert.rejects(list('nosuch'), (error) => isCode(error, 'not_found') && error.reason === 'SERVICE_UNKNOWN');
  });
});

describe('the watch of an operation that has ended', () => {
  for (const [outcome, state] of [
    ['OUTCOME_SUCCEEDED', 'OPERATION_STATE_SUCCEEDED'],
    ['OUTCOME_UNKNOWN', 'OPERATION_STATE_PARTIAL'],
  ] as const) {
    it(`tells it and ends: ${outcome}`, async (t) => {
      const { center, operation } = await ended(t, outcome);
      assert.equal(operation.state, state);
      const beganMs = systemClock.monotonic();
      const heard: (string | undefined)[] = [];
      for await (const { snapshot, targets } of center.operator.watchOperation({ id: operation.id })) {
        if (snapshot) heard.push(targets[0]?.outcome);
      }
      assert.deepEqual(heard, [outcome]);
      assert.ok(systemClock.monotonic() - beganMs < AT_ONCE_MS);
    });
  }
});
