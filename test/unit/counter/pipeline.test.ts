import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CounterSpool } from '../../../src/agent/counters/spool.js';
import { Uplink, type UplinkStream } from '../../../src/agent/counters/uplink.js';
import { Counters } from '../../../src/center/counters/counters.js';
import { Counter, Gauge, Registry } from '../../../src/counter/index.js';
import { Reporter, type Transport } from '../../../src/counter/reporter.js';
import type { Batch, PointRefusal } from '../../../src/counter/series.js';
import { ManualClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { freshSeed, randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openMemoryStore } from '../../../src/store/memory.js';
import type { Store } from '../../../src/store/port.js';
import { FakeFleet } from '../../support/fleet.js';

const SERVICE = 'orders';
const MACHINE = 'm-1';
const FLEET = new FakeFleet([{ id: MACHINE, name: MACHINE, online: true }]);

/** Both hops in one process, with a network that loses, repeats and delays, and parts that end at any moment. */
class Pipeline {
  readonly clock = new ManualClock();
  readonly random: Random;
  readonly agentStore: Store;
  readonly centerStore: Store;
  spool: CounterSpool;
  counters: Counters;
  #uplink: { stop: AbortController; done: Promise<void> } | undefined;
  /** Share of sends that fail, half of them after they were taken. */
  faults = 0;

  private constructor(random: Random, stores: readonly [Store, Store], parts: [CounterSpool, Counters]) {
    this.random = random;
    [this.agentStore, this.centerStore] = stores;
    [this.spool, this.counters] = parts;
  }

  static async start(seed: number): Promise<Pipeline> {
    const clock = new ManualClock();
    const stores = [await openMemoryStore(), await openMemoryStore()] as const;
    const spool = await CounterSpool.open(stores[0], clock);
    const counters = await Counters.open(stores[1], { clock, fleet: FLEET });
    const pipeline = new Pipeline(seededRandom(seed), stores, [spool, counters]);
    pipeline.startUplink();
    return pipeline;
  }

  async restartAgent(): Promise<void> {
    await this.stopUplink();
    this.spool = await CounterSpool.open(this.agentStore, this.clock);
    this.startUplink();
  }

  async restartCenter(): Promise<void> {
    this.counters = await Counters.open(this.centerStore, { clock: this.clock, fleet: FLEET });
  }

  reporter(registry: Registry): Reporter {
    const transport: Transport = { send: (batch) => this.#faulty(() => this.spool.report(SERVICE, batch)) };
    const warn = (message: string): void => {
      assert.fail(message);
    };
    const { clock, random } = this;
    return new Reporter({ registry, transport, clock, random, service: SERVICE, warn });
  }

  startUplink(): void {
    const stop = new AbortController();
    const open = (): UplinkStream => ({
      send: (batch: Batch) => this.#faulty(() => this.counters.report(MACHINE, batch)),
      close: () => undefined,
    });
    const { spool, clock, random } = this;
    const center = { connected: true, onConnection: () => () => undefined };
    const uplink = new Uplink({ spool, center, open, clock, random, logger: silentLogger });
    this.#uplink = { stop, done: uplink.run(stop.signal) };
  }

  async stopUplink(): Promise<void> {
    this.#uplink?.stop.abort();
    await this.#uplink?.done;
  }

  total(name: string): number {
    return this.counters.query(SERVICE, name).counter.value;
  }

  /** Until nothing is under way any more. */
  async settle(): Promise<void> {
    this.faults = 0;
    for (let round = 0; round < 40; round += 1) await this.clock.advance(1_000);
  }

  async #faulty(send: () => Promise<PointRefusal[]>): Promise<PointRefusal[]> {
    const chance = this.random.next();
    if (chance < this.faults / 2) throw new MusterError('unavailable', 'lost on the way');
    const refusals = await send();
    if (chance < this.faults) throw new MusterError('unavailable', 'the acknowledgement was lost');
    return refusals;
  }
}

interface Process {
  readonly counter: Counter;
  readonly reporter: Reporter;
}

function startProcess(pipeline: Pipeline): Process {
  const registry = new Registry();
  const counter = new Counter('test', {}, registry);
  const reporter = pipeline.reporter(registry);
  reporter.start();
  return { counter, reporter };
}

/** Ends it once all it counted is acknowledged, however often it takes. */
async function endProcess(pipeline: Pipeline, { reporter }: Process): Promise<void> {
  for (;;) {
    const flushed = await reporter.flush({ final: pipeline.random.next() < 0.5 }).then(
      () => true,
      () => false,
    );
    if (flushed) break;
  }
  reporter.stop();
}

describe('counting over both hops', () => {
  it('counts each increment once, whatever is lost, repeated or restarted', async () => {
    const seed = freshSeed();
    for (let round = 0; round < 40; round += 1) await attempt(seed + round);
  });

  async function attempt(seed: number): Promise<void> {
    const pipeline = await Pipeline.start(seed);
    const { random, clock } = pipeline;
    let expected = 0;
    const processes = [startProcess(pipeline)];
    const endOne = async (): Promise<void> => {
      const [process] = processes.splice(randomBetween(random, 0, processes.length), 1);
      if (process) await endProcess(pipeline, process);
    };
    const actions: (() => Promise<void> | void)[] = [
      () => pipeline.restartAgent(),
      () => pipeline.restartCenter(),
      () => void processes.push(startProcess(pipeline)),
      endOne,
      () => {
        clock.jumpWallClock(randomBetween(random, -48, 48) * 3_600_000);
      },
    ];
    for (let step = 0; step < 120; step += 1) {
      pipeline.faults = random.next() < 0.5 ? 0.5 : 0.1;
      const process = processes[randomBetween(random, 0, processes.length)];
      const by = randomBetween(random, 0, 10);
      process?.counter.increment(by);
      expected += process ? by : 0;
      const action = random.next() < 0.25 ? actions[randomBetween(random, 0, actions.length)] : undefined;
      await (action?.() ?? clock.advance(randomBetween(random, 0, 3_000)));
      assert.ok(totalOr(pipeline, 0) <= expected, `seed ${seed}: counted twice`);
    }
    for (const process of processes) await endProcess(pipeline, process);
    await pipeline.settle();
    assert.equal(pipeline.total('test'), expected, `seed ${seed}`);
    await pipeline.stopUplink();
  }

  function totalOr(pipeline: Pipeline, fallback: number): number {
    try {
      return pipeline.total('test');
    } catch {
      return fallback;
    }
  }

  it('goes on after the agent forgot the process', async () => {
    const pipeline = await Pipeline.start(1);
    const process = startProcess(pipeline);
    process.counter.increment(5);
    await process.reporter.flush();
    // Another data directory: nothing of the process is known.
    await pipeline.stopUplink();
    pipeline.spool = await CounterSpool.open(await openMemoryStore(), pipeline.clock);
    await pipeline.settle();
    pipeline.startUplink();
    process.counter.increment(2);
    await process.reporter.flush();
    await pipeline.settle();
    // The first five never left the lost directory.
    assert.equal(pipeline.total('test'), 2);
    await pipeline.stopUplink();
    process.reporter.stop();
  });

  it('goes on after the agent was put back to an older state', async () => {
    const pipeline = await Pipeline.start(2);
    const process = startProcess(pipeline);
    process.counter.increment(5);
    await process.reporter.flush();
    const older = await openMemoryStore();
    for await (const { key, value } of pipeline.agentStore.range()) await older.write([{ kind: 'put', key, value }]);
    process.counter.increment(10);
    await process.reporter.flush({ final: true });
    process.reporter.stop();
    await pipeline.settle();
    assert.equal(pipeline.total('test'), 15);

    await pipeline.stopUplink();
    pipeline.spool = await CounterSpool.open(older, pipeline.clock);
    pipeline.startUplink();
    const next = startProcess(pipeline);
    next.counter.increment(3);
    await next.reporter.flush();
    await pipeline.settle();
    assert.equal(pipeline.total('test'), 18);
    next.counter.increment(1);
    await next.reporter.flush();
    await pipeline.settle();
    assert.equal(pipeline.total('test'), 19);
    next.reporter.stop();
    await pipeline.stopUplink();
  });

  it('takes the newest value of a gauge', async () => {
    const pipeline = await Pipeline.start(3);
    const registry = new Registry();
    const gauge = new Gauge('level', {}, registry);
    const reporter = pipeline.reporter(registry);
    gauge.set(5);
    await reporter.flush();
    gauge.set(-3.5);
    await reporter.flush();
    await pipeline.settle();
    assert.equal(pipeline.total('level'), -3.5);
    await pipeline.stopUplink();
  });
});
