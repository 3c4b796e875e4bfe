import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Facts } from '../../../../src/center/alerts/facts.js';
import { Instances, type InstanceRecord } from '../../../../src/center/fleet/instances.js';
import { Machines, type MachineRecord } from '../../../../src/center/fleet/machines.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Inventory } from '../../../../src/model/machine.js';
import { openMemoryStore } from '../../../../src/store/memory.js';

const GRACE_MS = 15_000;

async function fixture() {
  const store = await openMemoryStore();
  const clock = new ManualClock();
  const open = <T>(prefix: string): Promise<Table<T>> => Table.open<T>({ store, prefix, clock, logger: silentLogger });
  const table = await open<MachineRecord>('machine/');
  const inventories = await open<Inventory>('inventory/');
  const machines = new Machines({ table, inventories, clock, logger: silentLogger });
  const instances = new Instances(await open<InstanceRecord>('instance/'), clock, () => undefined);
  const facts = new Facts({ machines, instances, catalog: { failures: () => [] }, clock, graceMs: () => GRACE_MS });
  const join = () => machines.join({ name: 'a', labels: {}, again: false }, (also) => store.write([also]));
  const connect = (id: string) =>
    machines.connected(id, {
      epoch: 1,
      processId: 'p',
      bootId: '',
      agentVersion: '',
      capabilities: [],
      address: '',
      clockSkewMs: 0,
    });
  const lose = async (id: string): Promise<void> => {
    facts.contactLost(id);
    await machines.disconnected(id);
  };
  const offline = (id: string): boolean =>
    facts.judge(id)?.verdicts.some((verdict) => verdict.is === 'wrong' && verdict.finding.kind === 'machine_offline') ??
    false;
  return { clock, machines, facts, join, connect, lose, offline };
}

describe('the contact of a machine', () => {
  it('changes when it comes or goes, and when what is said of its clock changes, not with each beat', async () => {
    const { clock, machines, facts, join, connect, lose } = await fixture();
    const { id } = await join();
    facts.contactChanged(id);
    await connect(id);
    assert.deepEqual([facts.contactChanged(id), facts.contactChanged(id)], [true, false]);
    const beat = (skewMs: number): boolean => {
      machines.beat(id, { machineNowMs: clock.now() + skewMs });
      return facts.contactChanged(id);
    };
    assert.deepEqual(
      [beat(0), beat(20_000), beat(40_000), beat(40_100), beat(41_000)],
      [false, false, true, false, true],
    );
    assert.equal(beat(0), true);
    await lose(id);
    assert.equal(facts.contactChanged(id), true);
  });
});

describe('a machine is called offline', () => {
  it('one grace after it joined and never came, however long the center has run', async () => {
    const { clock, join, offline } = await fixture();
    await clock.advance(3_600_000);
    const { id } = await join();
    await clock.advance(GRACE_MS - 1);
    assert.equal(offline(id), false);
    await clock.advance(1);
    assert.equal(offline(id), true);
  });

  it('one grace after its last word, not after the end of its session was noticed', async () => {
    const { clock, join, connect, lose, offline } = await fixture();
    const { id } = await join();
    await connect(id);
    await clock.advance(GRACE_MS - 1000);
    await lose(id);
    assert.equal(offline(id), false);
    await clock.advance(1000);
    assert.equal(offline(id), true);
    await connect(id);
    assert.equal(offline(id), false);
  });

  it('whatever the wall clock does meanwhile', async () => {
    const { clock, join, connect, lose, offline } = await fixture();
    const { id } = await join();
    await connect(id);
    await lose(id);
    clock.jumpWallClock(86_400_000);
    assert.equal(offline(id), false);
    await clock.advance(GRACE_MS);
    clock.jumpWallClock(-2 * 86_400_000);
    assert.equal(offline(id), true);
  });
});
