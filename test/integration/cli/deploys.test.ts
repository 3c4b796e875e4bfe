import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import {
  OperationCounts,
  PlanOperationResponse,
  Strategy,
  type Command,
  type Operation,
  type StartOperationRequest,
  type WatchOperationResponse,
} from '../../../generated/muster/v1/center.js';
import { DeployReport, Instance } from '../../../generated/muster/v1/types.js';
import { operation, ScriptedCenter, STARTED, target } from '../../support/scripted-center.js';

const seconds = (count: number): Date => new Date(STARTED.getTime() + count * 1000);

function release(version: string): { service: string; version: string; digest: string } {
  return { service: 'orders', version, digest: version.padEnd(64, '0') };
}

function deploying(state: Operation['state'], fields: Parameters<typeof Operation.fromPartial>[0] = {}): Operation {
  return operation(state, { action: 'ACTION_DEPLOY', deploy: { version: '1.4.2' }, ...fields });
}

const counts = (total: number): { counts: OperationCounts } => ({ counts: OperationCounts.fromPartial({ total }) });

function at(step: 'FETCH' | 'STOP' | 'VERIFY', undo = false): { deploy: DeployReport } {
  return {
    deploy: DeployReport.fromPartial({
      from: release('1.4.1'),
      to: release('1.4.2'),
      steps: [{ step: `DEPLOY_STEP_${step}`, undo, outcome: 'STEP_OUTCOME_RUNNING' }],
    }),
  };
}

const DONE = {
  started: seconds(1),
  ended: seconds(4),
  deploy: DeployReport.fromPartial({
    from: release('1.4.1'),
    to: release('1.4.2'),
    current: release('1.4.2'),
    verified: ['port http', './verify.sh'],
    downtime: { nanos: 240_000_000 },
    steps: [
      { step: 'DEPLOY_STEP_FETCH', outcome: 'STEP_OUTCOME_DONE', took: { seconds: 1 } },
      { step: 'DEPLOY_STEP_VERIFY', outcome: 'STEP_OUTCOME_DONE', took: { seconds: 1 } },
    ],
  }),
};

const UNDONE = {
  started: seconds(1),
  ended: seconds(9),
  message: './verify.sh ended with code 3',
  exitCode: 3,
  deploy: DeployReport.fromPartial({
    from: release('1.4.1'),
    to: release('1.4.2'),
    current: release('1.4.1'),
    rolledBack: true,
    steps: [
      {
        step: 'DEPLOY_STEP_VERIFY',
        outcome: 'STEP_OUTCOME_FAILED',
        took: { seconds: 3 },
        message: './verify.sh ended with code 3',
        exitCode: 3,
        output: 'no coffee \u001b[2J\n',
      },
      { step: 'DEPLOY_STEP_START', undo: true, outcome: 'STEP_OUTCOME_DONE', took: { seconds: 1 } },
    ],
  }),
};

type Step = readonly [Operation, ...Command[]];

async function* play(steps: readonly Step[]): AsyncGenerator<WatchOperationResponse> {
  for (const [index, [told, ...targets]] of steps.entries()) {
    await Promise.resolve();
    yield { snapshot: index === 0, operation: told, targets };
  }
}

interface Fixture {
  readonly center: ScriptedCenter;
  readonly orders: StartOperationRequest[];
}

/** A center on which an operation goes as the script of its id says, the first one being what is started. */
async function fixture(t: TestContext, scripts: Readonly<Record<string, readonly Step[]>>): Promise<Fixture> {
  const orders: StartOperationRequest[] = [];
  const newest = (id: string): Operation => {
    const last = scripts[id]?.at(-1)?.[0];
    assert.ok(last, id);
    return last;
  };
  const center = await ScriptedCenter.start(t, {
    startOperation: (request) => {
      orders.push(request);
      const [first] = Object.values(scripts)[0] ?? [];
      assert.ok(first);
      return Promise.resolve(first[0]);
    },
    getOperation: ({ id }) => Promise.resolve(newest(id)),
    watchOperation: ({ id }) => play(scripts[id] ?? []),
  });
  return { center, orders };
}

const ID = operation('OPERATION_STATE_RUNNING').id;
const RUNNING = deploying('OPERATION_STATE_RUNNING', counts(1));

describe('muster deploy', () => {
  it('orders what was typed, tells each step on a line, and at the end what was done', async (t) => {
    const { center, orders } = await fixture(t, {
      [ID]: [
        [RUNNING, target(0, 'OUTCOME_STARTED', at('FETCH'))],
        [RUNNING, target(0, 'OUTCOME_STARTED', at('STOP'))],
        [RUNNING, target(0, 'OUTCOME_STARTED', at('VERIFY'))],
        [
          deploying('OPERATION_STATE_SUCCEEDED', { ...counts(1), ended: seconds(4) }),
          target(0, 'OUTCOME_SUCCEEDED', DONE),
        ],
      ],
    });
    const argv = 'deploy orders 1.4.2 --on role=web --canary 1 --bake 5m --batch 25% --budget 5% --on-failure all';
    const { status, io } = await center.run([...argv.split(' '), '--reason', 'faster checkout']);
    assert.equal(status, 0, io.complained());
    const [order] = orders;
    assert.equal(order?.action, 'ACTION_DEPLOY');
    assert.deepEqual(order.deploy, { version: '1.4.2', onFailure: 'ROLLBACK_SCOPE_ALL' });
    assert.deepEqual([order.selector, order.strategy?.batch, order.strategy?.budget], ['role=web', '25%', '5%']);
    const lines = io.written().trimEnd().split('\n');
    assert.match(lines[0] ?? '', /deploy of orders 1\.4\.2 on 1 machine as o-7f3kq0x9w2c4hd8t/);
    assert.deepEqual(
      lines.slice(1, 5).map((line) => line.replace(/^\S+ +/, '')),
      ['web-1  FETCH', 'web-1  STOP', 'web-1  VERIFY', 'web-1  SUCCEEDED  1.4.1 -> 1.4.2'],
    );
    assert.equal(lines[5], 'web-1  orders  SUCCEEDED  1.4.1 -> 1.4.2');
    assert.match(lines.slice(6).join('\n'), /FETCH +1s\n +VERIFY +1s\n[^]*verified +port http, \.\/verify\.sh/);
  });

  it('reports every machine, the failed one step by step, and fails', async (t) => {
    const ended = deploying('OPERATION_STATE_FAILED', {
      ...counts(2),
      ended: seconds(9),
      message: '1 failed, more than its budget of 0',
    });
    const { center } = await fixture(t, {
      [ID]: [
        [deploying('OPERATION_STATE_RUNNING', counts(2)), target(0, 'OUTCOME_STARTED', at('STOP'))],
        [ended, target(0, 'OUTCOME_SUCCEEDED', DONE), target(1, 'OUTCOME_FAILED', UNDONE)],
      ],
    });
    const { status, io } = await center.run(['deploy', 'orders', '1.4.2']);
    assert.equal(status, 1);
    const [, report = ''] = io.written().split('deploy of orders 1.4.2  FAILED');
    assert.match(report, /MACHINE +OUTCOME +BEFORE +NOW +DOWN +TOOK +VERIFIED/);
    assert.match(report, /web-1 +SUCCEEDED +1\.4\.1 +1\.4\.2 +240ms +3s +port http, \.\/verify\.sh/);
    assert.match(report, /web-2 +FAILED +1\.4\.1 +1\.4\.1 +- +8s/);
    assert.match(report, /web-2 {2}FAILED after 8s {2}\.\/verify\.sh ended with code 3/);
    assert.match(
      report,
      /VERIFY +3s {2}failed: \.\/verify\.sh ended with code 3\n +\| no coffee \\x1b\[2J\n +undo START +1s/,
    );
    assert.match(io.complained(), /"muster ops retry o-7f3kq0x9w2c4hd8t"/);
  });

  it('says why it failed where its only machine had succeeded', async (t) => {
    const message = 'canary web-1 did not stay well (it is BACKOFF): the others were not touched';
    const failed = deploying('OPERATION_STATE_FAILED', { ...counts(1), message, ended: seconds(9) });
    const { center } = await fixture(t, {
      [ID]: [
        [deploying('OPERATION_STATE_RUNNING', counts(1)), target(0, 'OUTCOME_SUCCEEDED', DONE)],
        [failed, target(0, 'OUTCOME_SUCCEEDED', DONE)],
      ],
    });
    const { status, io } = await center.run(['deploy', 'orders', '1.4.2', '--canary', '1', '--bake', '20s']);
    assert.equal(status, 1);
    const [, report = ''] = io.written().split('web-1  orders  SUCCEEDED');
    assert.match(report, /deploy of orders 1\.4\.2 {2}FAILED: canary web-1 did not stay well \(it is BACKOFF\)/);
  });

  it('follows the rollback that a stopped deploy set off, and fails all the same', async (t) => {
    const undo = (state: Operation['state']): Operation =>
      operation(state, { id: 'op-undo', action: 'ACTION_ROLLBACK', rollbackOf: ID, ...counts(1), ended: seconds(12) });
    const wish = { version: '1.4.2', onFailure: 'ROLLBACK_SCOPE_ALL' } as const;
    const failed = deploying('OPERATION_STATE_FAILED', { ...counts(2), deploy: wish, ended: seconds(9) });
    const scripts: Record<string, Step[]> = {
      [ID]: [
        [deploying('OPERATION_STATE_RUNNING', { ...counts(2), deploy: wish })],
        [failed, target(0, 'OUTCOME_SUCCEEDED', DONE), target(1, 'OUTCOME_FAILED', UNDONE)],
      ],
      'op-undo': [[undo('OPERATION_STATE_SUCCEEDED'), target(0, 'OUTCOME_SUCCEEDED', { action: 'ACTION_ROLLBACK' })]],
    };
    const { center } = await fixture(t, scripts);
    const { getOperation } = center.handlers;
    // The watch has ended before it told of the rollback; asked for, the deploy knows it.
    center.handlers = {
      ...center.handlers,
      getOperation: async (request, context) => {
        const found = await getOperation?.(request, context);
        assert.ok(found);
        return found.id === ID ? { ...found, rolledBackBy: 'op-undo' } : found;
      },
    };
    const { status, io } = await center.run(['deploy', 'orders', '1.4.2', '--on-failure', 'all']);
    assert.equal(status, 1);
    assert.match(
      io.written(),
      /deploy of orders 1\.4\.2 {2}FAILED[^]*what had succeeded is put back: rollback of orders as op-undo\n[^]*web-1 {2}orders {2}SUCCEEDED/,
    );
    const json = await center.run(['deploy', 'orders', '1.4.2', '--on-failure', 'all', '--json']);
    const answer = JSON.parse(json.io.written()) as { operation: object; rollback: { operation: { id: string } } };
    assert.equal(answer.rollback.operation.id, 'op-undo');
  });

  it('shows what it would change, and orders nothing', async (t) => {
    const center = await ScriptedCenter.start(t, {
      planOperation: () =>
        Promise.resolve(
          PlanOperationResponse.fromPartial({
            targets: [
              {
                machineName: 'web-1',
                why: 'role=web',
                online: true,
                state: 'SERVICE_STATE_RUNNING',
                from: release('1.4.1'),
                to: release('1.4.2'),
                changes: ['module shared-lib 2.3.0 -> 2.3.1'],
              },
              { machineName: 'web-2', why: 'role=web', online: true, to: release('1.4.2') },
              { machineName: 'web-3', why: 'role=web', online: false, to: release('1.4.2') },
            ],
            strategy: Strategy.fromPartial({ batch: '1' }),
          }),
        ),
    });
    const { status, io } = await center.run(['deploy', 'orders', '1.4.2', '--dry-run']);
    assert.equal(status, 0);
    const [head = '', first = '', second = '', third = ''] = io.written().split('\n');
    assert.match(head, /^TURN +MACHINE +WHY +STATUS +STATE +RELEASE +CHANGES$/);
    assert.match(first, /web-1 .*1\.4\.1 -> 1\.4\.2 +module shared-lib 2\.3\.0 -> 2\.3\.1$/);
    assert.match(second, /web-2 .*none -> 1\.4\.2/);
    assert.match(third, /web-3 .*\? -> 1\.4\.2/, 'it may run anything');
    assert.match(io.written(), /deploy of orders 1\.4\.2: 3 targets, 1 not connected; batch 1/);
    assert.match(io.complained(), /Nothing was ordered/);
  });

  it('takes no scope that there is not, and no version left out', async (t) => {
    const center = await ScriptedCenter.start(t);
    assert.equal((await center.run(['deploy', 'orders', '1.4.2', '--on-failure', 'some'])).status, 2);
    assert.equal((await center.run(['deploy', 'orders'])).status, 2);
    assert.equal((await center.run(['--local', 'deploy', 'orders', '1.4.2'])).status, 2);
  });
});

describe('muster rollback', () => {
  it('orders the version that was typed, or none', async (t) => {
    const ended = operation('OPERATION_STATE_SUCCEEDED', { action: 'ACTION_ROLLBACK', ...counts(1) });
    const { center, orders } = await fixture(t, { [ID]: [[ended, target(0, 'OUTCOME_SUCCEEDED')]] });
    assert.equal((await center.run(['rollback', 'orders', '--to', '1.4.0', '--on', 'role=web'])).status, 0);
    assert.equal((await center.run(['rollback', 'orders'])).status, 0);
    assert.deepEqual(
      orders.map(({ action, selector, deploy }) => [action, selector, deploy?.version]),
      [
        ['ACTION_ROLLBACK', 'role=web', '1.4.0'],
        ['ACTION_ROLLBACK', '', ''],
      ],
    );
  });

  it('on this machine takes no option of the center', async (t) => {
    const center = await ScriptedCenter.start(t);
    const { status, io } = await center.run(['--local', 'rollback', 'orders', '--on', 'role=web']);
    assert.equal(status, 2);
    assert.match(io.complained(), /--on is for the center/);
  });
});

describe('muster ops of a deploy', () => {
  it('shows each machine and its steps', async (t) => {
    const ended = deploying('OPERATION_STATE_FAILED', { ...counts(2), rolledBackBy: 'op-undo' });
    const center = await ScriptedCenter.start(t, {
      getOperation: () => Promise.resolve(ended),
      listTargets: () =>
        Promise.resolve({
          targets: [target(0, 'OUTCOME_SUCCEEDED', DONE), target(1, 'OUTCOME_FAILED', UNDONE)],
          nextPageToken: '',
        }),
    });
    const { status, io } = await center.run(['ops', ID]);
    assert.equal(status, 0);
    assert.match(io.written(), /^deploy of orders 1\.4\.2 {2}\(o-7f3kq0x9w2c4hd8t\)\n[^]*undone by op-undo\n/);
    assert.match(io.written(), /\nweb-1 {2}SUCCEEDED\n {2}FETCH +1s[^]*\nweb-2 {2}FAILED {2}[^]*undo START +1s/);
  });
});

describe('muster services of a deployed service', () => {
  const instances = [1, 2].map((number) =>
    Instance.fromPartial({
      machine: `m-${number}`,
      machineName: `web-${number}`,
      service: 'orders',
      version: '1.4.2',
      state: 'SERVICE_STATE_RUNNING',
      health: 'HEALTH_PASSING',
      configRevision: 7,
      configApplied: 7,
      release: {
        ...release('1.4.2'),
        modules: [{ name: 'shared-lib', version: number === 1 ? '2.3.1' : '2.3.0', digest: 'd' }],
      },
      heldReleases: [release('1.4.1')],
      deployed: STARTED,
      verified: number === 1,
      deploying: number === 1 ? 'DEPLOY_STEP_UNSPECIFIED' : 'DEPLOY_STEP_VERIFY',
    }),
  );
  const fleet = (t: TestContext): Promise<ScriptedCenter> =>
    ScriptedCenter.start(t, {
      listInstances: ({ selector, module, moduleVersion }) =>
        Promise.resolve({
          instances: instances.filter(
            ({ machineName, release: from }) =>
              (selector === '' || selector === `machine=${machineName}`) &&
              (module === '' ||
                from?.modules.some((one) => one.name === module && ['', one.version].includes(moduleVersion)) === true),
          ),
          nextPageToken: '',
        }),
    });

  it('shows every machine: version, modules, configuration, state, step, when it was deployed', async (t) => {
    const { status, io } = await (await fleet(t)).run(['services', 'orders']);
    assert.equal(status, 0);
    const [head = '', first = '', second = ''] = io.written().split('\n');
    assert.match(head, /^MACHINE +VERSION +MODULES +CONFIG +STATE +HEALTH +FOR +DEPLOYED +WHY$/);
    assert.match(first, /^web-1 +1\.4\.2 +shared-lib 2\.3\.1 +r7 +RUNNING +PASSING/);
    assert.match(second, /^web-2 +1\.4\.2 +shared-lib 2\.3\.0 +r7 +RUNNING \(deploying: VERIFY\) .*\(not verified\)/);
  });

  it('shows one machine in detail, with what it can go back to', async (t) => {
    const { io } = await (await fleet(t)).run(['services', 'orders', '--on', 'machine=web-1']);
    assert.match(io.written(), /release {2}1\.4\.2 \(sha256 1\.4\.20{7}\), deployed .*, verified\n/);
    assert.match(io.written(), /modules {2}shared-lib 2\.3\.1\n +held {5}1\.4\.1\n/);
  });

  it('says who runs with a module, at which version', async (t) => {
    const center = await fleet(t);
    const both = await center.run(['services', '--module', 'shared-lib']);
    assert.match(
      both.io.written(),
      /web-1 +orders +1\.4\.2 +shared-lib 2\.3\.1[^]*web-2 +orders +1\.4\.2 +shared-lib 2\.3\.0/,
    );
    for (const argv of [
      ['services', '--module', 'shared-lib@2.3.0'],
      ['module', 'users', 'shared-lib', '2.3.0'],
    ]) {
      const { io } = await center.run(argv);
      assert.match(io.written(), /web-2/);
      assert.doesNotMatch(io.written(), /web-1/);
    }
    const none = await center.run(['module', 'users', 'ui']);
    assert.match(none.io.complained(), /Nothing runs with ui: "muster module ls"/);
  });

  it('is not taken away by removing an assignment, and that is said', async (t) => {
    const center = await fleet(t);
    center.handlers = { ...center.handlers, removeService: () => Promise.resolve({}) };
    const { status, io } = await center.run(['services', 'rm', 'orders']);
    assert.equal(status, 0);
    assert.match(io.complained(), /orders is deployed on web-1, web-2: .*"muster stop orders" ends it/);
  });
});
