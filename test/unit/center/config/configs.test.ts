import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Configs, REVISIONS_MAX, type Publication } from '../../../../src/center/config/configs.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { FakeFleet } from '../../../support/fleet.js';
import { HeldStore } from '../../../support/held-store.js';

const MACHINES = [
  { id: 'm-1', name: 'web-1', online: true },
  { id: 'm-2', name: 'web-2', online: false },
];

async function start() {
  const store = new HeldStore(await openMemoryStore());
  const fleet = new FakeFleet(MACHINES, ['orders']);
  const clock = new ManualClock();
  const open = () => Configs.open(store, { clock, fleet });
  return { store, fleet, clock, open, configs: await open() };
}

function publication(text: string, more: Partial<Publication> & { machine?: string } = {}): Publication {
  const { machine = '', ...rest } = more;
  return { scope: { service: 'orders', machine }, text, etag: '', comment: '', requestId: '', by: 'ann', ...rest };
}

describe("the center's configurations", () => {
  it('give each machine the revision of the newest document that concerns it', async () => {
    const { configs, open } = await start();
    assert.deepEqual(configs.revisionOf('orders', 'm-1'), { revision: 0, hash: '', values: {}, provenance: {} });
    await configs.publish(publication('a: 1'));
    await configs.publish(publication('a: 2', { machine: 'web-1' }));
    await configs.publish(publication('b: 3', { machine: 'm-2' }));
    for (const one of [configs, await open()]) {
      assert.equal(one.merged('orders', 'm-1').revision, 2);
      assert.deepEqual(one.merged('orders', 'm-2').values, { a: 1, b: 3 });
      assert.equal(one.merged('orders', 'm-3').revision, 1);
      assert.equal(one.newest('orders'), 3);
    }
    await configs.publish(publication('', { machine: 'web-1' }));
    const back = configs.merged('orders', 'm-1');
    assert.deepEqual([back.revision, back.values], [4, { a: 1 }]);
    assert.equal(back.hash, configs.merged('orders', 'm-3').hash);
  });

  it('tell of a change once it is durable, and of nothing where nothing changed', async () => {
    const { configs, store } = await start();
    const told: string[] = [];
    const stop = configs.onChange((service) => told.push(service));
    const release = store.hold();
    const publishing = configs.publish(publication('a: 1'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([told, configs.newest('orders'), configs.merged('orders', 'm-1').revision], [[], 0, 0]);
    release();
    await publishing;
    assert.deepEqual(told, ['orders']);
    await configs.publish(publication('a: 1'));
    assert.equal((await configs.publish(publication('', { machine: 'web-1' }))).revision, 0);
    assert.deepEqual(told, ['orders']);
    store.fail(new MusterError('exhausted', 'the disk is full'));
    await assert.rejects(configs.publish(publication('a: 2')), { code: 'exhausted' });
    assert.deepEqual([told, configs.newest('orders')], [['orders'], 1]);
    assert.deepEqual(configs.merged('orders', 'm-1').values, { a: 1 });
    store.fail();
    stop();
    assert.equal((await configs.publish(publication('a: 3'))).revision, 2);
    assert.equal(told.length, 1);
  });

  it('forget what a removed machine said, and hear no more of it', async () => {
    const { configs, fleet, store, open } = await start();
    await configs.publish(publication('a: 1'));
    for (const machine of ['m-1', 'm-2'])
      await configs.reportApplied({ service: 'orders', machine }, { revision: 1, error: '' });
    fleet.machines.splice(0, 1);
    await configs.forgetRemoved();
    await configs.reportApplied({ service: 'orders', machine: 'm-1' }, { revision: 1, error: 'late' });
    const kept: string[] = [];
    for await (const { key } of store.range({ prefix: 'config/applied/' })) kept.push(key);
    assert.deepEqual(kept, ['config/applied/orders:m-2']);
    await (await open()).forgetRemoved();
  });

  it(`keep the last ${REVISIONS_MAX} revisions`, async () => {
    const { configs } = await start();
    for (let n = 1; n <= REVISIONS_MAX + 5; n += 1) await configs.publish(publication(`a: ${n}`));
    const scope = { service: 'orders', machine: '' };
    await assert.rejects(configs.document(scope, 5), { code: 'not_found', reason: 'REVISION_UNKNOWN' });
    await assert.rejects(configs.document(scope, REVISIONS_MAX + 6), { code: 'not_found' });
    assert.equal((await configs.document(scope, 6)).text, 'a: 6');
    let count = 0;
    let before: number | undefined;
    do {
      const page = await configs.revisions('orders', { limit: 400, before });
      count += page.documents.length;
      before = page.next;
    } while (before !== undefined);
    assert.equal(count, REVISIONS_MAX);
  });

  it('end a page of revisions before it is too large to send', async () => {
    const { configs } = await start();
    for (let n = 0; n < 8; n += 1) await configs.publish(publication(`a: ${'x'.repeat(250_000 + n)}`));
    const page = await configs.revisions('orders', { limit: 100 });
    assert.ok(page.documents.length < 8);
    const rest = await configs.revisions('orders', { limit: 100, before: page.next });
    assert.equal(page.documents.length + rest.documents.length, 8);
  });

  it('remember a request over a restart', async () => {
    const { configs, open } = await start();
    const first = await configs.publish(publication('a: 1', { requestId: 'r-1' }));
    await configs.publish(publication('a: 2'));
    const again = await open();
    assert.deepEqual(await again.publish(publication('a: 1', { requestId: 'r-1' })), first);
    assert.deepEqual(again.merged('orders', '').values, { a: 2 });
    await assert.rejects(again.publish(publication('a: 3', { requestId: 'r-1' })), { reason: 'REQUEST_ID_REUSED' });
  });

  it('know services by the fleet or by their configuration, and others not at all', async () => {
    const { configs, fleet } = await start();
    const to = (service: string) => publication('a: 1', { scope: { service, machine: '' } });
    await assert.rejects(configs.publish(to('ordres')), { code: 'not_found', message: /Did you mean "orders"\?/ });
    await assert.rejects(configs.publish(to('')), { code: 'invalid' });
    await assert.rejects(configs.publish(to('something')), { message: /Add the service first/ });
    await configs.publish(to('orders'));
    fleet.services.length = 0;
    await configs.publish(to('orders'));
    assert.deepEqual(configs.adoption('orders'), []);
  });

  it('show per machine what is wanted, held and applied', async () => {
    const { configs, fleet, clock, open } = await start();
    for (const machine of MACHINES) fleet.facts.push({ machine, service: 'orders', configHeld: 2, configApplied: 1 });
    await configs.publish(publication('a: 1'));
    await configs.publish(publication('a: 2'));
    await configs.reportApplied({ service: 'orders', machine: 'm-1' }, { revision: 2, error: '' });
    await configs.reportApplied({ service: 'orders', machine: 'm-2' }, { revision: 1, error: '' });
    await configs.reportApplied({ service: 'orders', machine: 'm-2' }, { revision: 2, error: 'x'.repeat(5_000) });
    await configs.reportApplied({ service: 'orders', machine: 'm-1' }, { revision: 2, error: 'on second thoughts' });
    assert.equal(configs.adoption('orders')[0]?.applied, 0);
    await configs.reportApplied({ service: 'orders', machine: 'm-1' }, { revision: 2, error: '' });
    // What was never published is not noted.
    await configs.reportApplied({ service: 'orders', machine: 'm-1' }, { revision: 3, error: 'what?' });
    await configs.reportApplied({ service: 'nothing', machine: 'm-1' }, { revision: 1, error: '' });
    for (const one of [configs, await open()]) {
      assert.deepEqual(
        one.adoption('orders').map(({ machineName, online, desired, held, applied, error, reportedMs }) => {
          return [machineName, online, desired, held, applied, error.length, reportedMs];
        }),
        [
          ['web-1', true, 2, 2, 2, 0, clock.now()],
          ['web-2', false, 2, 2, 1, 2_000, clock.now()],
        ],
      );
    }
  });
});
