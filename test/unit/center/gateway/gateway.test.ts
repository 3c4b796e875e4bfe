import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Hello, type ConnectRequest, type ConnectResponse } from '../../../../generated/muster/v1/center.js';
import { Instance } from '../../../../generated/muster/v1/types.js';
import { Instances, type InstanceRecord } from '../../../../src/center/fleet/instances.js';
import { Machines, type MachineRecord } from '../../../../src/center/fleet/machines.js';
import { Gateway } from '../../../../src/center/gateway/gateway.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode, MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { BoundedQueue } from '../../../../src/kit/queue.js';
import type { Inventory } from '../../../../src/model/machine.js';
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
    this.ended = served.then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  send(frame: UpFrame): void {
    this.#sequence += 1;
    this.sent.push({ sequence: this.#sequence, frame });
  }

  cut(): void {
    this.gone.abort(new MusterError('unavailable', 'the connection is gone'));
  }
}

interface Site {
  readonly gateway: Gateway;
  readonly machines: Machines;
  readonly instances: Instances;
  /** What was told of contact and instances. */
  readonly told: string[];
  readonly connect: (hello: { epoch: number; processId?: string }) => Stream;
  /** Writes wait here; resolve to let them through. */
  hold(): { release(error?: Error): void; readonly waiting: boolean };
}

async function site(t: TestContext): Promise<Site> {
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
  const clock = new ManualClock();
  const open = <T>(prefix: string): Promise<Table<T>> => Table.open<T>({ store, prefix, clock, logger: silentLogger });
  const table = await open<MachineRecord>('machine/');
  const machines = new Machines({
    table,
    inventories: await open<Inventory>('inventory/'),
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
    },
    clock,
    logger: silentLogger,
    site: 'test',
    version: '0.0.0',
  });
  const streams: Stream[] = [];
  t.after(async () => {
    for (const stream of streams) stream.cut();
    await Promise.all(streams.map(({ ended }) => ended));
  });
  return {
    gateway,
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
      !gateway.tail('m-1', { command: 't-1', service: 'orders', lines: 1, follow: false });
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
