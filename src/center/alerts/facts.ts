import type { Clock } from '../../kit/clock.js';
import type { Catalog } from '../catalog/catalog.js';
import type { Instances } from '../fleet/instances.js';
import type { Machine, Machines } from '../fleet/machines.js';
import type { Backups } from '../backups/backups.js';
import type { Judgement } from './alerts.js';
import { restartedBy, restartsAfter, type RestartHistory } from './restarts.js';
import { judgeMachine, skewSaid, type InstanceFacts } from './rules.js';

export interface FactsOptions {
  readonly machines: Machines;
  readonly instances: Instances;
  readonly catalog: Pick<Catalog, 'failures'>;
  readonly backups?: Pick<Backups, 'judge' | 'ripening'>;
  readonly clock: Clock;
  /** Silence after which a machine counts as offline, milliseconds. */
  readonly graceMs: () => number;
}

interface Silence {
  /** Monotonic milliseconds. */
  readonly sinceMs: number;
  /** Wall-clock milliseconds; undefined: it never connected. */
  readonly lastContactMs: number | undefined;
}

/** Gathers what the rules look at. Remembers what the records do not say: since when a machine is silent, and refused duplicates. */
export class Facts {
  readonly #options: FactsOptions;
  readonly #startedMs: number;
  /** Machines without contact: what was known of them last, whatever a session that is only beginning changes. */
  readonly #silent = new Map<string, Silence>();
  readonly #duplicates = new Map<string, { atMs: number; address: string }>();
  /** By machine, then service. */
  readonly #restarts = new Map<string, Map<string, RestartHistory>>();
  /** What was last seen of a machine's contact. */
  readonly #contacts = new Map<string, { readonly online: boolean; readonly skew: number }>();

  constructor(options: FactsOptions) {
    this.#options = options;
    this.#startedMs = options.clock.monotonic();
  }

  /** Silence counts from the last word, not from when it was noticed. */
  contactLost(machine: string): void {
    const { machines, clock } = this.#options;
    const lastMs = machines.get(machine)?.lastContactMs ?? clock.now();
    this.#silent.set(machine, {
      sinceMs: clock.monotonic() - Math.max(0, clock.now() - lastMs),
      lastContactMs: lastMs,
    });
  }

  duplicate(machine: string, address: string): void {
    this.#duplicates.set(machine, { atMs: this.#options.clock.monotonic(), address });
  }

  machineRemoved(machine: string): void {
    this.#silent.delete(machine);
    this.#duplicates.delete(machine);
    this.#restarts.delete(machine);
    this.#contacts.delete(machine);
  }

  /** Whether a changed machine may be judged differently than when this was asked last: most beats change nothing of that. */
  contactChanged(id: string): boolean {
    const machine = this.#options.machines.get(id);
    if (!machine) return true;
    const { online, clockSkewMs } = machine;
    const skew = skewSaid(clockSkewMs);
    const before = this.#contacts.get(id);
    if (before?.online === online && before.skew === skew) return false;
    this.#contacts.set(id, { online, skew });
    return true;
  }

  /**
   * Machines on which the judgement may change by the mere passing of time: those away, those with a refused duplicate, and those with a backup
   * that is late by now.
   */
  ripening(): string[] {
    const { machines, backups } = this.#options;
    const changing = machines.ids().filter((id) => !machines.isOnline(id) || this.#duplicates.has(id));
    return [...changing, ...(backups?.ripening() ?? [])];
  }

  /** Undefined when the machine was removed. */
  judge(id: string): Judgement | undefined {
    const { machines, catalog, backups, clock, graceMs } = this.#options;
    const machine = machines.get(id);
    if (!machine) return undefined;
    const nowMs = clock.monotonic();
    const silence = this.#silenceOf(machine);
    const duplicate = this.#duplicates.get(id);
    const verdicts = judgeMachine({
      machine: id,
      name: machine.record.name,
      online: machine.online,
      silentMs: silence ? nowMs - silence.sinceMs : 0,
      graceMs: graceMs(),
      everConnected: (silence ?? machine).lastContactMs !== undefined,
      clockSkewMs: machine.clockSkewMs,
      duplicate: duplicate && { agoMs: nowMs - duplicate.atMs, address: duplicate.address },
      instances: this.#instancesOf(id, nowMs),
      failedAssignments: catalog.failures(id),
      backups: backups?.judge(id) ?? [],
    });
    const awaySinceMs = silence && (silence.lastContactMs ?? clock.now());
    return { machineName: machine.record.name, awaySinceMs, verdicts };
  }

  #instancesOf(machine: string, nowMs: number): InstanceFacts[] {
    const before = this.#restarts.get(machine);
    const histories = new Map<string, RestartHistory>();
    const facts = this.#options.instances.ofMachine(machine).map((instance) => {
      const { service } = instance.report;
      const history = restartsAfter(before?.get(service), instance, nowMs);
      histories.set(service, history);
      return { ...instance, restarted: restartedBy(history, nowMs) };
    });
    if (histories.size > 0) this.#restarts.set(machine, histories);
    else this.#restarts.delete(machine);
    return facts;
  }

  /** Undefined while there is contact. */
  #silenceOf(machine: Machine): Silence | undefined {
    const { id } = machine.record;
    if (machine.online) {
      this.#silent.delete(id);
      return undefined;
    }
    const known = this.#silent.get(id) ?? {
      sinceMs: this.#awaitedSince(machine),
      lastContactMs: machine.lastContactMs,
    };
    this.#silent.set(id, known);
    return known;
  }

  /** A machine that has not been heard in this run is waited for from its join on, or from the center's start. */
  #awaitedSince({ record }: Machine): number {
    const { clock } = this.#options;
    return Math.max(this.#startedMs, clock.monotonic() - Math.max(0, clock.now() - record.joinedMs));
  }
}
