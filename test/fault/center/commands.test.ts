import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isSettled, type CommandRecord } from '../../../src/center/commands/command.js';
import { Commands } from '../../../src/center/commands/commands.js';
import type { Courier } from '../../../src/center/gateway/parts.js';
import { Table } from '../../../src/center/table.js';
import { ManualClock } from '../../../src/kit/clock.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { freshSeed, randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { openMemoryStore } from '../../../src/store/memory.js';
import type { Store } from '../../../src/store/port.js';
import { KilledStore } from '../../support/killed-store.js';
import { ModelAgent } from '../../support/model-agent.js';

const RUNS = 80;
const STEPS = 60;
const MACHINE = 'm-1';

/** A center that is killed and started again over one disk, and an agent that loses and finds it. */
class World {
  readonly agent: ModelAgent;
  /** Every outcome that anyone was shown as settled. */
  readonly shown = new Map<string, CommandRecord['outcome']>();
  readonly #clock = new ManualClock();
  readonly #disk: Store;
  readonly #random: Random;
  #commands: Commands | undefined;
  #connected = false;
  #life = 0;

  constructor(disk: Store, random: Random) {
    this.#disk = disk;
    this.#random = random;
    this.agent = new ModelAgent(random);
  }

  async start(writes: number): Promise<void> {
    this.#life += 1;
    const life = this.#life;
    this.#connected = false;
    const store = new KilledStore(this.#disk, {
      writes,
      random: this.#random,
      onKill: () => {
        if (this.#life === life) this.#commands = undefined;
        this.#connected = false;
      },
    });
    const courier = this.#courier(life);
    const table = await Table.open<CommandRecord>({
      store,
      prefix: 'command/',
      clock: this.#clock,
      logger: silentLogger,
    });
    const commands = new Commands({
      table,
      courier,
      clock: this.#clock,
      logger: silentLogger,
      workOf: () => ({}),
    });
    this.#commands = commands;
    void commands.resume();
    await this.settle();
  }

  get running(): Commands | undefined {
    return this.#commands;
  }

  async step(): Promise<void> {
    const commands = this.#commands;
    if (!commands) {
      await this.start(randomBetween(this.#random, 1, 15));
      return;
    }
    const choice = randomBetween(this.#random, 0, 6);
    if (choice <= 1) void commands.run(this.order());
    else if (choice === 2) this.connect(commands);
    else if (choice === 3) this.lose(commands);
    else if (choice === 4) this.tellAll(commands);
    else this.agent.live();
    await this.settle();
  }

  order(): Parameters<Commands['run']>[0] {
    const machine = { id: MACHINE, name: 'web-1' };
    return {
      machine,
      service: 'orders',
      action: 'RESTART',
      expiresInMs: undefined,
      requestId: '',
      by: 'x',
      reason: '',
    };
  }

  connect(commands: Commands): void {
    this.#connected = true;
    const life = this.#life;
    void commands.held(MACHINE, [...this.agent.journal.values()], () => this.#life === life && this.#connected);
  }

  lose(commands: Commands): void {
    this.#connected = false;
    void commands.machineLost(MACHINE);
  }

  tellAll(commands: Commands): void {
    if (!this.#connected) return;
    const life = this.#life;
    for (const report of this.agent.journal.values()) {
      void commands.reported(MACHINE, report, () => this.#life === life && this.#connected);
    }
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    for (const command of this.#commands?.list() ?? []) {
      const before = this.shown.get(command.id);
      if (before !== undefined) assert.equal(command.outcome, before, 'a settled outcome changed');
      if (isSettled(command)) this.shown.set(command.id, command.outcome);
    }
  }

  /** Lets everything come to rest with a center that is not killed any more. */
  async rest(): Promise<Commands> {
    await this.start(Number.MAX_SAFE_INTEGER);
    const commands = this.#commands;
    assert.ok(commands);
    for (let round = 0; round < 20; round += 1) {
      this.connect(commands);
      await this.settle();
      this.agent.live();
      this.tellAll(commands);
      await this.settle();
    }
    return commands;
  }

  #courier(life: number): Courier {
    const there = (): boolean => this.#life === life && this.#connected && this.#commands !== undefined;
    const send = (work: () => void): boolean => {
      if (!there()) return false;
      // What is written to a connection may never arrive.
      if (this.#random.next() < 0.8) work();
      return true;
    };
    return {
      connected: there,
      order: (_machine, order) =>
        send(() => {
          this.agent.take(order);
        }),
      acknowledge: (_machine, id) =>
        send(() => {
          this.agent.acknowledge(id);
        }),
      cancel: () => there(),
      tail: () => there(),
      assign: () => there(),
    };
  }
}

async function run(seed: number): Promise<number> {
  const random = seededRandom(seed);
  const world = new World(await openMemoryStore(), random);
  for (let step = 0; step < STEPS; step += 1) await world.step();
  const commands = await world.rest();
  for (const [id, count] of world.agent.starts) assert.equal(count, 1, `${id} was started ${count} times`);
  const all = commands.list();
  for (const command of all) assert.ok(isSettled(command), `${command.id} is ${command.outcome} for ever`);
  for (const [id, outcome] of world.shown) assert.equal(commands.find(id)?.outcome, outcome);
  for (const [id, outcome] of world.agent.forgotten) {
    assert.equal(
      commands.find(id)?.outcome,
      outcome,
      'the center shows something else than what the agent was allowed to forget',
    );
  }
  assert.equal(world.agent.journal.size, 0, 'the agent keeps something that nobody acknowledges');
  return all.length;
}

describe('commands of a center that is killed in the middle of its writes', () => {
  it(`start at most once, end, and keep the end they were seen to have (${RUNS} seeded runs)`, async () => {
    const first = Number(process.env['SEED'] ?? freshSeed());
    let commands = 0;
    for (let index = 0; index < RUNS; index += 1) {
      const seed = (first + index) >>> 0;
      try {
        commands += await run(seed);
      } catch (error) {
        throw new Error(`seed ${seed} fails; run it alone with SEED=${seed}`, { cause: error });
      }
    }
    assert.ok(commands > RUNS, 'the runs did too little');
  });
});
