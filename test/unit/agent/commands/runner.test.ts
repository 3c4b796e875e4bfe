import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CommandJournal,
  COMMANDS_ACKNOWLEDGED_KEPT,
  type CommandStatus,
} from '../../../../src/agent/commands/journal.js';
import { CommandRunner, type CommandOrder, type SearchOrder } from '../../../../src/agent/commands/runner.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { Slots } from '../../../../src/kit/slots.js';
import type { InstanceReport } from '../../../../src/model/instance.js';
import type { LogSearch, SearchReport } from '../../../../src/model/log-search.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { wellInstance } from '../../../support/instance-report.js';

function report(service: string): InstanceReport {
  return wellInstance({ service, pid: 42 });
}

/** Services whose calls end when told to. */
class Control {
  readonly calls: string[] = [];
  readonly #ends = new Map<string, (error?: Error) => void>();

  readonly start = (service: string): Promise<InstanceReport> => this.#call('start', service);
  readonly stop = (service: string): Promise<InstanceReport> => this.#call('stop', service);
  readonly restart = (service: string): Promise<InstanceReport> => this.#call('restart', service);

  readonly get = (service: string): InstanceReport => ({ ...report(service), state: 'FATAL', pid: 0, exitCode: 3 });
  readonly lastOutput = (service: string): Promise<readonly string[]> => Promise.resolve([`${service} says`, 'bye']);

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

const FOUND: SearchReport = {
  files: 1,
  filesTotal: 1,
  bytes: 10,
  hits: 2,
  firstMs: undefined,
  lastMs: undefined,
  limits: [],
  problems: [],
  tookMs: 5,
};

/** Searches that end when told to, or when they are cancelled. */
class Searching {
  readonly running: string[] = [];
  readonly #ends = new Map<string, (error?: Error) => void>();

  run({ command }: SearchOrder, signal: AbortSignal): Promise<SearchReport> {
    this.running.push(command);
    return new Promise((resolve, reject) => {
      this.#ends.set(command, (error) => {
        this.running.splice(this.running.indexOf(command), 1);
        if (error) reject(error);
        else resolve(FOUND);
      });
      signal.addEventListener('abort', () => {
        this.end(command);
      });
    });
  }

  end(command: string, error?: Error): void {
    this.#ends.get(command)?.(error);
    this.#ends.delete(command);
  }
}

const WANTED: LogSearch = {
  pattern: 'x',
  regex: false,
  ignoreCase: false,
  sinceMs: undefined,
  untilMs: undefined,
  before: 0,
  after: 0,
  linesMax: 10,
  bytesMax: 1000,
  cpuMs: 1000,
  file: '',
};

async function agent(store: Store, clock = new ManualClock()) {
  const control = new Control();
  const journal = await CommandJournal.open(store, clock.now());
  const searches = new Searching();
  const runner = new CommandRunner({
    performers: {},
    journal,
    control,
    searches,
    searchSlots: new Slots(2),
    clock,
    random: seededRandom(1),
    logger: silentLogger,
  });
  const told: CommandStatus[] = [];
  runner.onUpdate((status) => told.push(status));
  const order = (command: string, fields: Partial<CommandOrder> = {}): void => {
    runner.offer({ command, action: 'RESTART', service: 'orders', expiresInMs: 60_000, ...fields });
  };
  const outcomes = (command: string): string[] => told.filter((s) => s.command === command).map((s) => s.outcome);
  const search = (command: string, fields: Partial<CommandOrder> = {}): void => {
    order(command, { action: 'SEARCH', search: () => WANTED, ...fields });
  };
  return { control, journal, runner, searches, told, order, search, outcomes, clock };
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

test('a search runs beside what runs on its service, two at once here, and ends with what it looked at', async () => {
  const { control, searches, told, order, search, outcomes } = await agent(await openMemoryStore());
  order('restart');
  for (const command of ['s-1', 's-2', 's-3']) search(command);
  await until(() => searches.running.length === 2 && control.calls.length === 1);
  assert.deepEqual(searches.running, ['s-1', 's-2']);
  assert.deepEqual(outcomes('s-3'), []);
  searches.end('s-2');
  await until(() => searches.running.includes('s-3'));
  searches.end('s-1');
  searches.end('s-3');
  await until(() => outcomes('s-3').length === 2 && outcomes('s-1').length === 2);
  assert.deepEqual(outcomes('s-1'), ['STARTED', 'SUCCEEDED']);
  const { message, result } = told.findLast(({ command }) => command === 's-1') ?? {};
  assert.deepEqual([message, result], ['2 matching lines in 1 file', { search: FOUND }]);
  control.end('restart orders');
  await until(() => outcomes('restart').length === 2);
});

test('a search is cancelled at any time, and fails with what went wrong', async () => {
  const { runner, searches, told, search, outcomes } = await agent(await openMemoryStore());
  for (const command of ['s-1', 's-2', 's-3']) search(command);
  search('bad', {
    search: () => {
      throw new MusterError('invalid', 'pattern: must not be empty');
    },
  });
  await until(() => searches.running.length === 2);
  runner.cancel('s-3');
  runner.cancel('s-1');
  await until(() => outcomes('s-1').length === 2 && outcomes('s-3').length === 1 && outcomes('bad').length === 2);
  assert.deepEqual(outcomes('s-1'), ['STARTED', 'CANCELLED']);
  assert.deepEqual(outcomes('s-3'), ['CANCELLED']);
  assert.deepEqual(told.findLast(({ command }) => command === 's-1')?.result, { search: FOUND });
  assert.deepEqual(outcomes('bad'), ['STARTED', 'FAILED']);
  assert.equal(told.findLast(({ command }) => command === 'bad')?.message, 'pattern: must not be empty');
  searches.end('s-2', new MusterError('cancelled', 'nobody waits for this output any more'));
  await until(() => outcomes('s-2').length === 2);
  assert.deepEqual(outcomes('s-2'), ['STARTED', 'FAILED']);
});

test('a search that the agent died in is unknown, and is not run again', async () => {
  const store = await openMemoryStore();
  const first = await agent(store);
  first.search('s-1');
  await until(() => first.searches.running.length === 1);
  const second = await agent(store);
  assert.equal(second.journal.find('s-1')?.outcome, 'UNKNOWN');
  second.search('s-1');
  assert.deepEqual(second.outcomes('s-1'), ['UNKNOWN']);
  assert.deepEqual(second.searches.running, []);
  first.searches.end('s-1');
});

test('a command leaves the instance behind, and where it failed to start what was printed', async () => {
  const { control, told, order, outcomes } = await agent(await openMemoryStore());
  order('good', { action: 'START' });
  await until(() => control.calls.length === 1);
  control.end('start orders');
  await until(() => outcomes('good').length === 2);
  const running = { state: 'RUNNING', pid: 42, version: '1.0.0', health: 'PASSING' };
  assert.deepEqual(told.at(-1)?.result, { instance: running });
  order('bad', { action: 'START' });
  await until(() => control.calls.length === 2);
  control.end('start orders', new MusterError('precondition', 'it exited with 3'));
  await until(() => outcomes('bad').length === 2);
  const ended = { ...running, state: 'FATAL', pid: 0 };
  assert.deepEqual(told.at(-1)?.result, { instance: ended, exitCode: 3, output: 'orders says\nbye' });
});
