import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { OperationWish } from '../../../../src/center/operations/records.js';
import { MusterError } from '../../../../src/kit/errors.js';
import type { RollbackScope } from '../../../../src/model/release.js';
import { deployed, deployReport } from '../../../support/deploys.js';
import { releaseRef } from '../../../support/fake-releases.js';
import { OperationsHost, PATIENCE_MS, SERVICE } from '../../../support/operations-host.js';

const V1 = releaseRef(SERVICE, '1.0.0', { lib: '1.0.0' });
const V2 = releaseRef(SERVICE, '2.0.0', { lib: '2.0.0' });
const ONE_BY_ONE = { batch: '1' };

async function hostOf(t: TestContext, ...machines: string[]): Promise<OperationsHost> {
  const host = await OperationsHost.start(t, machines);
  for (const release of [V1, V2]) host.releases.put(release);
  return host;
}

function deploy(host: OperationsHost, onFailure: RollbackScope = 'TARGET', facts: Partial<OperationWish> = {}) {
  return host.wish({ action: 'DEPLOY', deploy: { version: '2.0.0', onFailure }, ...facts });
}

async function refusal(asked: Promise<unknown>): Promise<MusterError> {
  const error = await asked.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof MusterError, 'it was not refused');
  return error;
}

/** The operations there are, the oldest first: `ACTION STATE`. */
function all(host: OperationsHost): string[] {
  return host.operations.ledger
    .list()
    .sort((a, b) => a.record.number - b.record.number)
    .map(({ record, state }) => `${record.action} ${state}`);
}

/** One by one: the first machines succeed, the next fails. Resolves with the ids of the deploy and of what it led to. */
async function failingOn(
  host: OperationsHost,
  succeeding: readonly string[],
  failing: string,
  wish: OperationWish,
): Promise<{ readonly deploy: string; readonly rollback: string | undefined }> {
  const { record } = await host.operations.start(wish);
  await host.rest();
  for (const machine of succeeding) await host.report(machine, 'SUCCEEDED', deployed(V1, V2));
  await host.report(failing, 'FAILED');
  return { deploy: record.id, rollback: host.operations.ledger.rolledBackBy(record.id) };
}

describe('a deploy', () => {
  it('orders the release as it was when the operation began, with its modules', async (t) => {
    const host = await hostOf(t, 'a');
    const { record } = await host.operations.start(deploy(host));
    await host.rest();
    assert.deepEqual(host.orders[0]?.deploy?.release, V2);
    assert.equal(host.orders[0].deploy.moduleArtifacts[0]?.digest, V2.modules[0]?.digest);
    assert.equal(host.orders[0].expiresInMs, 30 * 60_000);
    assert.deepEqual(record.release, V2);
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    assert.equal(host.stateOf(record.id), 'SUCCEEDED');
    assert.deepEqual(all(host), ['DEPLOY SUCCEEDED']);
  });

  it('of a version that is not there is refused, naming the nearest, and nothing is stored', async (t) => {
    const host = await hostOf(t, 'a');
    const wish = host.wish({ action: 'DEPLOY', deploy: { version: '2.0.1', onFailure: 'TARGET' } });
    const error = await refusal(host.operations.start(wish));
    assert.deepEqual([error.code, error.reason], ['not_found', 'RELEASE_UNKNOWN']);
    assert.match(error.message, /Did you mean "2.0.0"/);
    assert.throws(() => host.operations.plan(wish), { code: 'not_found' });
    assert.deepEqual(host.operations.ledger.list(), []);
  });

  it('fails on machines whose turn comes when the release is gone, or is another archive', async (t) => {
    for (const replaced of [false, true]) {
      const host = await hostOf(t, 'a', 'b');
      const { record } = await host.operations.start(deploy(host, 'TARGET', { strategy: ONE_BY_ONE }));
      await host.rest();
      host.releases.remove(SERVICE, '2.0.0');
      if (replaced) host.releases.put({ ...V2, digest: V1.digest });
      await host.report('a', 'SUCCEEDED', deployed(V1, V2));
      assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b FAILED']);
      const [, b] = host.operations.ledger.targetsOf(record.id);
      assert.match(
        b?.message ?? '',
        replaced ? /it was not sent: .* is another archive/ : /it was not sent: .* no release/,
      );
      assert.equal(host.orders.length, 1);
    }
  });

  it('goes with a selector also to machines that do not have the service, without one to those that have it', async (t) => {
    const host = await hostOf(t, 'a', 'b', 'c');
    host.absent.add('b');
    const names = (selector: string): string[] =>
      host.operations.plan(deploy(host, 'TARGET', { selector })).targets.map(({ candidate: { name } }) => name);
    assert.deepEqual(names(''), ['a', 'c']);
    assert.deepEqual(names('machine in (a,b)'), ['a', 'b']);
    for (const machine of ['a', 'b', 'c']) host.absent.add(machine);
    assert.deepEqual(names('machine=b'), ['b']);
    const error = await refusal(host.operations.start(deploy(host)));
    assert.match(error.message, /no machine has service "orders" yet: say where to deploy it with --on/);
    const restart = await refusal(host.operations.start(host.wish({ selector: 'machine=b' })));
    assert.equal(restart.reason, 'SERVICE_UNKNOWN');
  });

  it('bakes on a machine that had not had the service: until its agent tells of it, it is waited for', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    host.absent.add('a').add('b');
    const strategy = { canary: 1, bakeMs: 5000 };
    const { record } = await host.operations.start(deploy(host, 'TARGET', { selector: 'machine=*', strategy }));
    await host.rest();
    await host.report('a', 'SUCCEEDED', deployed(undefined, V2));
    await host.rest(6000);
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b PENDING']);
    host.absent.delete('a');
    host.operations.poke();
    await host.rest(1000);
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b DELIVERED']);
  });

  it('does not call a canary ill that stays stopped, nor one whose deploy is just ending', async (t) => {
    for (const [wanted, expected] of [
      [false, 'b DELIVERED'],
      [true, 'b CANCELLED'],
    ] as const) {
      const host = await hostOf(t, 'a', 'b');
      const strategy = { canary: 1, bakeMs: 10_000 };
      const { record } = await host.operations.start(deploy(host, 'TARGET', { strategy }));
      await host.rest();
      host.states.set('a', 'STOPPED');
      host.reports.set('a', { wanted, deploying: 'VERIFY' });
      await host.report('a', 'SUCCEEDED', deployed(V1, V2));
      await host.rest(1000);
      assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', 'b PENDING'], 'its report is of before the end');
      host.reports.set('a', { wanted });
      host.operations.poke();
      await host.rest(10_000);
      assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED', expected]);
    }
  });

  it('is refused while another has the service, or waits for it', async (t) => {
    const host = await hostOf(t, 'a');
    const first = await host.operations.start(deploy(host));
    assert.equal((await refusal(host.operations.start(deploy(host)))).reason, 'OPERATION_HELD');
    assert.equal((await refusal(host.operations.start(host.wish()))).reason, 'OPERATION_HELD');
    const second = await host.operations.start(deploy(host, 'TARGET', { wait: true }));
    assert.equal(second.state, 'WAITING');
    await host.rest();
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    await host.report('a', 'SUCCEEDED', deployed(V2, V2));
    assert.deepEqual([host.stateOf(first.record.id), host.stateOf(second.record.id)], ['SUCCEEDED', 'SUCCEEDED']);
  });

  it('is not kept out by backups, nor keeps them out', async (t) => {
    const host = await hostOf(t, 'a');
    for (const action of ['BACKUP', 'VERIFY_BACKUP'] as const) await host.operations.start(host.wish({ action }));
    await host.operations.start(deploy(host));
    await host.operations.start(host.wish({ action: 'BACKUP' }));
    await host.rest();
    assert.deepEqual(
      host.orders.map(({ action }) => action),
      ['BACKUP', 'VERIFY_BACKUP', 'DEPLOY', 'BACKUP'],
    );
    assert.equal((await refusal(host.operations.start(host.wish({ action: 'RESTORE' })))).reason, 'OPERATION_HELD');
  });

  it('is tried again on the machines where it failed, with the release as it is now', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    const { deploy: id } = await failingOn(host, ['a'], 'b', deploy(host, 'TARGET', { strategy: ONE_BY_ONE }));
    assert.equal(host.stateOf(id), 'FAILED');
    const again = await host.operations.retry(id, host.wish(), false);
    await host.rest();
    assert.deepEqual(host.orders.at(-1)?.deploy?.release, V2);
    await host.report('b', 'SUCCEEDED', deployed(V1, V2));
    assert.equal(host.stateOf(again.record.id), 'SUCCEEDED');
    host.releases.remove(SERVICE, '2.0.0');
    assert.equal((await refusal(host.operations.retry(id, host.wish(), false))).code, 'not_found');
  });

  it('names the releases that may not be removed meanwhile', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    const { record } = await host.operations.start(deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
    await host.rest();
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    const inUse = (): string[] => host.operations.releasesInUse().map(({ version }) => version);
    assert.deepEqual(inUse(), ['2.0.0', '1.0.0']);
    await host.report('b', 'FAILED');
    assert.ok(inUse().includes('1.0.0'), 'what is being put back');
    await host.report('a', 'SUCCEEDED');
    assert.equal(host.stateOf(record.id), 'FAILED');
    assert.deepEqual(inUse(), []);
  });
});

describe('how far a deploy is', () => {
  it('is shown while it runs, at most once a second, and the last of it is never lost', async (t) => {
    const host = await hostOf(t, 'a');
    const { record } = await host.operations.start(deploy(host));
    await host.rest();
    const shown = (): string | undefined =>
      host.operations.ledger.targetsOf(record.id)[0]?.result?.deploy?.steps.at(-1)?.step;
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH']) } });
    assert.equal(shown(), 'FETCH');
    let changes = 0;
    const off = host.commands.changes.listen(() => {
      changes += 1;
    });
    for (const step of ['BACKUP', 'MODULES', 'UNPACK', 'INSTALL', 'STOP'] as const) {
      await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH', step]) } });
    }
    assert.deepEqual([changes, shown()], [1, 'BACKUP'], 'the first at once, the others wait');
    await host.rest(1500);
    assert.deepEqual([changes, shown()], [2, 'STOP'], 'the newest alone');
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH', 'STOP']) } });
    await host.rest(3000);
    assert.equal(changes, 2, 'what is no news is not written');
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH', 'START']) } });
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH', 'VERIFY']) } });
    await host.lose('a');
    assert.equal(shown(), 'VERIFY', 'what waited is stored with the loss');
    assert.deepEqual(host.outcomes(record.id), ['a UNKNOWN']);
    off();
  });

  it('stays with an end that does not say it, and nothing that comes after the end counts', async (t) => {
    const host = await hostOf(t, 'a');
    const { record } = await host.operations.start(deploy(host));
    await host.rest();
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH']) } });
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH', 'UNPACK']) } });
    await host.report('a', 'FAILED', { message: 'the disk is full' });
    const target = () => host.operations.ledger.targetsOf(record.id)[0];
    assert.equal(target()?.result?.deploy?.steps.at(-1)?.step, 'UNPACK');
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['STOP']) } });
    await host.rest(5000);
    assert.deepEqual([target()?.outcome, target()?.result?.deploy?.steps.length], ['FAILED', 2]);
  });

  it('is stored when there is room again', async (t) => {
    const host = await hostOf(t, 'a');
    const { record } = await host.operations.start(deploy(host));
    await host.rest();
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH']) } });
    const write = host.store.write.bind(host.store);
    host.store.write = () => Promise.reject(new MusterError('exhausted', 'no room'));
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['UNPACK']) } });
    await host.rest(3000);
    host.store.write = write;
    await host.rest(3000);
    const [target] = host.operations.ledger.targetsOf(record.id);
    assert.equal(target?.result?.deploy?.steps[0]?.step, 'UNPACK');
  });

  it('of one that was given up since it takes too long changes nothing but that, and its end counts', async (t) => {
    const host = await hostOf(t, 'a');
    const { record } = await host.operations.start(deploy(host, 'TARGET', { strategy: { targetTimeoutMs: 60_000 } }));
    await host.rest();
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH']) } });
    await host.rest(60_000);
    assert.deepEqual(host.outcomes(record.id), ['a UNKNOWN']);
    let changes = 0;
    const off = host.commands.changes.listen(() => {
      changes += 1;
    });
    for (const step of ['UNPACK', 'INSTALL', 'STOP'] as const) {
      await host.report('a', 'STARTED', { result: { deploy: deployReport(['FETCH', step]) } });
    }
    await host.rest(2000);
    off();
    const [target] = host.operations.ledger.targetsOf(record.id);
    assert.deepEqual([target?.outcome, target?.result?.deploy?.steps.at(-1)?.step, changes], ['UNKNOWN', 'STOP', 2]);
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    assert.deepEqual(host.outcomes(record.id), ['a SUCCEEDED']);
  });

  it('goes on as STARTED when the agent was killed and resumes it', async (t) => {
    const host = await hostOf(t, 'a');
    const { record } = await host.operations.start(deploy(host));
    await host.rest();
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['UNPACK']) } });
    await host.lose('a');
    await host.rest(2 * PATIENCE_MS);
    host.connected.add('a');
    await host.report('a', 'STARTED', { result: { deploy: deployReport(['UNPACK', 'STOP']) } });
    assert.deepEqual(host.outcomes(record.id), ['a STARTED']);
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    assert.equal(host.stateOf(record.id), 'SUCCEEDED');
  });
});

describe('what a stopped deploy deployed', () => {
  it('stays where only failed targets are put back', async (t) => {
    const host = await hostOf(t, 'a', 'b', 'c');
    const { rollback } = await failingOn(host, ['a'], 'b', deploy(host, 'TARGET', { strategy: ONE_BY_ONE }));
    assert.equal(rollback, undefined);
    assert.deepEqual(all(host), ['DEPLOY FAILED']);
  });

  it('is put back everywhere by a second operation, to what each machine ran from', async (t) => {
    const host = await hostOf(t, 'a', 'b', 'c', 'd');
    const { record } = await host.operations.start(deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
    await host.rest();
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    await host.report('b', 'SUCCEEDED', deployed(releaseRef(SERVICE, '0.9.0'), V2));
    await host.report('c', 'FAILED', deployed(V1, V2));
    const id = host.operations.ledger.rolledBackBy(record.id);
    assert.ok(id);
    const { record: back } = host.operations.ledger.require(id);
    assert.deepEqual([back.action, back.rollbackOf, back.createdBy], ['ROLLBACK', record.id, 'ann']);
    assert.match(back.reason, new RegExp(`puts back what ${record.id} deployed: 1 of 4 targets failed`));
    assert.deepEqual(host.outcomes(id), ['a DELIVERED', 'b PENDING']);
    assert.equal(host.orders.at(-1)?.rollback?.version, '1.0.0');
    assert.deepEqual(host.orders.at(-1)?.rollback?.release?.release, V1);
    await host.report('a', 'FAILED');
    assert.deepEqual(host.orders.at(-1)?.rollback, { version: '0.9.0', release: undefined });
    await host.report('b', 'SUCCEEDED');
    assert.equal(host.stateOf(id), 'PARTIAL', 'one that fails does not keep the others back');
    assert.deepEqual(all(host), ['DEPLOY FAILED', 'ROLLBACK PARTIAL']);
  });

  it('is put back of the last batch alone where that is asked for', async (t) => {
    const host = await hostOf(t, 'a', 'b', 'c', 'd', 'e', 'f');
    const wish = deploy(host, 'BATCH', { strategy: { batch: '2' } });
    const { rollback } = await failingOn(host, ['a', 'b', 'c', 'd'], 'e', wish);
    assert.equal(rollback, undefined, 'f is still under way');
    await host.report('f', 'SUCCEEDED', deployed(V1, V2));
    const [, second] = host.operations.ledger.list().map(({ record }) => record.id);
    assert.deepEqual(host.outcomes(second ?? ''), ['d DELIVERED', 'f DELIVERED']);
  });

  it('is put back when canaries fail or time is over, not when a person cancels', async (t) => {
    const canary = await hostOf(t, 'a', 'b', 'c');
    const failing = await failingOn(canary, ['a'], 'b', deploy(canary, 'ALL', { strategy: { canary: 2 } }));
    assert.deepEqual(canary.outcomes(failing.rollback ?? ''), ['a DELIVERED']);

    const late = await hostOf(t, 'a', 'b');
    await late.operations.start(deploy(late, 'ALL', { strategy: { ...ONE_BY_ONE, timeoutMs: 60_000 } }));
    await late.rest();
    await late.report('a', 'SUCCEEDED', deployed(V1, V2));
    await late.rest(60_000);
    await late.report('b', 'SUCCEEDED', deployed(V1, V2));
    assert.deepEqual(all(late), ['DEPLOY FAILED', 'ROLLBACK RUNNING']);

    const cancelled = await hostOf(t, 'a', 'b');
    const { record } = await cancelled.operations.start(deploy(cancelled, 'ALL', { strategy: ONE_BY_ONE }));
    await cancelled.rest();
    await cancelled.report('a', 'SUCCEEDED', deployed(V1, V2));
    await cancelled.operations.cancel(record.id, 'ann');
    await cancelled.report('b', 'SUCCEEDED', deployed(V1, V2));
    assert.deepEqual(all(cancelled), ['DEPLOY CANCELLED']);
  });

  it('is not touched where nothing changed, and refused where there was no release before', async (t) => {
    const host = await hostOf(t, 'a', 'b', 'c');
    const { record } = await host.operations.start(deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
    await host.rest();
    await host.report('a', 'SUCCEEDED', deployed(V2, V2));
    await host.report('b', 'SUCCEEDED', deployed(undefined, V2));
    await host.report('c', 'FAILED');
    const id = host.operations.ledger.rolledBackBy(record.id) ?? '';
    assert.deepEqual(host.outcomes(id), ['b FAILED']);
    const [b] = host.operations.ledger.targetsOf(id);
    assert.match(b?.message ?? '', /b ran from no release before operation .*: there is none to put back/);
  });

  it('is put back before others that wait have their turn, and keeps new ones out', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    const { record } = await host.operations.start(deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
    await host.rest();
    const waiting = await host.operations.start(host.wish({ wait: true }));
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    // Somebody asks again and again, also in the very moment in which the deploy ends.
    let refused = 0;
    const off = host.commands.changes.listen(() => {
      host.operations.start(host.wish()).catch((error: unknown) => {
        if (error instanceof MusterError && error.reason === 'OPERATION_HELD') refused += 1;
      });
    });
    await host.report('b', 'FAILED');
    off();
    assert.ok(refused > 0);
    const id = host.operations.ledger.rolledBackBy(record.id) ?? '';
    assert.deepEqual([host.stateOf(id), host.stateOf(waiting.record.id)], ['RUNNING', 'WAITING']);
    assert.equal((await refusal(host.operations.start(host.wish()))).metadata['operation'], id);
    await host.report('a', 'SUCCEEDED');
    assert.deepEqual([host.stateOf(id), host.stateOf(waiting.record.id)], ['SUCCEEDED', 'RUNNING']);
    assert.deepEqual(all(host), ['DEPLOY FAILED', 'RESTART RUNNING', 'ROLLBACK SUCCEEDED']);
  });

  it('is put back once, wherever the center is killed around the end of the deploy', async (t) => {
    for (let after = 0; after < 12; after += 1) {
      const host = await hostOf(t, 'a', 'b');
      const { record } = await host.operations.start(deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
      await host.rest();
      await host.report('a', 'SUCCEEDED', deployed(V1, V2));
      const write = host.store.write.bind(host.store);
      let writes = 0;
      // Nothing that a killed process was waiting for ever comes.
      host.store.write = (mutations) => {
        writes += 1;
        return writes <= after ? write(mutations) : new Promise(() => undefined);
      };
      void host.report('b', 'FAILED');
      await host.rest();
      host.stop();
      host.store.write = write;
      const next = await OperationsHost.start(t, ['a', 'b'], host);
      for (const release of [V1, V2]) next.releases.put(release);
      await next.rest();
      // Both agents are back, and say what they know.
      const held = next.operations.ledger.targetsOf(record.id);
      for (const machine of ['a', 'b']) {
        const mine = held.find((target) => target.machine === machine);
        const outcome = machine === 'a' ? 'SUCCEEDED' : 'FAILED';
        const report = { message: '', startedMs: 1, endedMs: 2, ...deployed(V1, V2) };
        if (mine) await next.commands.held(machine, [{ command: mine.id, outcome, ...report }], () => true);
      }
      next.operations.poke();
      await next.rest();
      const id = next.operations.ledger.rolledBackBy(record.id);
      assert.ok(id, `after ${after} writes nothing is put back`);
      assert.equal(next.operations.ledger.list().length, 2, `after ${after} writes: ${all(next).join(', ')}`);
      assert.deepEqual(next.outcomes(id), ['a DELIVERED'], `after ${after} writes`);
      assert.equal(next.orders.at(-1)?.rollback?.version, '1.0.0');
      await next.report('a', 'SUCCEEDED');
      assert.deepEqual(all(next), ['DEPLOY FAILED', 'ROLLBACK SUCCEEDED'], `after ${after} writes`);
      next.stop();
    }
  });

  it('is put back once the disk has room, when it had none at the end of the deploy', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    const { record } = await host.operations.start(deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
    await host.rest();
    await host.report('a', 'SUCCEEDED', deployed(V1, V2));
    const write = host.store.write.bind(host.store);
    let writes = 0;
    host.store.write = (mutations) => {
      writes += 1;
      return writes > 2 && writes < 6 ? Promise.reject(new MusterError('exhausted', 'no room')) : write(mutations);
    };
    await host.report('b', 'FAILED');
    for (let round = 0; round < 8; round += 1) await host.rest(1000);
    const id = host.operations.ledger.rolledBackBy(record.id) ?? '';
    assert.deepEqual(host.outcomes(id), ['a DELIVERED']);
    assert.equal(host.operations.ledger.list().length, 2);
  });

  it('can be tried again where putting back failed, and takes its own turn then', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    const { rollback = '' } = await failingOn(host, ['a'], 'b', deploy(host, 'ALL', { strategy: ONE_BY_ONE }));
    await host.report('a', 'FAILED');
    const busy = await host.operations.start(host.wish());
    const again = await host.operations.retry(rollback, host.wish({ wait: true }), false);
    assert.equal(again.state, 'WAITING');
    assert.equal(host.stateOf(busy.record.id), 'RUNNING');
    await host.rest();
    await host.report('a', 'SUCCEEDED');
    await host.report('b', 'SUCCEEDED');
    await host.rest();
    assert.equal(host.orders.at(-1)?.rollback?.version, '1.0.0');
    assert.equal(host.operations.ledger.rolledBackBy(again.record.rollbackOf ?? ''), rollback);
  });
});

describe('a rollback', () => {
  it('goes to the version that is named, wherever it is, or leaves that to its agents', async (t) => {
    const host = await hostOf(t, 'a', 'b');
    const rollback = (version: string) => host.wish({ action: 'ROLLBACK', deploy: { version, onFailure: 'TARGET' } });
    const first = await host.operations.start(rollback(''));
    await host.rest();
    assert.deepEqual(host.orders[0]?.rollback, { version: '', release: undefined });
    await host.report('a', 'SUCCEEDED');
    await host.report('b', 'SUCCEEDED');
    assert.equal(host.stateOf(first.record.id), 'SUCCEEDED');
    await host.operations.start(rollback('1.0.0'));
    await host.rest();
    assert.deepEqual(host.orders.at(-1)?.rollback?.release?.release, V1);
    await host.report('a', 'SUCCEEDED');
    await host.report('b', 'SUCCEEDED');
    host.reports.set('b', { heldReleases: [releaseRef(SERVICE, '0.9.0')] });
    const error = await refusal(host.operations.start(rollback('0.9.1')));
    assert.match(error.message, /no release "0.9.1" to go back to. Did you mean "0.9.0"/);
    await host.operations.start(rollback('0.9.0'));
  });

  it('goes on to what machines hold when the center cannot send it any more', async (t) => {
    const host = await hostOf(t, 'a');
    host.releases.problem = new MusterError('precondition', 'its key was revoked');
    await host.operations.start(host.wish({ action: 'ROLLBACK', deploy: { version: '1.0.0', onFailure: 'TARGET' } }));
    await host.rest();
    assert.deepEqual(host.orders[0]?.rollback, { version: '1.0.0', release: undefined });
  });
});

describe('backups', () => {
  it('carry which one to verify or restore, and how', async (t) => {
    const host = await hostOf(t, 'a');
    const backup = { backup: 'b-1', paths: ['data/'], aside: true };
    await host.operations.start(host.wish({ action: 'BACKUP' }));
    await host.operations.start(host.wish({ action: 'VERIFY_BACKUP' }));
    await host.operations.start(host.wish({ action: 'RESTORE', backup }));
    await host.rest();
    assert.deepEqual(
      host.orders.map((order) => [order.action, order.backup, order.expiresInMs]),
      [
        ['BACKUP', undefined, 6 * 3_600_000],
        ['VERIFY_BACKUP', { backup: '', paths: [], aside: false }, 6 * 3_600_000],
        ['RESTORE', backup, 6 * 3_600_000],
      ],
    );
  });
});
