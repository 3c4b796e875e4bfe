import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instanceId, Instances, type InstanceRecord } from '../../../../src/center/fleet/instances.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { instanceReport } from '../../../support/fake-services.js';

const clock = new ManualClock();

async function openInstances(store: Store): Promise<{ instances: Instances; woken: string[] }> {
  const table = await Table.open<InstanceRecord>({ store, prefix: 'instance/', clock, logger: silentLogger });
  const instances = new Instances(table, clock, () => 1000);
  const woken: string[] = [];
  instances.changes.listen((id) => woken.push(id));
  return { instances, woken };
}

function record(pid = 42): InstanceRecord {
  return { machine: 'm-1', report: instanceReport('orders', { pid }), configHeld: 1, configApplied: 0 };
}

test('a report that says nothing new is not written and wakes nobody', async () => {
  const store = await openMemoryStore();
  const { instances, woken } = await openInstances(store);
  instances.reported(record());
  await instances.flushed();
  const { revision } = store;
  instances.reported(record());
  await instances.flushed();
  assert.equal(store.revision, revision);
  assert.deepEqual(woken, ['m-1/orders']);
  instances.reported(record(43));
  await instances.flushed();
  assert.deepEqual([store.revision > revision, woken.length], [true, 2]);
});

test('a report that says that all holds as before ends the doubt: without a write, but seen', async () => {
  const store = await openMemoryStore();
  const before = await openInstances(store);
  before.instances.reported(record());
  await before.instances.flushed();
  const { revision } = store;
  const { instances, woken } = await openInstances(store);
  const id = instanceId('m-1', 'orders');
  assert.equal(instances.get(id)?.unknownSinceMs, 1000);
  instances.reported(record());
  await instances.flushed();
  assert.equal(instances.get(id)?.unknownSinceMs, undefined);
  assert.deepEqual(woken, [id]);
  assert.equal(store.revision, revision);
});
