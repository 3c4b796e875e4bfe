import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Catalog, type AppliedRecord } from '../../../../src/center/catalog/catalog.js';
import type { AssignmentRecord, Definition } from '../../../../src/center/catalog/plan.js';
import type { InstanceRecord } from '../../../../src/center/fleet/instances.js';
import { Machines, type MachineRecord } from '../../../../src/center/fleet/machines.js';
import type { Courier, Desired } from '../../../../src/center/gateway/parts.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Inventory } from '../../../../src/model/machine.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { wellInstance } from '../../../support/instance-report.js';

async function fixture() {
  const store = await openMemoryStore();
  const clock = new ManualClock();
  const logger = silentLogger;
  const open = <T>(prefix: string): Promise<Table<T>> => Table.open<T>({ store, prefix, clock, logger });
  const [table, inventories] = [await open<MachineRecord>('machine/'), await open<Inventory>('inventory/')];
  const machines = new Machines({ table, inventories, clock, logger });
  const definitions = await open<Definition>('service/');
  const assignments = await open<AssignmentRecord>('assignment/');
  const applied = await open<AppliedRecord>('applied/');
  const told: Desired[] = [];
  const courier: Courier = {
    connected: () => true,
    order: () => true,
    tail: () => true,
    cancel: () => true,
    acknowledge: () => true,
    assign: (_machine, desired) => told.push(desired) > 0,
  };
  const config = { revisionOf: () => ({ revision: 3, hash: 'h' }), onChange: () => () => undefined };
  const make = () => new Catalog({ definitions, assignments, applied, machines, courier, config, clock, logger });
  const join = async (name: string): Promise<string> =>
    (await machines.join({ name, labels: {}, again: false }, (also) => store.write([also]))).id;
  return { make, catalog: make(), machines, definitions, assignments, applied, told, join };
}

const order = { manifest: 'name: orders\ncommand: [./orders]\n', selector: '', etag: '', by: 'ann' };
const reported = (machine: string): InstanceRecord => ({
  machine,
  configHeld: 0,
  configApplied: 0,
  report: wellInstance({ version: '', health: 'UNKNOWN', pid: 0, startedMs: undefined }),
});

describe('the catalog', () => {
  it('keeps a removed definition until the last machine that had it is gone, and nothing of that machine', async () => {
    const { catalog, machines, definitions, assignments, applied, join } = await fixture();
    const id = await join('a');
    await catalog.put(order);
    catalog.applied(id, { service: 'orders', generation: 1, phase: 'applied', error: '' });
    await catalog.remove('orders', 'ann');
    assert.deepEqual(definitions.ids(), ['orders']);
    await machines.remove(id);
    await catalog.machineRemoved(id);
    assert.deepEqual([definitions.ids(), assignments.ids(), applied.ids()], [[], [], []]);
  });

  it('forgets at its start what a removed machine left behind', async () => {
    const { catalog, make, machines, assignments, join } = await fixture();
    const id = await join('a');
    await catalog.put(order);
    await machines.remove(id);
    await make().resume();
    assert.deepEqual(assignments.ids(), []);
  });

  it('stores no word on a service that was never assigned', async () => {
    const { catalog, applied, join } = await fixture();
    const id = await join('a');
    catalog.applied(id, { service: 'ghost', generation: 1, phase: 'failed', error: 'no' });
    assert.deepEqual(applied.ids(), []);
  });

  it('tells of a configuration once per revision and session, and again when the service came anew', async () => {
    const { catalog, told, join } = await fixture();
    const id = await join('a');
    catalog.instanceReported(reported(id));
    catalog.instanceReported(reported(id));
    assert.equal(told.length, 1);
    catalog.instanceGone(id, 'orders');
    catalog.instanceReported(reported(id));
    assert.equal(told.length, 2);
    await catalog.differences(id, []);
    catalog.instanceReported(reported(id));
    assert.equal(told.length, 3);
  });
});
