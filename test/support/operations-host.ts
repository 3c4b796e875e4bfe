import type { TestContext } from 'node:test';
import type { CommandRecord } from '../../src/center/commands/command.js';
import { Commands } from '../../src/center/commands/commands.js';
import type { CommandOrder, CommandReport, Courier } from '../../src/center/gateway/parts.js';
import type { OperationRecord } from '../../src/center/operations/operation.js';
import { Operations } from '../../src/center/operations/operations.js';
import type { OperationWish } from '../../src/center/operations/records.js';
import { workOf } from '../../src/center/operations/work.js';
import type { Candidate } from '../../src/center/operations/targets.js';
import { FakeReleases } from './fake-releases.js';
import { Table } from '../../src/center/table.js';
import { ManualClock } from '../../src/kit/clock.js';
import { silentLogger } from '../../src/kit/logger.js';
import { seededRandom } from '../../src/kit/random.js';
import { NO_RESULT } from '../../src/model/command-result.js';
import type { InstanceReport, Outcome } from '../../src/model/instance.js';
import { openMemoryStore } from '../../src/store/memory.js';
import type { Store } from '../../src/store/port.js';
import { wellInstance } from './instance-report.js';

export const SERVICE = 'orders';
export const PATIENCE_MS = 30_000;

/** Operations over machines that do what a test says, on a disk in memory. */
export class OperationsHost {
  readonly clock: ManualClock;
  readonly store: Store;
  readonly commands: Commands;
  readonly operations: Operations;
  readonly connected: Set<string>;
  readonly orders: CommandOrder[] = [];
  readonly cancels: string[] = [];
  /** Of the instance on each machine; undefined: RUNNING. */
  readonly states = new Map<string, Candidate['state']>();
  /** Machines whose agents do not say how their instances are, though they are connected. */
  readonly silent = new Set<string>();
  /** Machines that do not have the service. */
  readonly absent = new Set<string>();
  /** What agents tell of the instance, beside its state. */
  readonly reports = new Map<string, Partial<InstanceReport>>();
  readonly releases = new FakeReleases();
  readonly #controller = new AbortController();
  readonly #machines: readonly string[];

  private constructor(
    tables: { readonly commands: Table<CommandRecord>; readonly operations: Table<OperationRecord> },
    {
      machines,
      clock,
      store,
    }: { readonly machines: readonly string[]; readonly clock: ManualClock; readonly store: Store },
  ) {
    this.#machines = machines;
    this.clock = clock;
    this.store = store;
    this.connected = new Set(machines);
    const options = { clock, logger: silentLogger };
    this.commands = new Commands({
      ...options,
      table: tables.commands,
      courier: this.#courier(),
      workOf: (command) => workOf(tables.operations.get(command.turn?.operation ?? ''), command, this.releases),
    });
    this.operations = new Operations({
      ...options,
      table: tables.operations,
      commands: this.commands,
      fleet: {
        candidates: () => machines.flatMap((name) => this.#having(name) ?? []),
        candidate: (machine) => this.#having(machine),
        anywhere: () => machines.map((name) => this.#candidate(name)),
        somewhere: (machine) => this.#candidate(machine),
        serviceNames: () => [SERVICE],
      },
      releases: this.releases,
      connected: (machine) => this.connected.has(machine),
      patienceMs: () => PATIENCE_MS,
      random: seededRandom(1),
    });
  }

  /** A center that has just started; `before` is one that ran on the same disk and is gone. */
  static async start(
    t: TestContext,
    machines: readonly string[],
    before?: { readonly clock: ManualClock; readonly store: Store },
  ): Promise<OperationsHost> {
    const clock = before?.clock ?? new ManualClock();
    const store = before?.store ?? (await openMemoryStore());
    const options = { store, clock, logger: silentLogger };
    const host = new OperationsHost(
      {
        commands: await Table.open<CommandRecord>({ ...options, prefix: 'command/' }),
        operations: await Table.open<OperationRecord>({ ...options, prefix: 'operation/' }),
      },
      { machines, clock, store },
    );
    await host.commands.resume();
    await host.operations.resume();
    void host.operations.run(host.#controller.signal);
    void host.commands.watchOver(host.#controller.signal).catch(() => undefined);
    t.after(() => {
      host.stop();
    });
    return host;
  }

  /** As a center that is killed: it does nothing more. */
  stop(): void {
    this.#controller.abort(new Error('the test is over'));
  }

  wish(facts: Partial<OperationWish> = {}): OperationWish {
    const asking = { by: 'ann', from: 'here', reason: '', requestId: '', wait: false };
    return { ...asking, action: 'RESTART', service: SERVICE, selector: '', strategy: {}, search: undefined, ...facts };
  }

  /** Lets everything that goes on by itself come to rest; time passes where that is wanted. */
  async rest(ms = 0): Promise<void> {
    for (let turn = 0; turn < 40; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    await this.clock.advance(ms);
    for (let turn = 0; turn < 40; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  /** The agent of that machine says how far its newest command is. */
  async report(machine: string, outcome: Outcome, facts: Partial<CommandReport> = {}): Promise<void> {
    const command = this.commands
      .list()
      .sort((a, b) => a.number - b.number)
      .findLast((one) => one.machine === machine && one.deliveredMs !== undefined)?.id;
    if (command === undefined) throw new Error(`${machine} has no command`);
    const ended = outcome === 'SUCCEEDED' || outcome === 'FAILED' || outcome === 'CANCELLED';
    const report = { command, outcome, message: '', startedMs: this.clock.now(), result: NO_RESULT };
    const endedMs = ended ? this.clock.now() : undefined;
    await this.commands.reported(machine, { ...report, endedMs, ...facts }, () => true);
    await this.rest();
  }

  async lose(machine: string): Promise<void> {
    this.connected.delete(machine);
    await this.commands.machineLost(machine);
    this.operations.poke();
    await this.rest();
  }

  /** It connects, and has nothing on its disk. */
  async find(machine: string): Promise<void> {
    this.connected.add(machine);
    await this.commands.held(machine, [], () => this.connected.has(machine));
    this.operations.poke();
    await this.rest();
  }

  /** `MACHINE OUTCOME` of each target. */
  outcomes(operation: string): string[] {
    return this.operations.ledger.targetsOf(operation).map(({ machine, outcome }) => `${machine} ${outcome}`);
  }

  stateOf(operation: string): string {
    return this.operations.ledger.require(operation).state;
  }

  #having(name: string): Candidate | undefined {
    return this.absent.has(name) ? undefined : this.#candidate(name);
  }

  #candidate(name: string): Candidate {
    const online = this.connected.has(name);
    const state = this.states.get(name) ?? 'RUNNING';
    const capabilities = ['search', 'deploy', 'backup'];
    const facts = { labels: {}, agentVersion: '1', capabilities, health: undefined, absent: this.absent.has(name) };
    const known = online && !this.silent.has(name) && !this.absent.has(name);
    const report = known ? wellInstance({ state, ...this.reports.get(name) }) : undefined;
    return { id: name, name, online, state: known ? state : undefined, report, ...facts };
  }

  #courier(): Courier {
    const there = (machine: string): boolean => this.connected.has(machine) && this.#machines.includes(machine);
    return {
      connected: there,
      order: (machine, order) => {
        if (there(machine)) this.orders.push(order);
        return there(machine);
      },
      cancel: (machine, id) => {
        if (there(machine)) this.cancels.push(id);
        return there(machine);
      },
      acknowledge: there,
      tail: there,
      assign: there,
    };
  }
}
