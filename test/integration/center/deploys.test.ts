import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  CommandUpdate,
  RetryOperationRequest,
  StartOperationRequest,
  type CommandOrder,
  type Operation,
  type PlannedTarget,
  type Release,
} from '../../../generated/muster/v1/center.js';
import {
  Instance,
  type DeployReport,
  type DeepPartial,
  type Outcome,
  type ReleaseRef,
} from '../../../generated/muster/v1/types.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs, type AgentStream } from '../../support/fake-agent.js';
import { Releaser } from '../../support/releases.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const SERVICE = 'orders';
const CAPABILITIES = ['search', 'deploy', 'backup'];

interface Machine {
  readonly agent: FakeAgent;
  stream: AgentStream;
}

/** A center with releases of `orders`, and agents that do with orders what a test says. */
class DeploySite {
  readonly center: TestCenter;
  readonly releases: readonly Release[];
  readonly #t: TestContext;
  readonly #machines = new Map<string, Machine>();

  private constructor(t: TestContext, center: TestCenter, releases: readonly Release[]) {
    this.#t = t;
    this.center = center;
    this.releases = releases;
  }

  static async start(t: TestContext): Promise<DeploySite> {
    const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
    const releaser = await Releaser.open(t);
    await releaser.enroll(center.operator);
    for (const version of ['1.0.0', '2.0.0']) {
      await releaser.pushModule(center.operator, await releaser.module('lib', version));
    }
    const lines = (lib: string, port: number): string[] => [
      'command: ["./run.sh"]',
      `modules: { lib: "${lib}" }`,
      `ports: [{ name: http, port: ${port} }]`,
    ];
    const releases = [
      await releaser.pushRelease(
        center.operator,
        await releaser.release(SERVICE, '1.0.0', { lines: lines('1.0.0', 80), files: { 'run.sh': 'one' } }),
      ),
      await releaser.pushRelease(
        center.operator,
        await releaser.release(SERVICE, '2.0.0', {
          lines: [...lines('2.0.0', 8080), 'user: orders'],
          files: { 'run.sh': 'two' },
        }),
      ),
    ];
    return new DeploySite(t, center, releases);
  }

  ref(version: string): ReleaseRef {
    const release = this.releases.find((one) => one.version === version);
    assert.ok(release?.artifact);
    const { service, modules, artifact } = release;
    return { service, version, digest: artifact.digest, modules, configRevision: 0 };
  }

  async join(name: string, labels: Record<string, string>, capabilities = CAPABILITIES): Promise<void> {
    const caPem = await readFile(join(this.center.data, 'ca', 'ca.pem'), 'utf8');
    const token = await this.center.token();
    const identified = await joinAs(this.center.address, { token, name, labels, caPem });
    const agent = new FakeAgent(this.#t, this.center.address, name, identified);
    this.#machines.set(name, { agent, stream: await agent.connect({ capabilities }) });
  }

  stream(name: string): AgentStream {
    const found = this.#machines.get(name);
    assert.ok(found, name);
    return found.stream;
  }

  /** The machine says how the service is. */
  async tell(name: string, facts: DeepPartial<Instance> = {}): Promise<void> {
    const state = 'SERVICE_STATE_RUNNING';
    const instance = Instance.fromPartial({
      service: SERVICE,
      state,
      wanted: true,
      health: 'HEALTH_PASSING',
      ...facts,
    });
    await this.stream(name).report(instance);
    await waitFor(`what ${name} told`, async () => {
      const found = await this.center.operator.getInstance({ machine: name, service: SERVICE }).catch(() => undefined);
      return found?.deploying === (facts.deploying ?? 'DEPLOY_STEP_UNSPECIFIED') && found;
    });
  }

  start(fields: DeepPartial<StartOperationRequest>): Promise<Operation> {
    return this.center.operator.startOperation(this.wish(fields));
  }

  wish(fields: DeepPartial<StartOperationRequest>): StartOperationRequest {
    return StartOperationRequest.fromPartial({ action: 'ACTION_DEPLOY', service: SERVICE, ...fields });
  }

  async plan(fields: DeepPartial<StartOperationRequest>): Promise<PlannedTarget[]> {
    return (await this.center.operator.planOperation(this.wish(fields))).targets;
  }

  order(name: string, action: CommandOrder['action'] = 'ACTION_DEPLOY'): Promise<CommandOrder> {
    return this.stream(name).awaited('command', (order) => order.action === action);
  }

  async report(name: string, command: string, outcome: Outcome, deploy?: DeepPartial<DeployReport>): Promise<void> {
    const value = CommandUpdate.fromPartial({ command, outcome, service: SERVICE, deploy });
    await this.stream(name).send({ $case: 'commandUpdate', value });
  }

  async outcomes(id: string): Promise<string[]> {
    const { targets } = await this.center.operator.listTargets({
      operation: id,
      outcomes: [],
      pageSize: 0,
      pageToken: '',
    });
    return targets.map(({ machineName, outcome }) => `${machineName} ${outcome.replace('OUTCOME_', '')}`);
  }

  until(id: string, state: string): Promise<Operation> {
    return waitFor(`${id} to be ${state}`, async () => {
      const found = await this.center.operator.getOperation({ id });
      return found.state === `OPERATION_STATE_${state}` && found;
    });
  }
}

const V2 = { version: '2.0.0' };

describe('a deploy over real calls', () => {
  it('is planned with what would change on each machine, and nothing happens', async (t) => {
    const site = await DeploySite.start(t);
    for (const name of ['first', 'new', 'same', 'stopped', 'upgrade']) await site.join(name, { role: 'web' });
    await site.join('old', { role: 'web' }, ['search']);
    await site.join('other', { role: 'db' });
    await site.tell('first');
    await site.tell('upgrade', { release: site.ref('1.0.0') });
    await site.tell('same', { release: site.ref('2.0.0') });
    await site.tell('stopped', { release: site.ref('1.0.0'), wanted: false, state: 'SERVICE_STATE_STOPPED' });
    const planned = await site.plan({ selector: 'role=web', deploy: V2 });
    const changes = Object.fromEntries(planned.map((target) => [target.machineName, target.changes]));
    const upgrade = [
      'version 1.0.0 -> 2.0.0',
      'module lib 1.0.0 -> 2.0.0',
      'user the default -> orders',
      'port http 127.0.0.1:80 -> 127.0.0.1:8080',
    ];
    assert.deepEqual(changes, {
      first: ['the first release: until now it runs from a manifest of its machine'],
      new: ['orders is new on this machine'],
      old: ['orders is new on this machine'],
      same: ['the same release again'],
      stopped: [...upgrade, 'it is stopped and stays stopped: nothing is verified'],
      upgrade,
    });
    for (const { machineName, from, to, problem } of planned) {
      assert.equal(to?.version, '2.0.0');
      assert.equal(from?.version ?? '', { same: '2.0.0', stopped: '1.0.0', upgrade: '1.0.0' }[machineName] ?? '');
      assert.equal(/too old to deploy releases: upgrade it/.test(problem), machineName === 'old', problem);
    }
    assert.deepEqual(
      (await site.plan({ deploy: { version: '1.0.0' } })).map(({ machineName, changes: [change] }) => [
        machineName,
        change,
      ]),
      [
        ['first', 'the first release: until now it runs from a manifest of its machine'],
        ['same', 'downgrade 2.0.0 -> 1.0.0'],
        ['stopped', 'the same release again'],
        ['upgrade', 'the same release again'],
      ],
    );
    assert.deepEqual(site.stream('upgrade').all('command'), []);
  });

  it('of a rollback says what each machine goes back to, with its configuration', async (t) => {
    const site = await DeploySite.start(t);
    for (const name of ['a', 'b', 'c']) await site.join(name, {});
    const release = { ...site.ref('2.0.0'), configRevision: 9 };
    await site.tell('a', { release, heldReleases: [{ ...site.ref('1.0.0'), configRevision: 4 }] });
    await site.tell('b', { release });
    await site.tell('c', {
      release,
      heldReleases: [{ ...site.ref('1.0.0'), version: '0.9.0', digest: 'f'.repeat(64) }],
    });
    const [a, b, c] = await site.plan({ action: 'ACTION_ROLLBACK' });
    assert.ok(a && b && c);
    assert.deepEqual([a.to?.version, b.to, c.to?.version], ['1.0.0', undefined, '0.9.0']);
    assert.ok(a.changes.includes('configuration revision 9 -> 4'), a.changes.join());
    assert.ok(a.changes.includes('downgrade 2.0.0 -> 1.0.0'));
    assert.equal(b.problem, 'b holds no release to go back to');
    const [, toV1] = await site.plan({ action: 'ACTION_ROLLBACK', deploy: { version: '1.0.0' } });
    assert.ok(toV1?.changes.includes('it is downloaded: the machine does not hold it'));
    const unknown = await failureOf(site.plan({ action: 'ACTION_ROLLBACK', deploy: { version: '0.9.1' } }));
    assert.match(unknown.message, /no release "0.9.1" to go back to. Did you mean "0.9.0"/);
  });

  it('that is asked for wrongly is refused, with what is wrong and what to do', async (t) => {
    const site = await DeploySite.start(t);
    await site.join('a', { role: 'web' });
    const refused = async (fields: DeepPartial<StartOperationRequest>): Promise<string> => {
      const error = await failureOf(site.start(fields));
      assert.equal((await site.center.operator.listOperations(LIST)).operations.length, 0);
      return `${error.code} ${error.message}`;
    };
    assert.match(await refused({}), /^invalid deploy.version: say which .*"muster release ls orders"/);
    assert.match(await refused({ deploy: { version: '2.0.1' } }), /^not_found .*no release "2.0.1". Did you mean/);
    assert.match(
      await refused({ service: 'order', deploy: V2 }),
      /^not_found there is no service "order". Did you mean/,
    );
    assert.match(await refused({ deploy: V2 }), /^not_found no machine has service "orders" yet: .*--on/);
    assert.match(await refused({ deploy: V2, selector: 'machine=b' }), /^not_found .*; there are: a$|Did you mean/);
    assert.match(
      await refused({ action: 'ACTION_SEARCH' }),
      /^invalid action: must be .* or ACTION_RESTORE; .*SearchLogs/,
    );
    assert.match(await refused({ action: 'ACTION_RESTART', deploy: V2 }), /^invalid deploy: goes with ACTION_DEPLOY/);
    const onFailure = 'ROLLBACK_SCOPE_ALL';
    assert.match(await refused({ action: 'ACTION_ROLLBACK', deploy: { onFailure } }), /^invalid deploy.on_failure/);
    assert.match(await refused({ deploy: V2, backup: { backup: 'b' } }), /^invalid backup: goes with/);
    const verify = 'ACTION_VERIFY_BACKUP';
    assert.match(await refused({ action: verify, backup: { aside: true } }), /^invalid backup.aside/);
    assert.match(await refused({ action: verify, backup: { paths: ['a'] } }), /^invalid backup.paths/);
    const paths = Array.from({ length: 1001 }, () => 'p');
    assert.match(await refused({ action: 'ACTION_RESTORE', backup: { paths } }), /^invalid backup.paths: at most 1000/);
  });

  it('carries the release and its archives, shows each step, and ends with the report', async (t) => {
    const site = await DeploySite.start(t);
    await site.join('a', { role: 'web' });
    const { id } = await site.start({ selector: 'role=web', deploy: V2 });
    const order = await site.order('a');
    assert.deepEqual(order.deploy?.release, site.ref('2.0.0'));
    assert.equal(order.deploy.artifact?.digest, order.deploy.release.digest);
    assert.equal(order.deploy.moduleArtifacts.length, 1);
    const seen: string[] = [];
    const watching = (async (): Promise<void> => {
      for await (const { targets } of site.center.operator.watchOperation({ id })) {
        const [target] = targets;
        const { outcome } = target ?? {};
        const step = target?.deploy?.steps.at(-1)?.step ?? '';
        if (outcome !== undefined) seen.push(`${outcome} ${step}`);
      }
    })();
    await site.report('a', order.command, 'OUTCOME_STARTED');
    const steps = ['DEPLOY_STEP_FETCH', 'DEPLOY_STEP_STOP'] as const;
    for (const step of steps) {
      const told = { steps: [{ step, outcome: 'STEP_OUTCOME_RUNNING' as const }] };
      await site.report('a', order.command, 'OUTCOME_STARTED', told);
    }
    await waitFor('the last step to be shown', () => seen.includes('OUTCOME_STARTED DEPLOY_STEP_STOP'));
    await site.report('a', order.command, 'OUTCOME_SUCCEEDED', {
      to: site.ref('2.0.0'),
      current: site.ref('2.0.0'),
      verified: ['port http'],
      steps: [{ step: 'DEPLOY_STEP_VERIFY', outcome: 'STEP_OUTCOME_DONE', message: 'all well' }],
    });
    await watching;
    assert.equal(seen.at(-1), 'OUTCOME_SUCCEEDED DEPLOY_STEP_VERIFY');
    await site.stream('a').awaited('commandAck');
    const operation = await site.until(id, 'SUCCEEDED');
    assert.deepEqual(operation.deploy, { version: '2.0.0', onFailure: 'ROLLBACK_SCOPE_TARGET' });
    const { targets } = await site.center.operator.listTargets({
      operation: id,
      outcomes: [],
      pageSize: 0,
      pageToken: '',
    });
    assert.deepEqual(targets[0]?.deploy?.verified, ['port http']);
  });

  it('that is stopped is put back by a second operation, also when the center is restarted in between', async (t) => {
    const site = await DeploySite.start(t);
    for (const name of ['a', 'b', 'c']) await site.join(name, { role: 'web' });
    for (const name of ['a', 'b', 'c']) await site.tell(name, { release: site.ref('1.0.0') });
    const deploy = { ...V2, onFailure: 'ROLLBACK_SCOPE_ALL' as const };
    const { id } = await site.start({ deploy, strategy: { batch: '1' } });
    const change = { from: site.ref('1.0.0'), to: site.ref('2.0.0') };
    await site.report('a', (await site.order('a')).command, 'OUTCOME_SUCCEEDED', change);
    await site.report('b', (await site.order('b')).command, 'OUTCOME_FAILED', { ...change, rolledBack: true });
    const ended = await site.until(id, 'FAILED');
    assert.notEqual(ended.rolledBackBy, '');
    const order = await site.order('a', 'ACTION_ROLLBACK');
    assert.equal(order.rollback?.version, '1.0.0');
    assert.equal(order.rollback.release?.release?.digest, site.ref('1.0.0').digest);
    const busy = await failureOf(site.start({ deploy: V2 }));
    assert.match(busy.message, new RegExp(`operation ${ended.rolledBackBy}, rollback of orders`));
    await site.center.stop();
    await site.center.start();
    const { operations } = await site.center.operator.listOperations(LIST);
    assert.deepEqual(
      operations.map(({ id: one, rollbackOf, rolledBackBy }) => [one, rollbackOf, rolledBackBy]),
      [
        [ended.rolledBackBy, id, ''],
        [id, '', ended.rolledBackBy],
      ],
    );
    assert.deepEqual(await site.outcomes(ended.rolledBackBy), ['a UNKNOWN'], 'its agent is not back yet');
    assert.deepEqual(await site.outcomes(id), ['a SUCCEEDED', 'b FAILED', 'c CANCELLED']);
    const again = RetryOperationRequest.fromPartial({ id, includeCancelled: true });
    const held = await failureOf(site.center.operator.retryOperation(again));
    assert.match(held.message, /is under way/);
  });

  it('raises no alert about the instance until it is over, and then by itself', async (t) => {
    const site = await DeploySite.start(t);
    await site.join('a', {});
    const checks = [{ name: 'ping', kind: 'http', health: 'HEALTH_CRITICAL' as const }];
    const alerts = async (): Promise<string[]> => {
      const { alerts: all } = await site.center.operator.listAlerts({
        includeCleared: false,
        pageSize: 0,
        pageToken: '',
      });
      return all.map(({ kind }) => kind);
    };
    await site.tell('a', { checks, deploying: 'DEPLOY_STEP_VERIFY' });
    await site.stream('a').beat();
    const once = await alerts();
    assert.deepEqual(once, []);
    await site.tell('a', { checks });
    await waitFor('the alert', async () => (await alerts()).includes('ping_failing'));
    await site.tell('a', { checks: [], state: 'SERVICE_STATE_STOPPED', deploying: 'DEPLOY_STEP_SWITCH' });
    await site.tell('a', { checks: [{ ...checks[0], health: 'HEALTH_PASSING' }] });
    await waitFor('the alert to be cleared', async () => (await alerts()).length === 0);
  });
});

const LIST = { service: '', openOnly: false, pageSize: 0, pageToken: '' };
