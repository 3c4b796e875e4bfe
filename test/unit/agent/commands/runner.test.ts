import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CommandJournal,
  COMMANDS_ACKNOWLEDGED_KEPT,
  type CommandStatus,
} from '../../../../src/agent/commands/journal.js';
import { CommandRunner, type CommandOrder } from '../../../../src/agent/commands/runner.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import type { InstanceReport } from '../../../../src/model/instance.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';

function report(service: string): InstanceReport {
  return {
    service,
    version: '1.0.0',
    driver: 'process',
    state: 'RUNNING',
    sinceMs: 0,
    health: 'PASSING',
    pid: 42,
    wanted: true,
    reason: '',
    exitCode: undefined,
    exitSignal: '',
    restarts: 0,
    checks: [],
    generation: 0,
    logDirectory: '',
    startedMs: 0,
  };
}

/** Services whose calls end when told to. */
class Control {
  readonly calls: string[] = [];
  readonly #ends = new Map<string, (error?: Error) => void>();

  readonly start = (service: string): Promise<InstanceReport> => this.#call('start', service);
  readonly stop = (service: string): Promise<InstanceReport> => this.#call('stop', service);
  readonly restart = (service: string): Promise<InstanceReport> => this.#call('restart', service);

  end(call: string, error?: Error): void {
    const end = this.#ends.get(call);
    assert.ok(end, `${call} is not running`);
    this.#ends.delete(call);
    end(error);
  }

  #call(action: string, service: string): Promise<InstanceReport> {
    const call = `${action} ${service}`;
    this.calls.push(call);
    return new Promise((resolve, reject) => {
      this.#ends.set(call, (error) => {
        if (error) reject(error);
        else resolve(report(service));
      });
    });
  }
}

async function agent(store: Store, clock = new ManualClock()) {
  const control = new Control();
  const journal = await CommandJournal.open(store, clock.now());
  const runner = new CommandRunner({ journal, control, clock, random: seededRandom(1), logger: silentLogger });
  const told: CommandStatus[] = [];
  runner.onUpdate((status) => told.push(status));
  const order = (command: string, fields: Partial<CommandOrder> = {}): void => {
    runner.offer({ command, action: 'RESTART', service: 'orders', expiresInMs: 60_000, ...fields });
  };
  const outcomes = (command: string): string[] => told.filter((s) => s.command === command).map((s) => s.outcome);
  return { control, journal, runner, told, order, outcomes, clock };
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000; turn += 1) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.fail('the condition did not come about');
}

async function onDisk(store: Store, command: string): Promise<string> {
  const entry = await store.get(`command/${command}`);
  return entry ? (JSON.parse(Buffer.from(entry.value).toString()) as CommandStatus).outcome : 'none';
}

test('a command is on disk before it runs and its outcome before it is told', async () => {
  const store = await openMemoryStore();
  const { control, runner, order, outcomes, told } = await agent(store);
  const seen: string[] = [];
  runner.onUpdate((status) => {
    void onDisk(store, status.command).then((stored) => seen.push(`${status.outcome}:${stored}`));
  });
  order('c-1');
  await until(() => control.calls.length === 1);
  assert.equal(await onDisk(store, 'c-1'), 'STARTED');
  control.end('restart orders');
  await until(() => outcomes('c-1').includes('SUCCEEDED'));
  await until(() => seen.length === 2);
  assert.deepEqual(outcomes('c-1'), ['STARTED', 'SUCCEEDED']);
  assert.deepEqual(seen, ['STARTED:STARTED', 'SUCCEEDED:SUCCEEDED']);
  assert.match(told.at(-1)?.message ?? '', /RUNNING, pid 42/);
});

test('a repeated order is answered and not run again: waiting, running, ended and acknowledged', async () => {
  const store = await openMemoryStore();
  const { control, runner, order, outcomes } = await agent(store);
  order('c-1');
  order('c-2');
  order('c-2');
  assert.deepEqual(outcomes('c-2'), ['DELIVERED']);
  await until(() => control.calls.length === 1);
  order('c-1');
  assert.deepEqual(outcomes('c-1'), ['STARTED', 'STARTED']);
  control.end('restart orders', new MusterError('precondition', 'exited with 1'));
  await until(() => control.calls.length === 2);
  order('c-1');
  assert.deepEqual(outcomes('c-1').slice(-2), ['FAILED', 'FAILED']);
  runner.acknowledge('c-1');
  await until(() => runner.pending().every((status) => status.command !== 'c-1'));
  order('c-1');
  assert.equal(outcomes('c-1').at(-1), 'FAILED');
  control.end('restart orders');
  await runner.close(1000);
  assert.deepEqual(control.calls, ['restart orders', 'restart orders']);

  const later = await agent(store);
  later.order('c-1');
  later.order('c-2');
  assert.deepEqual(later.outcomes('c-1'), ['FAILED']);
  assert.deepEqual(later.outcomes('c-2'), ['SUCCEEDED']);
  assert.deepEqual(later.control.calls, []);
});

test('services run side by side, one service one command at a time', async () => {
  const { control, order } = await agent(await openMemoryStore());
  order('c-1', { action: 'STOP' });
  order('c-2', { action: 'START' });
  order('c-3', { action: 'START', service: 'web' });
  await until(() => control.calls.length === 2);
  assert.deepEqual(control.calls, ['stop orders', 'start web']);
  control.end('stop orders');
  await until(() => control.calls.length === 3);
  assert.equal(control.calls[2], 'start orders');
});

test('a stop does not wait for a start that does not get on; a start waits for the stop before it', async () => {
  const { control, order } = await agent(await openMemoryStore());
  order('c-1', { action: 'START' });
  await until(() => control.calls.length === 1);
  order('c-2', { action: 'STOP' });
  await until(() => control.calls.length === 2);
  order('c-3', { action: 'RESTART' });
  control.end('start orders', new MusterError('precondition', 'stopped meanwhile'));
  await until(() => true);
  assert.deepEqual(control.calls, ['start orders', 'stop orders']);
  control.end('stop orders');
  await until(() => control.calls.length === 3);
  assert.equal(control.calls[2], 'restart orders');
});

test('an order whose time is over when its turn comes is expired; time is counted from arrival', async () => {
  const { control, order, outcomes, clock } = await agent(await openMemoryStore());
  order('c-1');
  order('c-2', { expiresInMs: 5000 });
  order('c-3', { expiresInMs: 5001 });
  await until(() => control.calls.length === 1);
  clock.jumpWallClock(3_600_000);
  await clock.advance(5000);
  control.end('restart orders');
  await until(() => control.calls.length === 2);
  assert.deepEqual(outcomes('c-2'), ['EXPIRED']);
  control.end('restart orders');
  await until(() => outcomes('c-3').includes('SUCCEEDED'));
});

test('only what has not started can be cancelled', async () => {
  const { control, runner, order, outcomes } = await agent(await openMemoryStore());
  order('c-1');
  order('c-2');
  await until(() => control.calls.length === 1);
  runner.cancel('c-1');
  runner.cancel('c-2');
  runner.cancel('c-unheard-of');
  assert.deepEqual(outcomes('c-1'), ['STARTED', 'STARTED']);
  control.end('restart orders');
  await until(() => outcomes('c-1').includes('SUCCEEDED') && outcomes('c-2').length > 0);
  assert.deepEqual(outcomes('c-2'), ['CANCELLED']);
  assert.equal(control.calls.length, 1);
});

test('an action of a newer center is refused by name', async () => {
  const { order, told } = await agent(await openMemoryStore());
  order('c-1', { action: undefined });
  await until(() => told.length === 1);
  assert.equal(told[0]?.outcome, 'FAILED');
  assert.match(told[0].message, /agent is too old/);
});

test('what was cut off is unknown, is told in the next hello, and never runs again', async () => {
  const store = await openMemoryStore();
  const first = await agent(store);
  first.order('c-1');
  await until(() => first.control.calls.length === 1);

  const second = await agent(store);
  assert.deepEqual(
    second.runner.pending().map(({ command, outcome }) => `${command} ${outcome}`),
    ['c-1 UNKNOWN'],
  );
  second.order('c-1');
  assert.deepEqual(second.outcomes('c-1'), ['UNKNOWN']);
  assert.deepEqual(second.control.calls, []);
  second.runner.acknowledge('c-1');
  await second.runner.close(1000);
  assert.deepEqual((await agent(store)).runner.pending(), []);
});

test('a disk without room: what cannot be written does not run, and an outcome waits for room', async () => {
  const inner = await openMemoryStore();
  let full = true;
  const store: Store = Object.create(inner, {
    write: {
      value: (mutations: Parameters<Store['write']>[0]) =>
        full ? Promise.reject(new MusterError('exhausted', 'the disk is full')) : inner.write(mutations),
    },
    get: { value: (key: string) => inner.get(key) },
    range: { value: () => inner.range({ prefix: 'command/' }) },
  }) as Store;
  const { control, order, outcomes, told, clock } = await agent(store);
  order('c-1');
  await until(() => told.length === 1);
  assert.deepEqual(outcomes('c-1'), ['FAILED']);
  assert.match(told[0]?.message ?? '', /not started: the disk is full/);
  assert.deepEqual(control.calls, []);
  full = false;
  order('c-2');
  await until(() => control.calls.length === 1);
  full = true;
  control.end('restart orders');
  await until(() => clock.pending === 1);
  assert.deepEqual(outcomes('c-2'), ['STARTED']);
  full = false;
  await clock.advance(5000);
  await until(() => outcomes('c-2').includes('SUCCEEDED'));
});

test('the journal is bounded both ways', async () => {
  const store = await openMemoryStore();
  const { control, runner, order, outcomes } = await agent(store);
  for (let n = 0; n < 200; n += 1) order(`c-${n}`, { service: `s-${n}` });
  await until(() => control.calls.length === 200);
  order('c-over', { service: 'over' });
  assert.deepEqual(outcomes('c-over'), ['FAILED']);
  for (const call of [...control.calls]) control.end(call);
  await until(() => runner.pending().every(({ outcome }) => outcome === 'SUCCEEDED'));
  order('c-over-again', { service: 'over' });
  assert.deepEqual(outcomes('c-over-again'), ['FAILED']);
  runner.acknowledge('c-0');
  await until(() => runner.pending().length === 199);
  for (let n = 1; n < 200; n += 1) runner.acknowledge(`c-${n}`);
  order('c-more', { service: 'more' });
  await until(() => control.calls.length === 201);
  control.end('restart more');
  await until(() => outcomes('c-more').includes('SUCCEEDED'));
  runner.acknowledge('c-more');
  await runner.close(1000);
  let stored = 0;
  for await (const entry of store.range({ prefix: 'command/' })) stored += entry.value.length > 0 ? 1 : 0;
  assert.equal(stored, COMMANDS_ACKNOWLEDGED_KEPT);
  assert.equal(await onDisk(store, 'c-more'), 'SUCCEEDED');
});

test('closing waits for what runs, for a while, and drops what waits', async () => {
  const { control, runner, order, outcomes, clock } = await agent(await openMemoryStore());
  order('c-1');
  order('c-2');
  await until(() => control.calls.length === 1);
  const closed = runner.close(1000);
  order('c-3', { service: 'web' });
  control.end('restart orders');
  await closed;
  assert.deepEqual(outcomes('c-1'), ['STARTED', 'SUCCEEDED']);
  assert.deepEqual([...outcomes('c-2'), ...outcomes('c-3')], []);
  assert.equal(clock.pending, 0);
});
