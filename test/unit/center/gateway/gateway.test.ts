import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Hello, type ConnectRequest, type ConnectResponse } from '../../../../generated/muster/v1/center.js';
import { Instance, Inventory } from '../../../../generated/muster/v1/types.js';
import { Instances, type InstanceRecord } from '../../../../src/center/fleet/instances.js';
import { Machines, type MachineRecord } from '../../../../src/center/fleet/machines.js';
import { Gateway } from '../../../../src/center/gateway/gateway.js';
import type { GatewayListeners } from '../../../../src/center/gateway/parts.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock, type Clock, type Timer } from '../../../../src/kit/clock.js';
import { isCode, MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { BoundedQueue } from '../../../../src/kit/queue.js';
import type { Inventory as MachineInventory } from '../../../../src/model/machine.js';
import { untilAborted } from '../../../../src/rpc/streams.js';
import type { Duplex } from '../../../../src/rpc/types.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Mutation, Store } from '../../../../src/store/port.js';
import { waitFor } from '../../../support/waiting.js';

type UpFrame = NonNullable<ConnectRequest['frame']>;

/** One stream of the agent of m-1, without a network. */
class Stream {
  readonly received: string[] = [];
  readonly sent = new BoundedQueue<ConnectRequest>(100, 'refuse');
  readonly gone = new AbortController();
  readonly ended: Promise<unknown>;
  over = false;
  #sequence = 0;

  constructor(gateway: Gateway, hello: { epoch: number; processId: string }) {
    this.send({ $case: 'hello', value: Hello.fromPartial({ sessionEpoch: hello.epoch, processId: hello.processId }) });
    const { signal } = this.gone;
    const principal = { kind: 'agent', machine: 'm-1' } as const;
    const sent = this.sent[Symbol.asyncIterator]();
    const stream: Duplex<ConnectResponse, ConnectRequest> = {
      send: ({ frame }) => {
        this.received.push(frame?.$case ?? '');
        return Promise.resolve();
      },
      end: () => undefined,
      [Symbol.asyncIterator]: () => ({ next: () => untilAborted(sent.next(), signal) }),
    };
    const served = gateway.serve(stream, { principal, method: 'connect', peer: 'test', signal });
    const over = (reason?: unknown): unknown => {
      this.over = true;
      return reason;
    };
    this.ended = served.then(() => over(), over);
  }

  send(frame: UpFrame): void {
    this.#sequence += 1;
    this.sent.push({ sequence: this.#sequence, frame });
  }

  cut(): void {
    this.gone.abort(new MusterError('unavailable', 'the connection is gone'));
  }
}

/** A clock that can leap over time in which nothing ran. */
class StallingClock implements Clock {
  readonly #inner = new ManualClock();
  #lostMs = 0;

  now(): number {
    return this.#inner.now() + this.#lostMs;
  }

  monotonic(): number {
    return this.#inner.monotonic() + this.#lostMs;
  }

  after(delayMs: number, fire: () => void): Timer {
    return this.#inner.after(delayMs, fire);
  }

  async advance(byMs: number): Promise<void> {
    await this.#inner.advance(byMs);
  }

  stall(forMs: number): void {
    this.#lostMs += forMs;
  }
}

interface Site {
  readonly gateway: Gateway;
  readonly clock: StallingClock;
  readonly machines: Machines;
  readonly instances: Instances;
  /** What was told of contact and instances. */
  readonly told: string[];
  readonly connect: (hello: { epoch: number; processId?: string }) => Stream;
  /** Writes wait here; resolve to let them through. */
  hold(): { release(error?: Error): void; readonly waiting: boolean };
}

async function site(t: TestContext, listeners: Partial<GatewayListeners> = {}): Promise<Site> {
  const memory = await openMemoryStore();
  let gate: Promise<void> = Promise.resolve();
  let waiting = 0;
  const store: Store = {
    revision: 0,
    failed: memory.failed,
    get: (key) => memory.get(key),
    range: (range) => memory.range(range),
    watch: (prefix, signal) => memory.watch(prefix, signal),
    close: () => memory.close(),
    write: async (mutations: readonly Mutation[]) => {
      waiting += 1;
      await gate.finally(() => (waiting -= 1));
      return memory.write(mutations);
    },
  };
  const clock = new StallingClock();
  const open = <T>(prefix: string): Promise<Table<T>> => Table.open<T>({ store, prefix, clock, logger: silentLogger });
  const table = await open<MachineRecord>('machine/');
  const machines = new Machines({
    table,
    inventories: await open<MachineInventory>('inventory/'),
    clock,
    logger: silentLogger,
  });
  await table.put('m-1', {
    id: 'm-1',
    name: 'web-1',
    labels: {},
    joinedMs: 0,
    lastContactMs: undefined,
    agentVersion: '',
    bootId: '',
    epoch: 0,
    processId: '',
    address: '',
    clockSkewMs: undefined,
  });
  const instances = new Instances(await open<InstanceRecord>('instance/'), clock, () => undefined);
  const told: string[] = [];
  instances.changes.listen((id) => told.push(instances.get(id)?.unknownSinceMs === undefined ? 'known' : 'unknown'));
  const gateway = new Gateway({
    machines,
    instances,
    listeners: {
      differences: () => Promise.resolve([]),
      applied: () => undefined,
      commandsHeld: () => Promise.resolve(),
      commandReported: () => Promise.resolve(),
      contactLost: () => {
        told.push('contact lost');
        return Promise.resolve();
      },
      duplicate: () => undefined,
      ...listeners,
    },
    clock,
    logger: silentLogger,
    site: 'test',
    version: '0.0.0',
  });
  const streams: Stream[] = [];
  const sweeping = new AbortController();
  const swept = gateway.run(sweeping.signal).catch(() => undefined);
  t.after(async () => {
    sweeping.abort();
    await swept;
    for (const stream of streams) stream.cut();
    await Promise.all(streams.map(({ ended }) => ended));
  });
  return {
    gateway,
    clock,
    machines,
    instances,
    told,
    connect: ({ epoch, processId = 'p-1' }) => {
      const stream = new Stream(gateway, { epoch, processId });
      streams.push(stream);
      return stream;
    },
    hold: () => {
      let release: (error?: Error) => void = () => undefined;
      gate = new Promise((resolve, reject) => {
        release = (error) => {
          gate = Promise.resolve();
          if (error) reject(error);
          else resolve();
        };
      });
      return {
        release: (error) => {
          release(error);
        },
        get waiting() {
          return waiting > 0;
        },
      };
    },
  };
}

async function reported({ instances, connect }: Site): Promise<Stream> {
  const stream = connect({ epoch: 1 });
  const value = { instance: Instance.fromPartial({ service: 'orders' }), removed: false, fullReportEnd: false };
  stream.send({ $case: 'instanceState', value });
  await waitFor('the instance', () => instances.get('m-1/orders'));
  await instances.flushed();
  return stream;
}

describe('gateway', () => {
  it('sends nothing before the welcome, however early it is asked to', async (t) => {
    const { gateway, connect } = await site(t);
    const stream = connect({ epoch: 1 });
    for (
      let turns = 0;
      !gateway.tail('m-1', { command: 't-1', service: 'orders', lines: 1, follow: false, position: '', file: '' });
      turns += 1
    ) {
      assert.ok(turns < 10_000, 'it never connected');
      await Promise.resolve();
    }
    await waitFor('the order', () => stream.received.includes('command'));
    assert.equal(stream.received[0], 'welcome');
  });

  it('lets a session of the same process follow without a moment in which the machine has none', async (t) => {
    const parts = await site(t);
    const first = await reported(parts);
    const held = parts.hold();
    const second = parts.connect({ epoch: 2 });
    await waitFor('it is recorded', () => held.waiting);
    assert.equal(parts.gateway.connected('m-1'), true);
    assert.equal(parts.gateway.cancel('m-1', 'c-1'), true);
    held.release();
    assert.ok(isCode(await first.ended, 'conflict'));
    assert.equal(parts.gateway.connected('m-1'), true);
    await waitFor('the welcome', () => second.received.includes('welcome'));
    assert.deepEqual(parts.told, ['known']);
    assert.equal(parts.machines.isOnline('m-1'), true);
  });

  it('keeps the machine connected when the older session ends while its successor is recorded', async (t) => {
    const parts = await site(t);
    const first = await reported(parts);
    const held = parts.hold();
    const second = parts.connect({ epoch: 2 });
    await waitFor('it is recorded', () => held.waiting);
    first.cut();
    await first.ended;
    held.release();
    await waitFor('the welcome', () => second.received.includes('welcome'));
    assert.deepEqual(parts.told, ['known']);
    assert.equal(parts.machines.isOnline('m-1'), true);
  });

  it('says that contact is lost when the older session has ended and its successor could not be recorded', async (t) => {
    const parts = await site(t);
    const first = await reported(parts);
    const held = parts.hold();
    const second = parts.connect({ epoch: 2 });
    await waitFor('it is recorded', () => held.waiting);
    first.cut();
    await first.ended;
    held.release(new MusterError('exhausted', 'the disk is full'));
    assert.ok(isCode(await second.ended, 'exhausted'));
    assert.deepEqual(parts.told, ['known', 'unknown', 'contact lost']);
    assert.equal(parts.gateway.connected('m-1'), false);
    assert.equal(parts.machines.isOnline('m-1'), false);
  });
});

/** Silence after which a session is given up, in a small fleet. */
const LIMIT_MS = 15_000;
const beat = { $case: 'heartbeat', value: { resources: undefined, now: undefined } } as const;
const inventory = { $case: 'inventory', value: Inventory.fromPartial({ hostname: 'web-1' }) } as const;

describe('the silence of an agent', () => {
  it('ends its session', async (t) => {
    const { clock, connect } = await site(t);
    const stream = connect({ epoch: 1 });
    await waitFor('the welcome', () => stream.received.includes('welcome'));
    await clock.advance(LIMIT_MS - 1000);
    stream.send(beat);
    await clock.advance(LIMIT_MS);
    assert.equal(stream.over, false);
    await clock.advance(1000);
    assert.ok(isCode(await stream.ended, 'unavailable'));
  });

  it('does not count while the center is at work on what it said', async (t) => {
    const parts = await site(t);
    const { clock, connect } = parts;
    const stream = connect({ epoch: 1 });
    await waitFor('the welcome', () => stream.received.includes('welcome'));
    const held = parts.hold();
    stream.send(inventory);
    await waitFor('the write', () => held.waiting);
    await clock.advance(10 * LIMIT_MS);
    assert.equal(stream.over, false);
    held.release();
    await clock.advance(LIMIT_MS);
    assert.equal(stream.over, false);
    await clock.advance(2000);
    assert.ok(isCode(await stream.ended, 'unavailable'));
  });

  it('does not count while the center still greets it', async (t) => {
    let greeted = (): void => undefined;
    const greeting = new Promise<void>((resolve) => (greeted = resolve));
    const { gateway, clock, connect } = await site(t, { differences: () => greeting.then(() => []) });
    const stream = connect({ epoch: 1 });
    await waitFor('the welcome', () => stream.received.includes('welcome'));
    await clock.advance(10 * LIMIT_MS);
    assert.equal(gateway.connected('m-1'), true);
    greeted();
  });

  it('does not count while the center itself stood still', async (t) => {
    const { clock, connect } = await site(t);
    const stream = connect({ epoch: 1 });
    await waitFor('the welcome', () => stream.received.includes('welcome'));
    await clock.advance(5000);
    clock.stall(4 * LIMIT_MS);
    await clock.advance(1000);
    assert.equal(stream.over, false);
    stream.send(beat);
    await clock.advance(2000);
    assert.equal(stream.over, false);
  });

  it('is no answer to whether it lives while the center does not listen', async (t) => {
    const parts = await site(t);
    const first = await reported(parts);
    const held = parts.hold();
    first.send(inventory);
    await waitFor('the write', () => held.waiting);
    const copy = parts.connect({ epoch: 2, processId: 'p-2' });
    await waitFor('the question', () => first.received.filter((kind) => kind === 'reportFull').length === 2);
    await parts.clock.advance(10_000);
    first.send(beat);
    held.release();
    await waitFor('an answer', async () => {
      await parts.clock.advance(50);
      return copy.over;
    });
    assert.ok(isCode(await copy.ended, 'conflict'));
    assert.equal(first.over, false);
  });
});
