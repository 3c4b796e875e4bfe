import assert from 'node:assert/strict';
import { isSettled, type CommandRecord } from '../../src/center/commands/command.js';
import { Commands } from '../../src/center/commands/commands.js';
import type { Courier } from '../../src/center/gateway/parts.js';
import { stateOf, type OperationRecord, type OperationState } from '../../src/center/operations/operation.js';
import { Operations } from '../../src/center/operations/operations.js';
import type { Asking } from '../../src/center/operations/records.js';
import type { StrategyWish } from '../../src/center/operations/strategy.js';
import type { Candidate, TargetFleet } from '../../src/center/operations/targets.js';
import { Table } from '../../src/center/table.js';
import { ManualClock } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { randomBetween, type Random } from '../../src/kit/random.js';
import type { DeployReport } from '../../src/model/release.js';
import type { Store } from '../../src/store/port.js';
import { workOf } from '../../src/center/operations/work.js';
import { FakeReleases, releaseRef } from './fake-releases.js';
import { KilledStore } from './killed-store.js';
import { ModelAgent } from './model-agent.js';

const SERVICES = ['orders', 'billing'];
const VERSIONS = ['1.0.0', '2.0.0', '3.0.0'];
const MACHINES = 5;
const PATIENCE_MS = 30_000;
/** Turns of the event loop in which everything that goes on by itself has come to rest. */
const TURNS = 25;

const STOPPED: readonly string[] = ['budget', 'canary', 'deadline'];

function isToBePutBack({ action, deploy, stop }: OperationRecord): boolean {
  return action === 'DEPLOY' && deploy?.onFailure === 'ALL' && stop !== undefined && STOPPED.includes(stop.cause);
}

/** What has nothing to go back to fails without being sent. */
function wasRefused({ outcome, deliveredMs }: CommandRecord): boolean {
  return outcome === 'FAILED' && deliveredMs === undefined;
}

/** Whether it ran from something else before. */
function isOther(report: DeployReport | undefined): boolean {
  return report?.from === undefined || report.from.digest !== report.to?.digest;
}

interface Life {
  readonly store: KilledStore;
  readonly commands: Commands;
  readonly operations: Operations;
  readonly controller: AbortController;
}

/** A center with operations that is killed and started again over one disk, and agents that come and go and are killed too. */
export class OperationsWorld {
  readonly agents = new Map<string, ModelAgent>();
  readonly kills = { center: 0, agents: 0 };
  /** Deploys that were put back. */
  putBack = 0;
  readonly #clock = new ManualClock();
  readonly #releases = new FakeReleases();
  /** Targets of deploys that were seen to have succeeded before the deploy ended. */
  readonly #succeeded = new Map<string, Set<string>>();
  readonly #disk: Store;
  readonly #random: Random;
  readonly #connected = new Set<string>();
  readonly #shown = new Map<string, CommandRecord['outcome']>();
  readonly #frozen = new Map<string, string>();
  readonly #ends = new Map<string, string>();
  #life: Life | undefined;
  #lives = 0;
  #requests = 0;

  constructor(disk: Store, random: Random) {
    this.#disk = disk;
    this.#random = random;
    for (const service of SERVICES) for (const version of VERSIONS) this.#releases.put(releaseRef(service, version));
    for (let index = 0; index < MACHINES; index += 1) {
      const agent = new ModelAgent(random, 0.4);
      // The others run from no release yet.
      if (index % 2 === 0) for (const service of SERVICES) agent.current.set(service, releaseRef(service, '1.0.0'));
      this.agents.set(`m-${index}`, agent);
    }
  }

  /** Starts the center; it is killed in the middle of that write. */
  async start(writes: number): Promise<void> {
    this.#lives += 1;
    const controller = new AbortController();
    this.#connected.clear();
    const store = new KilledStore(this.#disk, {
      writes,
      random: this.#random,
      onKill: () => {
        this.kills.center += 1;
        this.#life = undefined;
        this.#connected.clear();
        controller.abort(new Error('killed'));
      },
    });
    const options = { store, clock: this.#clock, logger: silentLogger };
    const [table, operationTable] = await Promise.all([
      Table.open<CommandRecord>({ ...options, prefix: 'command/' }),
      Table.open<OperationRecord>({ ...options, prefix: 'operation/' }),
    ]);
    const connected = (machine: string): boolean => !controller.signal.aborted && this.#connected.has(machine);
    const commands = new Commands({
      ...options,
      table,
      courier: this.#courier(connected),
      workOf: (command) => workOf(operationTable.get(command.turn?.operation ?? ''), command, this.#releases),
    });
    const operations = new Operations({
      ...options,
      table: operationTable,
      commands,
      fleet: this.#fleet(),
      releases: this.#releases,
      connected,
      patienceMs: () => PATIENCE_MS,
      random: this.#random,
    });
    const life = { store, commands, operations, controller };
    this.#life = life;
    void this.#serve(life);
    await this.settle();
  }

  async step(): Promise<void> {
    const life = this.#life;
    if (!life) {
      await this.start(randomBetween(this.#random, 1, 60));
      return;
    }
    this.#happen(life);
    await this.settle();
  }

  /** Lets everything come to its end with a center that is not killed any more. */
  async rest(): Promise<Operations> {
    this.#life?.store.kill();
    await this.start(Number.MAX_SAFE_INTEGER);
    const life = this.#life;
    assert.ok(life);
    for (let round = 0; round < 400; round += 1) {
      for (const { id, paused } of life.operations.ledger.open()) if (paused) this.#try(life.operations.unpause(id));
      for (const machine of this.agents.keys()) {
        if (!this.#connected.has(machine)) this.#connect(life, machine);
        this.agents.get(machine)?.live();
        this.#tellAll(life, machine);
      }
      await this.settle();
      await this.#clock.advance(1000);
      await this.settle();
      const known = [...this.agents.values()].every(({ journal }) => journal.size === 0);
      if (known && life.operations.ledger.open().length === 0) return life.operations;
    }
    const open = life.operations.ledger.open().map(({ id }) => life.operations.ledger.find(id));
    throw new Error(`these never end: ${JSON.stringify(open)}`);
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    if (this.#life) this.#observe(this.#life);
  }

  /** What must hold in the end, when all agents are there. */
  judge(operations: Operations): void {
    const { ledger } = operations;
    for (const agent of this.agents.values()) {
      for (const [id, count] of agent.starts) assert.equal(count, 1, `${id} was started ${count} times`);
    }
    for (const [id] of this.#frozen) assert.ok(ledger.get(id), `operation ${id} is lost`);
    for (const { record } of ledger.list()) {
      const targets = ledger.targetsOf(record.id);
      if (record.startedMs === undefined) assert.ok(record.stop, `${record.id} never had its turn`);
      else assert.ok(targets.length > 0);
      for (const target of targets) this.#judgeTarget(target);
      this.#judgePutBack(operations, record, targets);
    }
  }

  /** What a stopped deploy had deployed was put back by one operation, if that was asked for, and nobody had the service in between. */
  #judgePutBack(operations: Operations, record: OperationRecord, targets: readonly CommandRecord[]): void {
    const all = operations.ledger.list().map((view) => view.record);
    const back = all.filter(({ rollbackOf, retryOf }) => rollbackOf === record.id && retryOf === undefined);
    assert.ok(back.length <= 1, `${record.id} was put back ${back.length} times`);
    const [second] = back;
    const due = isToBePutBack(record);
    const seen = targets.filter(({ id, result }) => this.#succeeded.get(record.id)?.has(id) && isOther(result?.deploy));
    for (const { machine } of due ? seen : []) assert.ok(second?.machines?.includes(machine), `${machine} is left`);
    if (!second) return;
    this.putBack += 1;
    assert.ok(due, `${record.id} is put back and was not to be`);
    const [fromMs = 0, untilMs = 0] = [record.endedMs, second.startedMs];
    const others = all.filter(({ service, startedMs }) => service === record.service && startedMs !== undefined);
    const between = others.filter(({ startedMs = 0 }) => startedMs > fromMs && startedMs < untilMs);
    assert.deepEqual(between, [], 'somebody came before what is put back');
  }

  #judgeTarget(target: CommandRecord): void {
    const { id, machine, outcome } = target;
    const starts = this.agents.get(machine)?.starts.get(id) ?? 0;
    const forgotten = this.agents.get(machine)?.forgotten.get(id);
    assert.ok(['SUCCEEDED', 'FAILED', 'EXPIRED', 'CANCELLED', 'UNKNOWN'].includes(outcome), `${id} is ${outcome}`);
    const ran = outcome === 'SUCCEEDED' || outcome === 'FAILED';
    if (ran) assert.equal(starts, wasRefused(target) ? 0 : 1, `${id} ${outcome}`);
    if (outcome === 'EXPIRED' || outcome === 'CANCELLED') assert.equal(starts, 0, `${id} ${outcome}, and was started`);
    if (forgotten !== undefined) assert.equal(outcome, forgotten, 'not what the agent was allowed to forget');
  }

  async #serve({ commands, operations, controller }: Life): Promise<void> {
    await commands.resume();
    await operations.resume();
    for (const { id, turn } of commands.list()) {
      if (!turn) continue;
      assert.ok(
        operations.ledger.get(turn.operation)?.startedMs !== undefined,
        `${id} is of no operation that started`,
      );
    }
    await operations.run(controller.signal);
  }

  /** What must hold at any time. */
  #observe({ commands, operations }: Life): void {
    for (const command of commands.list()) {
      const before = this.#shown.get(command.id);
      if (before !== undefined) assert.equal(command.outcome, before, 'a settled outcome changed');
      if (isSettled(command)) this.#shown.set(command.id, command.outcome);
    }
    const running = new Set<string>();
    for (const { record, counts } of operations.ledger.list()) {
      this.#observeFrozen(operations, record);
      const open = record.startedMs !== undefined && record.endedMs === undefined;
      assert.ok(!open || !running.has(record.service), `two operations on ${record.service} at once`);
      if (open) running.add(record.service);
      if (open && record.action === 'DEPLOY') this.#observeDeploy(operations, record.id);
      this.#observeEnd(record, stateOf(record, counts));
    }
  }

  #observeDeploy(operations: Operations, id: string): void {
    const succeeded = operations.ledger.targetsOf(id).filter(({ outcome }) => outcome === 'SUCCEEDED');
    this.#succeeded.set(id, new Set(succeeded.map((target) => target.id)));
  }

  #observeFrozen(operations: Operations, { id, startedMs }: OperationRecord): void {
    if (startedMs === undefined) return;
    const now = JSON.stringify(operations.ledger.targetsOf(id).map((target) => [target.id, target.machine]));
    const before = this.#frozen.get(id) ?? now;
    assert.equal(now, before, `the targets of ${id} changed`);
    this.#frozen.set(id, before);
  }

  #observeEnd(record: OperationRecord, state: OperationState): void {
    const { id, endedMs, stop } = record;
    if (endedMs === undefined) {
      assert.ok(!this.#ends.has(id), `${id} had ended and is ${state}`);
      return;
    }
    const end = JSON.stringify([endedMs, stop]);
    assert.equal(end, this.#ends.get(id) ?? end, `the end of ${id} changed`);
    this.#ends.set(id, end);
  }

  #happen(life: Life): void {
    const machine = `m-${randomBetween(this.#random, 0, MACHINES)}`;
    const { operations } = life;
    const all = operations.ledger.list().map(({ record }) => record.id);
    const some = all[randomBetween(this.#random, 0, all.length)] ?? '';
    const events: (() => void)[] = [
      () => {
        this.#connect(life, machine);
      },
      () => {
        this.#lose(life, machine);
      },
      () => {
        this.agents.get(machine)?.live();
        this.#tellAll(life, machine);
      },
      () => {
        this.#killAgent(life, machine);
      },
      () => {
        void this.#clock.advance(randomBetween(this.#random, 1, 40_000));
      },
      () => {
        this.#try(this.#random.next() < 0.5 ? operations.pause(some, 'ann') : operations.unpause(some));
      },
      () => {
        if (this.#random.next() < 0.3) this.#try(operations.cancel(some, 'ann'));
      },
      () => {
        this.#try(operations.retry(some, this.#asking(), this.#random.next() < 0.5));
      },
      () => {
        if (this.#random.next() < 0.3) life.store.kill();
      },
      () => {
        for (const one of this.agents.keys()) this.#connect(life, one);
      },
    ];
    const choice = randomBetween(this.#random, 0, events.length + 2);
    const event =
      events[choice] ??
      ((): void => {
        this.#begin(operations);
      });
    event();
  }

  #begin(operations: Operations): void {
    const service = SERVICES[randomBetween(this.#random, 0, SERVICES.length)] ?? '';
    const version = VERSIONS[randomBetween(this.#random, 0, VERSIONS.length)] ?? '';
    const onFailure = this.#random.next() < 0.7 ? ('ALL' as const) : ('TARGET' as const);
    const what =
      this.#random.next() < 0.5
        ? { action: 'RESTART' as const }
        : { action: 'DEPLOY' as const, deploy: { version, onFailure } };
    const wish = { ...what, service, selector: '', search: undefined };
    this.#try(operations.start({ ...wish, ...this.#asking(), strategy: this.#strategy() }));
  }

  #asking(): Asking {
    this.#requests += 1;
    const requestId = this.#random.next() < 0.3 ? `r-${randomBetween(this.#random, 0, this.#requests)}` : '';
    return { by: 'ann', from: 'here', reason: '', requestId, wait: this.#random.next() < 0.5 };
  }

  #strategy(): StrategyWish {
    const canary = randomBetween(this.#random, 0, 2);
    return {
      batch: String(randomBetween(this.#random, 1, 4)),
      canary,
      bakeMs: canary > 0 && this.#random.next() < 0.5 ? 5000 : 0,
      budget: this.#random.next() < 0.7 ? '100%' : '1',
      unreachableBudget: this.#random.next() < 0.7 ? '100%' : '1',
      queueForMs: 20_000,
      targetTimeoutMs: this.#random.next() < 0.5 ? 45_000 : 600_000,
      timeoutMs: this.#random.next() < 0.2 ? 60_000 : 0,
    };
  }

  /** What a person asks for may be refused; a killed center never answers. */
  #try(asked: Promise<unknown>): void {
    asked.catch((error: unknown) => {
      if (!(error instanceof MusterError)) throw error;
    });
  }

  #connect(life: Life, machine: string): void {
    const agent = this.agents.get(machine);
    if (!agent) return;
    this.#connected.add(machine);
    void life.commands.held(machine, [...agent.journal.values()], this.#current(machine)).then(() => {
      life.operations.poke();
    });
  }

  #lose(life: Life, machine: string): void {
    this.#connected.delete(machine);
    void life.commands.machineLost(machine).then(() => {
      life.operations.poke();
    });
  }

  #break(machine: string): void {
    const life = this.#life;
    void Promise.resolve().then(() => {
      if (life && life === this.#life) this.#lose(life, machine);
    });
  }

  #killAgent(life: Life, machine: string): void {
    const agent = this.agents.get(machine);
    if (!agent) return;
    this.kills.agents += 1;
    agent.restart();
    if (this.#random.next() < 0.3) this.#spoilDisk(life, agent);
    this.#lose(life, machine);
    if (this.#random.next() < 0.5) this.#connect(life, machine);
  }

  /** A start that nobody saw on a disk that is lost is beyond what is promised. */
  #spoilDisk({ commands }: Life, agent: ModelAgent): void {
    for (const [id, { outcome }] of agent.journal) {
      if (outcome === 'UNKNOWN' && commands.find(id)?.startedMs !== undefined) agent.lose(id);
    }
  }

  #tellAll(life: Life, machine: string): void {
    const agent = this.agents.get(machine);
    if (!agent || !this.#connected.has(machine)) return;
    for (const id of agent.untold) {
      const report = agent.journal.get(id);
      if (report) void life.commands.reported(machine, report, this.#current(machine));
    }
    agent.untold.clear();
  }

  #current(machine: string): () => boolean {
    const life = this.#lives;
    return () => this.#lives === life && this.#connected.has(machine);
  }

  #courier(connected: (machine: string) => boolean): Courier {
    const send = (machine: string, work: (agent: ModelAgent) => void): boolean => {
      const agent = this.agents.get(machine);
      if (!agent || !connected(machine)) return false;
      // What is written to a connection that breaks may never arrive.
      if (this.#random.next() < 0.9) work(agent);
      else this.#break(machine);
      return true;
    };
    return {
      connected,
      order: (machine, order) =>
        send(machine, (agent) => {
          agent.take(order);
        }),
      acknowledge: (machine, id) =>
        send(machine, (agent) => {
          agent.acknowledge(id);
        }),
      cancel: (machine, id) =>
        send(machine, (agent) => {
          agent.cancel(id);
        }),
      tail: connected,
      assign: connected,
    };
  }

  #fleet(): TargetFleet {
    const candidate = (id: string): Candidate => ({
      id,
      name: id,
      labels: {},
      online: this.#connected.has(id),
      agentVersion: '1',
      capabilities: ['deploy'],
      state: this.#connected.has(id) ? 'RUNNING' : undefined,
      health: undefined,
    });
    const all = (): Candidate[] => [...this.agents.keys()].map(candidate);
    return { candidates: all, candidate, anywhere: all, somewhere: candidate, serviceNames: () => SERVICES };
  }
}
