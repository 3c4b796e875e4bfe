import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Alerts, planAlerts, type AlertRecord, type Judgement } from '../../../../src/center/alerts/alerts.js';
import {
  judgeMachine,
  keyText,
  type InstanceFacts,
  type MachineFacts,
  type Verdict,
} from '../../../../src/center/alerts/rules.js';
import { Changes } from '../../../../src/center/changes.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { CheckResult, Health, InstanceReport } from '../../../../src/model/instance.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { HeldStore } from '../../../support/held-store.js';
import { wellInstance } from '../../../support/instance-report.js';

function check(name: string, health: Health): CheckResult {
  return { name, kind: 'tcp', health, sinceMs: 0, lastRunMs: 0, tookMs: 0, output: '', streak: 1 };
}

function instance(report: Partial<InstanceReport>, unknownSinceMs?: number): InstanceFacts {
  return {
    machine: 'm-1',
    configHeld: 0,
    configApplied: 0,
    unknownSinceMs,
    restarted: { recent: 0, quietMs: 3_600_000, reason: '' },
    report: wellInstance(report),
  };
}

const well: MachineFacts = {
  machine: 'm-1',
  name: 'web-1',
  online: true,
  silentMs: 0,
  graceMs: 15_000,
  everConnected: true,
  clockSkewMs: 0,
  duplicate: undefined,
  instances: [],
  failedAssignments: [],
};

/** `!kind` for what is wrong, `?kind` for what nobody can say. */
function verdicts(facts: Partial<MachineFacts>): string[] {
  return judgeMachine({ ...well, ...facts }).map((verdict) => {
    if (verdict.is === 'wrong') return `!${verdict.finding.kind}`;
    return verdict.is === 'unsure' ? `?${verdict.key.kind}` : '?checks';
  });
}

describe('what is wrong with a machine', () => {
  it('is nothing when all is well', () => {
    assert.deepEqual(verdicts({ instances: [instance({ checks: [check('ping', 'PASSING')] })] }), []);
  });

  it('is its silence, after the grace', () => {
    assert.deepEqual(verdicts({ online: false, silentMs: 14_999 }), ['?machine_offline']);
    assert.deepEqual(verdicts({ online: false, silentMs: 15_000 }), ['!machine_offline']);
  });

  it('is said without times: those are fields of their own', () => {
    const said = (everConnected: boolean): string[] =>
      judgeMachine({ ...well, online: false, silentMs: 15_000, everConnected }).map((verdict) =>
        verdict.is === 'wrong' ? verdict.finding.message : '',
      );
    assert.deepEqual(said(true), ['machine web-1 is not connected']);
    assert.deepEqual(said(false), ['machine web-1 has never connected']);
  });

  it('is a clock that is off by more than half a minute', () => {
    assert.deepEqual(verdicts({ clockSkewMs: -30_000 }), []);
    assert.deepEqual(verdicts({ clockSkewMs: -30_001 }), ['!clock_skew']);
  });

  it('is a duplicate, until it was quiet for five minutes', () => {
    assert.deepEqual(verdicts({ duplicate: { agoMs: 299_000, address: 'x' } }), ['!duplicate_identity']);
    assert.deepEqual(verdicts({ duplicate: { agoMs: 301_000, address: 'x' } }), []);
  });

  it('is a port or ping that fails for good, and not one that has just begun to or has not run yet', () => {
    const judged = (name: string, health: Health, wanted = true): string[] =>
      verdicts({ instances: [instance({ wanted, checks: [check(name, health)] })] });
    assert.deepEqual(judged('port http', 'CRITICAL'), ['!port_down']);
    assert.deepEqual(judged('ping', 'CRITICAL'), ['!ping_failing']);
    assert.deepEqual(judged('ping', 'WARNING'), ['?ping_failing']);
    assert.deepEqual(judged('ping', 'UNKNOWN'), ['?ping_failing']);
    assert.deepEqual(judged('ping', 'CRITICAL', false), []);
  });

  it('is a service in FATAL', () => {
    assert.deepEqual(verdicts({ instances: [instance({ state: 'FATAL', wanted: false })] }), ['!service_fatal']);
  });

  it('is a service that others stopped, not one that is to rest', () => {
    const stopped = { state: 'STOPPED', reason: 'stopped by systemctl' } as const;
    assert.deepEqual(verdicts({ instances: [instance(stopped)] }), ['?checks', '!service_stopped']);
    assert.deepEqual(verdicts({ instances: [instance({ ...stopped, wanted: false })] }), []);
  });

  it('is a service that does not stay up', () => {
    const restarted = (recent: number, quietMs: number) => ({ recent, quietMs, reason: '' });
    const judged = (report: Partial<InstanceReport>, past = restarted(0, 3_600_000)): string[] =>
      verdicts({ instances: [{ ...instance({ checks: [check('ping', 'PASSING')], ...report }), restarted: past }] });
    assert.deepEqual(judged({ state: 'BACKOFF' }), ['!service_restarting']);
    assert.deepEqual(judged({}, restarted(3, 1000)), ['!service_restarting']);
    assert.deepEqual(judged({}, restarted(2, 1000)), ['?service_restarting']);
    assert.deepEqual(judged({}, restarted(0, 299_999)), ['?service_restarting']);
    assert.deepEqual(judged({}, restarted(0, 300_000)), []);
    assert.deepEqual(judged({ state: 'STARTING' }), ['?service_restarting']);
    assert.deepEqual(judged({ state: 'BACKOFF', wanted: false }), []);
    assert.deepEqual(judged({ state: 'FATAL' }, restarted(3, 1000)), ['!service_fatal']);
  });

  it('is not known of the checks of a service that is wanted and down', () => {
    assert.deepEqual(verdicts({ instances: [instance({ state: 'BACKOFF' })] }), ['?checks', '!service_restarting']);
    assert.deepEqual(verdicts({ instances: [instance({ state: 'STOPPED', wanted: false })] }), []);
    assert.deepEqual(verdicts({ instances: [instance({ state: 'RUNNING' })] }), []);
  });

  it('is not said of a service while a release of it is deployed, whatever it is like, and then again', () => {
    const checks = [check('ping', 'CRITICAL'), check('port http', 'CRITICAL')];
    const muted = ['?service_fatal', '?service_stopped', '?service_restarting', '?checks'];
    const reports: Partial<InstanceReport>[] = [
      { checks },
      { state: 'FATAL', wanted: false },
      { state: 'STOPPED', reason: 'stopped by systemctl' },
      { state: 'BACKOFF' },
      { state: 'STOPPED', wanted: false },
    ];
    for (const report of reports) {
      for (const deploying of ['STOP', 'SWITCH', 'START', 'VERIFY'] as const) {
        assert.deepEqual(verdicts({ instances: [instance({ ...report, deploying })] }), muted);
      }
    }
    assert.deepEqual(verdicts({ instances: [instance({ checks, deploying: undefined })] }), [
      '!ping_failing',
      '!port_down',
    ]);
  });

  it('is said of its other services and of the machine itself meanwhile', () => {
    const failing = { checks: [check('ping', 'CRITICAL')] };
    const deploying = instance({ ...failing, deploying: 'START' });
    const other = instance({ ...failing, service: 'billing' });
    const found = judgeMachine({ ...well, instances: [deploying, other], clockSkewMs: 60_000 });
    const said = found.flatMap((one) => (one.is === 'wrong' ? [`${one.finding.kind} ${one.finding.service}`] : []));
    assert.deepEqual(said, ['clock_skew ', 'ping_failing billing']);
  });

  it('is judged as of any other instance when contact is lost in the middle of a deploy', () => {
    const lost = instance({ state: 'STOPPED', deploying: 'STOP', checks: [check('ping', 'CRITICAL')] }, 5000);
    assert.deepEqual(verdicts({ instances: [lost] }).sort(), [
      '?ping_failing',
      '?service_fatal',
      '?service_restarting',
      '?service_stopped',
    ]);
  });

  it('cannot be said of the instances of a machine that is away', () => {
    const away = instance({ state: 'FATAL', checks: [check('ping', 'CRITICAL')] }, 5000);
    assert.deepEqual(verdicts({ instances: [away] }).sort(), [
      '?ping_failing',
      '?service_fatal',
      '?service_restarting',
      '?service_stopped',
    ]);
  });
});

const pingKey = { kind: 'ping_failing', machine: 'm-1', service: 'orders', check: 'ping' };
const failing: Verdict = { is: 'wrong', finding: { ...pingKey, severity: 'CRITICAL', message: 'fails' } };
const unsure: Verdict = { is: 'unsure', key: pingKey };

function judgement(list: readonly Verdict[], awaySinceMs?: number): Judgement {
  return { machineName: 'web-1', awaySinceMs, verdicts: list };
}

describe('alerts', () => {
  it('are raised once, kept while unsure, marked while the machine is away, and cleared', () => {
    const [raised] = planAlerts([], judgement([failing]), 1000);
    assert.ok(raised);
    assert.deepEqual(planAlerts([raised], judgement([failing]), 2000), []);
    assert.deepEqual(planAlerts([raised], judgement([unsure]), 2000), []);
    const [marked] = planAlerts([raised], judgement([unsure], 1500), 2000);
    assert.equal(marked?.unknownSinceMs, 1500);
    assert.ok(marked);
    const [unmarked] = planAlerts([marked], judgement([failing]), 3000);
    assert.deepEqual([unmarked?.unknownSinceMs, unmarked?.raisedMs], [undefined, 1000]);
    const [cleared] = planAlerts([raised], judgement([]), 4000);
    assert.deepEqual([cleared?.clearedMs, cleared?.id], [4000, raised.id]);
  });

  it('are not unknown since before they were raised, also where the last contact that is known is older', () => {
    const [raised] = planAlerts([], judgement([failing]), 1000);
    assert.ok(raised);
    const [marked] = planAlerts([raised], judgement([unsure], 400), 2000);
    assert.equal(marked?.unknownSinceMs, 1000);
  });

  it('of checks are kept while nothing checks the service, and those of others are not', () => {
    const [raised] = planAlerts([], judgement([failing]), 1000);
    assert.ok(raised);
    const unchecked = (service: string): Verdict => ({ is: 'unchecked', service });
    assert.deepEqual(planAlerts([raised], judgement([unchecked('orders')]), 2000), []);
    assert.equal(planAlerts([raised], judgement([unchecked('billing')]), 2000)[0]?.clearedMs, 2000);
    const fatal = { ...raised, kind: 'service_fatal', check: '' };
    assert.equal(planAlerts([fatal], judgement([unchecked('orders')]), 2000)[0]?.clearedMs, 2000);
  });

  it('of a service are neither raised, changed nor cleared while it is deployed, and are as it is afterwards', () => {
    const ill = { checks: [check('ping', 'CRITICAL')] };
    const judged = (report: Partial<InstanceReport>, unknownSinceMs?: number): Judgement =>
      judgement(judgeMachine({ ...well, instances: [instance(report, unknownSinceMs)] }));
    assert.deepEqual(planAlerts([], judged({ ...ill, deploying: 'VERIFY' }), 1000), []);
    const [raised] = planAlerts([], judged(ill), 1000);
    assert.ok(raised);
    for (const report of [{}, ill, { checks: [check('ping', 'PASSING')] }, { state: 'FATAL' as const }]) {
      assert.deepEqual(planAlerts([raised], judged({ ...report, deploying: 'START' }), 2000), []);
    }
    const [cleared] = planAlerts([raised], judged({ checks: [check('ping', 'PASSING')] }), 3000);
    assert.equal(cleared?.clearedMs, 3000);
    assert.deepEqual(
      planAlerts([], judged({ state: 'FATAL' }), 3000).map(({ kind }) => kind),
      ['service_fatal'],
    );
  });

  it('are not raised by what is unsure', () => {
    assert.deepEqual(planAlerts([], judgement([unsure]), 1000), []);
  });

  it('never has two open with one key, whatever happens', () => {
    const verdict = fc.constantFrom('wrong', 'unsure', 'well');
    fc.assert(
      fc.property(fc.array(verdict, { maxLength: 20 }), (steps) => {
        const all = new Map<string, AlertRecord>();
        steps.forEach((step, index) => {
          const open = [...all.values()].filter(({ clearedMs }) => clearedMs === undefined);
          const list = step === 'wrong' ? [failing] : step === 'unsure' ? [unsure] : [];
          for (const alert of planAlerts(open, judgement(list), index)) all.set(alert.id, alert);
          const keys = [...all.values()].filter(({ clearedMs }) => clearedMs === undefined).map(keyText);
          assert.equal(new Set(keys).size, keys.length);
          assert.equal(keys.length > 0, step === 'wrong' || (step === 'unsure' && open.length > 0));
        });
      }),
    );
  });

  it('that could not be stored are stored within a second', async () => {
    const store = new HeldStore(await openMemoryStore());
    const clock = new ManualClock();
    const table = await Table.open<AlertRecord>({ store, prefix: 'alert/', clock, logger: silentLogger });
    const judge = () => judgement([failing]);
    const alerts = new Alerts({ table, clock, logger: silentLogger, judge, ripening: () => [] });
    const controller = new AbortController();
    const running = alerts.run(new Changes(clock).watch(controller.signal), controller.signal);
    store.fail(new MusterError('exhausted', 'the disk is full'));
    await alerts.look('m-1');
    assert.deepEqual(alerts.open(), []);
    store.fail();
    await clock.advance(1000);
    assert.equal(alerts.open().length, 1);
    controller.abort();
    await running.catch(() => undefined);
  });

  it('outlive a restart and are seen only once durable', async () => {
    const store = await openMemoryStore();
    const clock = new ManualClock();
    let list: Verdict[] = [failing];
    const open = async (): Promise<Alerts> => {
      const table = await Table.open<AlertRecord>({ store, prefix: 'alert/', clock, logger: silentLogger });
      return new Alerts({ table, clock, logger: silentLogger, judge: () => judgement(list), ripening: () => [] });
    };
    const first = await open();
    await Promise.all([first.look('m-1'), first.look('m-1'), first.look('m-1')]);
    assert.equal(first.open().length, 1);
    const second = await open();
    assert.deepEqual(
      second.open().map(({ id }) => id),
      first.open().map(({ id }) => id),
    );
    list = [];
    await second.look('m-1');
    assert.deepEqual(second.open(), []);
    assert.equal(second.list().length, 1);
    await store.close();
  });
});
