import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import {
  OperationCounts,
  PlanOperationResponse,
  Strategy,
  type Command,
  type Operation,
  type RetryOperationRequest,
  type StartOperationRequest,
  type WatchOperationResponse,
} from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../../src/kit/errors.js';
import {
  operation,
  OPERATION,
  ScriptedCenter,
  STARTED,
  target,
  type CenterHandlers,
} from '../../support/scripted-center.js';
import { waitFor } from '../../support/waiting.js';

const seconds = (count: number): Date => new Date(STARTED.getTime() + count * 1000);
const counts = (total: number): { counts: OperationCounts } => ({ counts: OperationCounts.fromPartial({ total }) });
const RUNNING = operation('OPERATION_STATE_RUNNING', counts(3));

type Step = readonly [Operation, ...Command[]] | (() => Promise<void>);

async function* play(steps: readonly Step[]): AsyncGenerator<WatchOperationResponse> {
  for (const [index, step] of steps.entries()) {
    if (typeof step === 'function') await step();
    else yield { snapshot: index === 0, operation: step[0], targets: step.slice(1) as Command[] };
  }
}

function forEver(): Promise<void> {
  return new Promise(() => undefined);
}

interface Fixture {
  readonly center: ScriptedCenter;
  readonly orders: StartOperationRequest[];
}

/** A center on which a started operation goes as written; a second watch goes as the second script. */
async function fixture(t: TestContext, ...scripts: readonly (readonly Step[])[]): Promise<Fixture> {
  const orders: StartOperationRequest[] = [];
  let watches = 0;
  const [first] = scripts[0] ?? [];
  const begun = typeof first === 'object' ? first[0] : RUNNING;
  const center = await ScriptedCenter.start(t, {
    startOperation: (request) => {
      orders.push(request);
      return Promise.resolve(begun);
    },
    watchOperation: () => {
      watches += 1;
      return play(scripts[Math.min(watches, scripts.length) - 1] ?? []);
    },
  });
  return { center, orders };
}

/** Three targets of which each succeeds. */
const GOOD: readonly Step[] = [
  [RUNNING, target(0, 'OUTCOME_STARTED', { canary: true }), target(1, 'OUTCOME_PENDING'), target(2, 'OUTCOME_PENDING')],
  [RUNNING, target(0, 'OUTCOME_SUCCEEDED', { canary: true })],
  [RUNNING, target(1, 'OUTCOME_STARTED'), target(2, 'OUTCOME_STARTED')],
  [
    operation('OPERATION_STATE_SUCCEEDED', { ...counts(3), ended: seconds(42) }),
    target(1, 'OUTCOME_SUCCEEDED'),
    target(2, 'OUTCOME_SUCCEEDED'),
  ],
];

/** One failed, one never came back, one was never reached. */
const BAD: readonly Step[] = [
  [RUNNING, target(0, 'OUTCOME_STARTED'), target(1, 'OUTCOME_STARTED'), target(2, 'OUTCOME_PENDING')],
  [
    operation('OPERATION_STATE_FAILED', {
      ...counts(3),
      ended: seconds(9),
      message: '1 failed, more than its budget of 0',
    }),
    target(0, 'OUTCOME_FAILED', {
      exitCode: 3,
      message: 'ended at once',
      output: 'reading the menu\nout of coffee \u001b[2J\n',
      started: seconds(1),
      ended: seconds(3),
    }),
    target(1, 'OUTCOME_UNKNOWN', { unknownSince: seconds(5), message: 'contact was lost' }),
    target(2, 'OUTCOME_CANCELLED', { message: 'the operation was stopped' }),
  ],
];

describe('start, stop and restart', () => {
  it('order what was typed, and print a line for each change where there is no terminal', async (t) => {
    const { center, orders } = await fixture(t, GOOD);
    const options = '--on role=web --batch 25% --canary 1 --bake 5s --budget 2 --unreachable-budget 10%';
    const more = '--order label:zone --target-timeout 2m --timeout 1h --queue-for 30s --wait';
    const argv = ['restart', 'orders', ...options.split(' '), ...more.split(' '), '--reason', 'new keys'];
    const { status, io } = await center.run(argv);
    assert.equal(status, 0, io.complained());
    const [{ requestId, ...order } = { requestId: '' }] = orders;
    assert.match(requestId, /^r-/);
    assert.deepEqual(order, {
      action: 'ACTION_RESTART',
      service: 'orders',
      selector: 'role=web',
      strategy: {
        batch: '25%',
        canary: 1,
        bake: { seconds: 5, nanos: 0 },
        budget: '2',
        unreachableBudget: '10%',
        order: 'label:zone',
        targetTimeout: { seconds: 120, nanos: 0 },
        timeout: { seconds: 3600, nanos: 0 },
        queueFor: { seconds: 30, nanos: 0 },
      },
      reason: 'new keys',
      wait: true,
      deploy: undefined,
      backup: undefined,
    });
    const lines = io.written().trimEnd().split('\n');
    assert.match(lines[0] ?? '', /restart of orders on 3 machines as o-7f3kq0x9w2c4hd8t/);
    assert.deepEqual(
      lines.slice(1, 7).map((line) => line.replace(/^\S+ +/, '')),
      [
        'web-1  STARTED (canary)',
        'web-1  SUCCEEDED (canary)',
        'web-2  STARTED',
        'web-3  STARTED',
        'web-2  SUCCEEDED',
        'web-3  SUCCEEDED',
      ],
    );
    assert.deepEqual(lines.slice(7), ['restart of orders  SUCCEEDED in 42s', '  3 targets: 3 succeeded']);
    assert.equal(io.complained(), '');
  });

  it('say one line of a single target, and its last words where it failed', async (t) => {
    const one = operation('OPERATION_STATE_RUNNING', counts(1));
    const good = await fixture(t, [
      [one, target(0, 'OUTCOME_STARTED')],
      [
        operation('OPERATION_STATE_SUCCEEDED', counts(1)),
        target(0, 'OUTCOME_SUCCEEDED', { message: 'it had to be killed' }),
      ],
    ]);
    const ran = await good.center.run(['stop', 'orders', '--expires-in', '10m']);
    assert.equal(ran.status, 0);
    assert.equal(ran.io.written(), 'web-1  orders  SUCCEEDED  it had to be killed\n');
    assert.equal(good.orders[0]?.strategy?.queueFor?.seconds, 600, '--expires-in is the older name of --queue-for');
    const bad = await fixture(t, [
      [one, target(0, 'OUTCOME_STARTED')],
      [
        operation('OPERATION_STATE_FAILED', counts(1)),
        target(0, 'OUTCOME_FAILED', { exitCode: 3, message: 'ended', output: 'out of coffee\n' }),
      ],
    ]);
    const { status, io } = await bad.center.run(['start', 'orders']);
    assert.equal(status, 1);
    assert.equal(io.written(), 'web-1  orders  FAILED  exit code 3: ended\n  | out of coffee\n');
    assert.match(io.complained(), /"muster ops retry o-7f3kq0x9w2c4hd8t"/);
  });

  it('say that a single machine is not connected', async (t) => {
    const one = operation('OPERATION_STATE_RUNNING', counts(1));
    const { center } = await fixture(t, [[one, target(0, 'OUTCOME_QUEUED', { expires: seconds(60) })], forEver]);
    const stop = new AbortController();
    const { io, done } = center.begin(['restart', 'orders'], { signal: stop.signal });
    await waitFor('the note', () => io.complained().includes('web-1 is not connected: the order waits for it'));
    stop.abort(new Error('SIGINT'));
    assert.equal(await done, 1);
    assert.match(io.written(), /goes on without this command \(o-7f3kq0x9w2c4hd8t\): 1 not connected/);
    assert.match(io.complained(), /"muster ops watch o-7f3kq0x9w2c4hd8t".*"muster ops cancel o-7f3kq0x9w2c4hd8t"/);
  });

  it('tell of each target that went wrong, inert, and what to do next', async (t) => {
    const { center } = await fixture(t, BAD);
    const { status, io } = await center.run(['restart', 'orders']);
    assert.equal(status, 1);
    const [, summary = ''] = io.written().split('restart of orders  FAILED');
    assert.match(
      summary,
      /^ in 9s: 1 failed, more than its budget of 0\n {2}3 targets: 1 failed, 1 unknown, 1 cancelled\n/,
    );
    assert.match(
      summary,
      /web-1 {2}FAILED after 2s {2}exit code 3: ended at once\n {4}\| reading the menu\n {4}\| out of coffee \\x1b\[2J\n/,
    );
    assert.match(summary, /web-2 {2}UNKNOWN since .* {2}contact was lost/);
    assert.match(io.complained(), /resolved when the agent is back.*"muster ops o-7f3kq0x9w2c4hd8t"/);
    assert.match(io.complained(), /"muster ops retry o-7f3kq0x9w2c4hd8t"; with --include-cancelled/);
  });

  it('do not promise that what nobody can say will be known', async (t) => {
    const lost = target(0, 'OUTCOME_UNKNOWN', {
      unknownSince: seconds(5),
      started: seconds(1),
      ended: seconds(5),
      message: 'the agent ended while this command ran',
    });
    const { center } = await fixture(t, [[operation('OPERATION_STATE_PARTIAL', counts(1)), lost], forEver]);
    const { status, io } = await center.run(['restart', 'orders']);
    assert.equal(status, 1);
    assert.match(
      io.written(),
      /^web-1 {2}orders {2}UNKNOWN since \S+( \S+)? {2}the agent ended while this command ran\n$/,
    );
    assert.equal(io.complained(), `To try those again: "muster ops retry ${OPERATION}".\n`);
  });

  it('say what holds an operation up: another one, a bake, a pause', async (t) => {
    const hold = (state: Operation['state'], fields: Partial<Operation>): Step => [
      operation(state, { ...counts(3), ...fields }),
    ];
    const { center } = await fixture(t, [
      [operation('OPERATION_STATE_WAITING', { message: 'waits for operation o-other by operator:bob' })],
      ...GOOD.slice(0, 2),
      hold('OPERATION_STATE_RUNNING', { bakeUntil: new Date(Date.now() + 3_600_000) }),
      hold('OPERATION_STATE_PAUSED', { message: 'paused by operator:ada' }),
      hold('OPERATION_STATE_RUNNING', {}),
      ...GOOD.slice(2),
    ]);
    const { status, io } = await center.run(['restart', 'orders']);
    assert.equal(status, 0);
    assert.match(
      io.written(),
      /waits for operation o-other by operator:bob\n[^]*goes on[^]*the canaries succeeded, and are looked at until[^]*paused by operator:ada \("muster ops resume[^]*goes on[^]*web-3/,
    );
  });

  it('answer in one JSON document', async (t) => {
    const { center } = await fixture(t, BAD);
    const { status, io } = await center.run(['restart', 'orders', '--json']);
    assert.equal(status, 1);
    const answer = JSON.parse(io.written()) as {
      operation: { id: string };
      targets: { outcome: string }[];
      contactLost: boolean;
    };
    assert.equal(answer.operation.id, OPERATION);
    assert.deepEqual(
      answer.targets.map(({ outcome }) => outcome),
      ['OUTCOME_FAILED', 'OUTCOME_UNKNOWN', 'OUTCOME_CANCELLED'],
    );
    assert.equal(answer.contactLost, false);
  });

  it('are refused because of another operation, which is named, with what to do', async (t) => {
    const center = await ScriptedCenter.start(t, {
      startOperation: () =>
        Promise.reject(new MusterError('conflict', 'o-other is under way on orders', { reason: 'OPERATION_HELD' })),
    });
    const { status, io } = await center.run(['restart', 'orders']);
    assert.equal(status, 1);
    assert.match(io.complained(), /o-other is under way on orders\. To go behind it: --wait/);
    const inJson = await center.run(['restart', 'orders', '--json']);
    assert.match(inJson.io.complained(), /"reason":"OPERATION_HELD"/);
  });

  it('show what they would do, and do nothing', async (t) => {
    const center = await ScriptedCenter.start(t, {
      planOperation: () =>
        Promise.resolve(
          PlanOperationResponse.fromPartial({
            targets: [
              { machineName: 'web-1', why: 'role=web', online: true, canary: true, state: 'SERVICE_STATE_RUNNING' },
              { machineName: 'web-2', why: 'role=web', problem: 'its agent is too old' },
            ],
            strategy: Strategy.fromPartial({ batch: '1', canary: 1, budget: '0' }),
            holder: operation('OPERATION_STATE_RUNNING', { id: 'o-other' }),
          }),
        ),
    });
    const { status, io } = await center.run(['restart', 'orders', '--on', 'role=web', '--dry-run']);
    assert.equal(status, 0);
    assert.match(io.written(), /TURN +MACHINE +WHY +STATUS +STATE +CANARY +PROBLEM/);
    assert.match(io.written(), /1 +web-1 +role=web +online +RUNNING +canary/);
    assert.match(io.written(), /2 +web-2 +role=web +offline .*its agent is too old/);
    assert.match(io.written(), /2 targets, 1 not connected, 1 that would not run; batch 1, canary 1, budget 0/);
    assert.match(io.written(), /now it would be refused: o-other .*--wait/);
    const { io: json } = await center.run(['restart', 'orders', '--dry-run', '--json']);
    assert.equal((JSON.parse(json.written()) as { targets: unknown[] }).targets.length, 2);
  });

  it('leave at once with --detach', async (t) => {
    const { center } = await fixture(t, [[RUNNING], forEver]);
    const { status, io } = await center.run(['restart', 'orders', '--detach']);
    assert.equal(status, 0);
    assert.equal(io.written(), `${OPERATION}  restart of orders\n`);
    assert.match(io.complained(), /"muster ops watch o-7f3kq0x9w2c4hd8t"/);
  });

  it('follow over the end of the center, and order once', async (t) => {
    const { center, orders } = await fixture(t, [...GOOD.slice(0, 1), forEver], GOOD);
    const { io, done } = center.begin(['restart', 'orders']);
    await waitFor('the first line', () => io.written().includes('web-1  STARTED'));
    await center.stop();
    await waitFor('the loss to be told', () => io.written().includes('the center cannot be reached since'));
    await center.start();
    assert.equal(await done, 0, io.complained());
    assert.match(io.written(), /cannot be reached[^]*the center is back[^]*web-3 {2}SUCCEEDED/);
    assert.equal(io.written().match(/web-1 {2}STARTED/g)?.length, 1);
    assert.equal(orders.length, 1);
  });

  it('order again under the same request id when the answer was lost', async (t) => {
    const { center, orders } = await fixture(t, GOOD);
    const { handlers } = center;
    const startOperation = (request: StartOperationRequest): Promise<Operation> => {
      center.handlers = handlers;
      orders.push(request);
      return Promise.reject(new MusterError('unavailable', 'going down'));
    };
    center.handlers = { ...handlers, startOperation };
    assert.equal((await center.run(['restart', 'orders'])).status, 0);
    assert.equal(orders.length, 2);
    assert.equal(orders[0]?.requestId, orders[1]?.requestId);
  });

  it('take no option that cannot be meant', async (t) => {
    const center = await ScriptedCenter.start(t);
    for (const argv of [
      ['--batch', '0'],
      ['--batch', '120%'],
      ['--budget', 'some'],
      ['--order', 'zone'],
      ['--canary', 'one'],
      ['--timeout', 'soon'],
      ['--agent-socket', '/nowhere', '--batch', '2'],
      ['--local', '--dry-run'],
    ]) {
      assert.equal((await center.run(['restart', 'orders', ...argv])).status, 2, argv.join(' '));
    }
  });
});

/** What a terminal of that height shows in the end, from what was written to it. */
function screenOf(written: string): string[] {
  const lines: string[] = [''];
  let row = 0;

  for (const [, up, erase, newline, text] of written.matchAll(
    /\u001b\[(\d+)A\r|\u001b\[(J|K|\?7[lh])|(\n)|([^\u001b\n]+)/g,
  )) {
    if (up !== undefined) row -= Number(up);
    else if (erase === 'J') lines.length = row + 1;
    else if (erase === 'K') continue;
    else if (newline !== undefined) {
      row += 1;
      lines[row] ??= '';
    } else if (text !== undefined) lines[row] = text;
    if (erase === 'J') lines[row] = '';
  }
  return lines;
}

describe('an operation on a terminal', () => {
  it('is drawn in place, never higher than the terminal, and leaves its summary alone', async (t) => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const total = 100;
    const all = (outcome: Command['outcome']): Command[] =>
      Array.from({ length: total }, (_, index) => target(index, outcome));
    const many = operation('OPERATION_STATE_RUNNING', counts(total));
    const failed = target(7, 'OUTCOME_FAILED', { message: 'out of coffee' });
    const { center } = await fixture(t, [
      [many, ...all('OUTCOME_PENDING')],
      [many, target(3, 'OUTCOME_STARTED', { started: STARTED }), failed],
      () => gate,
      [
        operation('OPERATION_STATE_PARTIAL', { ...counts(total), ended: seconds(4) }),
        ...all('OUTCOME_SUCCEEDED'),
        failed,
      ],
    ]);
    const { io, done } = center.begin(['restart', 'orders'], { terminal: true, columns: 60, rows: 12 });
    await waitFor('the failure to be shown', () => io.written().includes('out of coffee'));
    const shown = screenOf(io.written());
    assert.ok(shown.length <= 12, shown.join('\n'));
    assert.match(shown[0] ?? '', /^restart of orders {2}o-7f3kq0x9w2c4hd8t {2}RUNNING/);
    assert.match(shown[1] ?? '', /^100 targets: 1 failed, 1 under way, 98 to come/);
    assert.match(shown.join('\n'), /web-4 +STARTED[^]*web-8 +FAILED +out of coffee\n {2}and 98 more/);
    for (const line of shown) assert.ok(line.length < 60, line);
    go();
    assert.equal(await done, 1);
    const left = screenOf(io.written());
    assert.equal(left[0], 'restart of orders  PARTIAL in 4s');
    assert.match(left.join('\n'), /99 succeeded, 1 failed\n {2}web-8 {2}FAILED {2}out of coffee\n$/);
  });
});

describe('muster ops', () => {
  const listed = [
    operation('OPERATION_STATE_PARTIAL', {
      selector: 'role=web',
      counts: OperationCounts.fromPartial({ total: 10, succeeded: 7, failed: 1, unknown: 2 }),
      reason: 'new keys',
    }),
    operation('OPERATION_STATE_RUNNING', { id: 'o-7f0000000000000a', ...counts(3) }),
  ];
  const ops = (t: TestContext, more: Partial<CenterHandlers> = {}): Promise<ScriptedCenter> =>
    ScriptedCenter.start(t, {
      listOperations: () => Promise.resolve({ operations: listed, nextPageToken: '' }),
      getOperation: ({ id }) => {
        const found = listed.find((one) => one.id === id);
        return found ? Promise.resolve(found) : Promise.reject(new MusterError('not_found', `no operation ${id}`));
      },
      ...more,
    });

  it('lists them, the newest first', async (t) => {
    const { status, io } = await (await ops(t)).run(['ops']);
    assert.equal(status, 0);
    assert.match(io.written(), /^ID +ACTION +SERVICE +ON +STATE +TARGETS +STARTED +BY +REASON\n/);
    assert.match(
      io.written(),
      /restart +orders +role=web +PARTIAL +7\/10, 1 failed, 2 unknown .*operator:ada +new keys/,
    );
  });

  it('shows one with its targets, by a shortened id too', async (t) => {
    const targets = [
      target(0, 'OUTCOME_SUCCEEDED', { started: STARTED, ended: seconds(2) }),
      target(1, 'OUTCOME_FAILED', { exitCode: 3, message: 'ended', output: 'out of coffee' }),
    ];
    const center = await ops(t, { listTargets: () => Promise.resolve({ targets, nextPageToken: '' }) });
    for (const id of [OPERATION, 'o-7f3', '7f3']) {
      const { status, io } = await center.run(['ops', id]);
      assert.equal(status, 0, io.complained());
      assert.match(io.written(), /restart of orders {2}\(o-7f3kq0x9w2c4hd8t\)\nstate +PARTIAL\non +role=web/);
      assert.match(io.written(), /by +operator:ada\nreason +new keys/);
      assert.match(io.written(), /web-1 +SUCCEEDED .* 2s/);
      assert.match(io.written(), /web-2 +FAILED .* 3 +exit code 3: ended[^]*web-2 printed last:\n {2}\| out of coffee/);
    }
    const { io } = await center.run(['ops', '7f3', '--json']);
    const answer = JSON.parse(io.written()) as { operation: { id: string }; targets: unknown[] };
    assert.deepEqual([answer.operation.id, answer.targets.length], [OPERATION, 2]);
  });

  it('says when an id is ambiguous or unknown', async (t) => {
    const center = await ops(t);
    const ambiguous = await center.run(['ops', 'o-7f']);
    assert.equal(ambiguous.status, 1);
    assert.match(
      ambiguous.io.complained(),
      /beginning of 2 operations: o-7f3kq0x9w2c4hd8t, o-7f0000000000000a\. Type more/,
    );
    const unknown = await center.run(['ops', 'watch', 'o-7f3kq0x9w2c4hd9t']);
    assert.equal(unknown.status, 1);
    assert.match(
      unknown.io.complained(),
      /no operation "o-7f3kq0x9w2c4hd9t"\. Did you mean "o-7f3kq0x9w2c4hd8t"\? "muster ops" lists/,
    );
  });

  it('pauses, resumes and cancels', async (t) => {
    const paused = operation('OPERATION_STATE_PAUSED', {
      message: 'by operator:ada',
      counts: OperationCounts.fromPartial({ total: 3, started: 2 }),
    });
    const center = await ops(t, {
      pauseOperation: () => Promise.resolve(paused),
      resumeOperation: () => Promise.resolve(RUNNING),
      cancelOperation: () => Promise.reject(new MusterError('precondition', 'it has ended')),
    });
    const pause = await center.run(['ops', 'pause', '7f3']);
    assert.equal(pause.io.written(), `${OPERATION}  restart of orders  PAUSED: by operator:ada\n`);
    assert.match(pause.io.complained(), /2 under way run to their end/);
    assert.match((await center.run(['ops', 'resume', '7f3'])).io.written(), /RUNNING/);
    const cancel = await center.run(['ops', 'cancel', '7f3']);
    assert.equal(cancel.status, 1);
    assert.match(cancel.io.complained(), /it has ended/);
  });

  it('retries, and follows the new operation', async (t) => {
    const asked: RetryOperationRequest[] = [];
    const again = operation('OPERATION_STATE_RUNNING', { id: 'o-again', retryOf: OPERATION, ...counts(1) });
    const center = await ops(t, {
      retryOperation: (request) => {
        asked.push(request);
        return Promise.resolve(again);
      },
      watchOperation: ({ id }) =>
        play([
          [again, target(0, 'OUTCOME_STARTED')],
          [operation('OPERATION_STATE_SUCCEEDED', { id, ...counts(1) }), target(0, 'OUTCOME_SUCCEEDED')],
        ]),
    });
    const argv = ['ops', 'retry', '7f3', '--reason', 'fixed', '--wait', '--include-cancelled'];
    const { status, io } = await center.run(argv);
    assert.equal(status, 0, io.complained());
    assert.equal(io.written(), 'web-1  orders  SUCCEEDED\n');
    const [{ requestId, ...request } = { requestId: '' }] = asked;
    assert.match(requestId, /^r-/);
    assert.deepEqual(request, { id: OPERATION, reason: 'fixed', wait: true, includeCancelled: true });
  });

  it('watches in JSON: an object for each change, and the whole at the end', async (t) => {
    const center = await ops(t, { watchOperation: () => play(GOOD) });
    const { status, io } = await center.run(['ops', 'watch', '7f3', '--json']);
    assert.equal(status, 0);
    const objects = io
      .written()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { targets: unknown[]; contactLost?: boolean });
    assert.deepEqual(
      objects.map(({ targets }) => targets.length),
      [3, 1, 2, 2, 3],
    );
    assert.equal(objects.at(-1)?.contactLost, false);
  });

  it('reads on while thousands of changes come, without a line of its own for each on a terminal', async (t) => {
    const total = 2000;
    const big = operation('OPERATION_STATE_RUNNING', counts(total));
    const steps: Step[] = [[big, ...Array.from({ length: total }, (_, index) => target(index, 'OUTCOME_PENDING'))]];
    for (let index = 0; index < total; index += 1) steps.push([big, target(index, 'OUTCOME_SUCCEEDED')]);
    steps.push([operation('OPERATION_STATE_SUCCEEDED', counts(total))]);
    const center = await ops(t, { watchOperation: () => play(steps) });
    const { status, io } = await center.run(['ops', 'watch', '7f3'], { terminal: true });
    assert.equal(status, 0);
    assert.ok(io.written().length < 200_000, String(io.written().length));
  });
});
