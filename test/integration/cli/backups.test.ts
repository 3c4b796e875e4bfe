import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { BackupPlan, OperationCounts, type StartOperationRequest } from '../../../generated/muster/v1/center.js';
import { Backup } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../../src/kit/errors.js';
import { operation, ScriptedCenter, STARTED, target } from '../../support/scripted-center.js';

function backup(id: string, machine: string, fields: Parameters<typeof Backup.fromPartial>[0] = {}): Backup {
  return Backup.fromPartial({
    id,
    machineName: machine,
    service: 'orders',
    status: 'BACKUP_STATUS_OK',
    trigger: 'BACKUP_TRIGGER_SCHEDULE',
    started: STARTED,
    took: { seconds: 3 },
    bytes: 4_200_000,
    files: 312,
    ...fields,
  });
}

const BACKUPS = [
  backup('20261123T030000-aa', 'web-1', { verified: STARTED, copies: ['center'] }),
  backup('20261122T030000-bb', 'web-1', {
    status: 'BACKUP_STATUS_WARNING',
    problems: ['data/log changed while it was read'],
  }),
  backup('20261123T030000-cc', 'web-2', {
    verifyProblem: 'data/orders.db is not what it was',
    copyProblem: 'no space',
  }),
];

const PLANS = [
  BackupPlan.fromPartial({ service: 'orders', machineName: 'web-1', schedule: '0 3 * * *', timeZone: 'UTC' }),
  BackupPlan.fromPartial({ service: 'orders', machineName: 'web-3', schedule: '0 3 * * *', lateSince: STARTED }),
  BackupPlan.fromPartial({ service: 'billing', machineName: 'web-9', lateSince: STARTED }),
];

interface Fixture {
  readonly center: ScriptedCenter;
  readonly orders: StartOperationRequest[];
}

/** A center with those backups, on which every operation succeeds. */
async function fixture(t: TestContext, backups = BACKUPS): Promise<Fixture> {
  const orders: StartOperationRequest[] = [];
  const ended = operation('OPERATION_STATE_SUCCEEDED', {
    action: 'ACTION_BACKUP',
    counts: OperationCounts.fromPartial({ total: 1 }),
  });
  const center = await ScriptedCenter.start(t, {
    listBackups: ({ service, selector }) => {
      if (service === 'nosuch') throw new MusterError('not_found', 'no machine has a service "nosuch"');
      return Promise.resolve({
        backups: backups.filter(
          (one) =>
            (service === '' || service === one.service) &&
            (selector === '' || selector === `machine=${one.machineName}`),
        ),
        nextPageToken: '',
      });
    },
    listBackupPlans: () => Promise.resolve({ plans: PLANS }),
    startOperation: (request) => {
      orders.push(request);
      return Promise.resolve(ended);
    },
    watchOperation: async function* () {
      await Promise.resolve();
      yield {
        snapshot: true,
        operation: ended,
        targets: [target(0, 'OUTCOME_SUCCEEDED', { action: 'ACTION_BACKUP', backup: BACKUPS[0] })],
      };
    },
  });
  return { center, orders };
}

describe('muster backup', () => {
  it('lists what there is, how sound it is, and what is late', async (t) => {
    const { center } = await fixture(t);
    const { status, io } = await center.run(['backup', 'ls', 'orders'], { columns: 200 });
    assert.equal(status, 0, io.complained());
    assert.match(io.written(), /^ID +MACHINE +SERVICE +STATUS +SIZE +FILES +TOOK +VERIFIED +BECAUSE +COPIES\n/);
    assert.match(io.written(), /20261123T030000-aa +web-1 +orders +OK +4\.2 MB +312 +3s +\S.* +schedule +center\n/);
    assert.match(io.written(), /20261122T030000-bb +web-1 +orders +WARNING .* never /);
    assert.match(io.written(), /-cc .* FAILED: data\/orders\.db is not what it was .*not copied: no space\n/);
    assert.match(io.written(), /orders on web-3: late since .*, there is no good one\n$/);
    assert.doesNotMatch(io.written(), /billing/);
    assert.match(io.complained(), /20261122T030000-bb on web-1: data\/log changed while it was read/);
    const { io: json } = await center.run(['backup', 'ls', '--json']);
    const answer = JSON.parse(json.written()) as { backups: unknown[]; late: unknown[] };
    assert.deepEqual([answer.backups.length, answer.late.length], [3, 2]);
    const plans = await center.run(['backup', 'plans']);
    assert.match(plans.io.written(), /orders +web-1 +0 3 \* \* \* +UTC/);
  });

  it('tells a service that nobody knows from one that is not backed up', async (t) => {
    const { center } = await fixture(t);
    const unknown = await center.run(['backup', 'plans', 'nosuch']);
    assert.equal(unknown.status, 1);
    assert.match(unknown.io.complained(), /no machine has a service "nosuch"/);
    const plain = await center.run(['backup', 'plans', 'web']);
    assert.equal(plain.status, 0, plain.io.complained());
    assert.match(plain.io.complained(), /web has no "backup" section/);
  });

  it('makes one now, and says what it holds', async (t) => {
    const { center, orders } = await fixture(t);
    const { status, io } = await center.run(['backup', 'now', 'orders', '--on', 'machine=web-1']);
    assert.equal(status, 0, io.complained());
    assert.deepEqual([orders[0]?.action, orders[0]?.selector], ['ACTION_BACKUP', 'machine=web-1']);
    assert.equal(io.written(), 'web-1  orders  SUCCEEDED  20261123T030000-aa, 312 files, 4.2 MB\n');
  });

  it('verifies the one of an id on the machine that has it, and the latest ones everywhere', async (t) => {
    const { center, orders } = await fixture(t);
    assert.equal((await center.run(['backup', 'verify', 'orders', '20261122'])).status, 0);
    assert.equal((await center.run(['backup', 'verify', 'orders'])).status, 0);
    assert.deepEqual(
      orders.map(({ action, selector, backup: wish }) => [action, selector, wish?.backup]),
      [
        ['ACTION_VERIFY_BACKUP', 'machine=web-1', '20261122T030000-bb'],
        ['ACTION_VERIFY_BACKUP', '', ''],
      ],
    );
  });

  it('restores what was asked for, and where', async (t) => {
    const { center, orders } = await fixture(t);
    const argv = [
      'backup',
      'restore',
      'orders',
      '--on',
      'machine=web-1',
      '--path',
      'data/a',
      '--path',
      'data/b',
      '--aside',
    ];
    assert.equal((await center.run(argv)).status, 0);
    assert.equal((await center.run(['backup', 'restore', 'orders', '20261123T030000-cc', '--stop'])).status, 0);
    assert.deepEqual(
      orders.map(({ selector, backup: wish }) => [selector, wish]),
      [
        ['machine=web-1', { backup: '', paths: ['data/a', 'data/b'], aside: true, stop: false }],
        ['machine=web-2', { backup: '20261123T030000-cc', paths: [], aside: false, stop: true }],
      ],
    );
  });

  it('restores on no machine that was not meant', async (t) => {
    const { center, orders } = await fixture(t);
    const everywhere = await center.run(['backup', 'restore', 'orders']);
    assert.equal(everywhere.status, 2);
    assert.match(everywhere.io.complained(), /2 machines have backups of orders: .*--on machine=NAME \(web-1, web-2\)/);
    const several = await center.run(['backup', 'restore', 'orders', '20261123']);
    assert.equal(several.status, 1);
    assert.match(
      several.io.complained(),
      /beginning of 2 backups: 20261123T030000-aa on web-1, 20261123T030000-cc on web-2/,
    );
    assert.deepEqual(orders, []);
    const alone = await fixture(t, BACKUPS.slice(0, 2));
    assert.equal((await alone.center.run(['backup', 'restore', 'orders'])).status, 0);
    assert.equal(alone.orders[0]?.selector, 'machine=web-1');
  });

  it('asks for the machine where one id is on several', async (t) => {
    const { center } = await fixture(t, [backup('20261123T030000', 'web-1'), backup('20261123T030000', 'web-2')]);
    const { io } = await center.run(['backup', 'verify', 'orders', '20261123T030000']);
    assert.match(io.complained(), /is on 2 machines: say on which, with --on machine=NAME \(web-1, web-2\)/);
  });

  it('says what there is where there is no such backup', async (t) => {
    const { center } = await fixture(t);
    const none = await center.run(['backup', 'restore', 'billing']);
    assert.equal(none.status, 1);
    assert.match(none.io.complained(), /no backup of billing is known: .*"muster backup now billing" makes one/);
    const wrong = await center.run(['backup', 'verify', 'orders', '20261123T030000-ac']);
    assert.match(wrong.io.complained(), /there is no backup "20261123T030000-ac"\. .*20261123T030000-a/);
    const elsewhere = await center.run(['backup', 'verify', 'orders', '20261123T030000-cc', '--on', 'machine=web-1']);
    assert.match(elsewhere.io.complained(), /"20261123T030000-cc" is on web-2, not on .* "machine=web-1"/);
    const there = await center.run(['backup', 'restore', 'orders', '--on', 'role=db']);
    assert.match(there.io.complained(), /no backup of orders on a machine that matches "role=db"/);
  });

  it('on this machine takes no option of the center', async (t) => {
    const center = await ScriptedCenter.start(t);
    for (const argv of [
      ['backup', 'now', 'orders', '--batch', '2'],
      ['backup', 'ls', '--on', 'role=web'],
    ]) {
      const { status, io } = await center.run(['--local', ...argv]);
      assert.equal(status, 2, argv.join(' '));
      assert.match(io.complained(), /is for the center/);
    }
    assert.equal((await center.run(['--local', 'backup', 'restore', 'orders'])).status, 2);
  });
});

describe('muster status', () => {
  const status = {
    getStatus: () => Promise.resolve({ ...BASE }),
    listQueues: () => Promise.resolve({ queues: [] }),
  };
  const BASE = {
    site: 'site-1',
    centerVersion: '0.1.0',
    started: STARTED,
    machines: 1,
    machinesOnline: 1,
    instances: 1,
    instancesRunning: 1,
    instancesWanted: 1,
    alerts: [],
    caExpires: STARTED,
    instancesUnknown: 0,
    storageProblem: '',
  };

  it('counts late backups, and is not well for them', async (t) => {
    const center = await ScriptedCenter.start(t, {
      ...status,
      listBackupPlans: () => Promise.resolve({ plans: PLANS }),
    });
    const { status: code, io } = await center.run(['status']);
    assert.equal(code, 1);
    assert.match(io.written(), /\nbackups {4}1 of 3 made in time\n/);
    assert.match(io.written(), /not well; 2 backups late \("muster backup plans" says which\)/);
  });

  it('is well at a center that knows no plans', async (t) => {
    const center = await ScriptedCenter.start(t, {
      ...status,
      listBackupPlans: () => Promise.reject(new MusterError('unimplemented', 'not here')),
    });
    const { status: code, io } = await center.run(['status']);
    assert.equal(code, 0, io.complained());
    assert.doesNotMatch(io.written(), /backups/);
  });
});
