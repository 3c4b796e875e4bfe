import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { MACHINE_NAME_PATTERN, newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import { didYouMean } from '../../kit/suggest.js';
import type { Inventory, Resources } from '../../model/machine.js';
import { assertLabels } from '../../model/selector.js';
import type { Mutation } from '../../store/port.js';
import { Changes } from '../changes.js';
import type { Table } from '../table.js';

/** A machine as it is stored. Times are wall-clock milliseconds. */
export interface MachineRecord {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly joinedMs: number;
  /** Written at most once a minute, and when contact ends. */
  readonly lastContactMs: number | undefined;
  readonly agentVersion: string;
  /** What its agent can do, as of the last hello; undefined where it has not said so yet. */
  readonly capabilities?: readonly string[] | undefined;
  readonly bootId: string;
  /** Of the newest session; a session with a lower one is fenced. */
  readonly epoch: number;
  /** Of the agent's process behind the newest session. */
  readonly processId: string;
  readonly address: string;
  /** The machine's clock minus the center's, as of the last hello. */
  readonly clockSkewMs: number | undefined;
}

/** A machine as it is now. */
export interface Machine {
  readonly record: MachineRecord;
  readonly revision: number;
  readonly online: boolean;
  readonly lastContactMs: number | undefined;
  readonly connectedMs: number | undefined;
  readonly inventory: Inventory | undefined;
  readonly resources: Resources | undefined;
  /** The machine's clock minus the center's, by its last word on it. */
  readonly clockSkewMs: number | undefined;
}

/** What an agent says of itself when it connects. */
export interface Arrival {
  readonly epoch: number;
  readonly processId: string;
  readonly bootId: string;
  readonly agentVersion: string;
  readonly capabilities: readonly string[];
  readonly address: string;
  readonly clockSkewMs: number | undefined;
}

interface Contact {
  readonly connectedMs: number;
  lastMs: number;
  resources: Resources | undefined;
  clockSkewMs: number | undefined;
}

const CONTACT_WRITE_INTERVAL_MS = 60_000;

export interface MachinesOptions {
  readonly table: Table<MachineRecord>;
  readonly inventories: Table<Inventory>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The machines of the site: who has joined, what they are, and which are in contact now. */
export class Machines {
  /** Ids of machines that changed in any way. */
  readonly changes: Changes;
  readonly #table: Table<MachineRecord>;
  readonly #inventories: Table<Inventory>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Machines in contact now. */
  readonly #contacts = new Map<string, Contact>();
  /** Names of machines whose join is being written. */
  readonly #joining = new Set<string>();

  constructor({ table, inventories, clock, logger }: MachinesOptions) {
    this.#table = table;
    this.#inventories = inventories;
    this.#clock = clock;
    this.#logger = logger;
    this.changes = new Changes(clock);
    table.changes.listen((id) => {
      this.changes.emit(id);
    });
  }

  get size(): number {
    return this.#table.size;
  }

  get online(): number {
    return this.#contacts.size;
  }

  ids(): string[] {
    return this.#table.ids();
  }

  has(id: string): boolean {
    return this.#table.has(id);
  }

  isOnline(id: string): boolean {
    return this.#contacts.has(id);
  }

  get(id: string): Machine | undefined {
    const row = this.#table.row(id);
    if (!row) return undefined;
    const contact = this.#contacts.get(id);
    return {
      record: row.value,
      revision: row.revision,
      online: contact !== undefined,
      lastContactMs: contact?.lastMs ?? row.value.lastContactMs,
      connectedMs: contact?.connectedMs,
      inventory: this.#inventories.get(id),
      resources: contact?.resources,
      clockSkewMs: contact?.clockSkewMs ?? row.value.clockSkewMs,
    };
  }

  list(): Machine[] {
    return this.ids().flatMap((id) => this.get(id) ?? []);
  }

  records(): MachineRecord[] {
    return this.#table.values();
  }

  /** By id or name. @throws not_found naming the nearest machine */
  require(idOrName: string): Machine {
    const record = this.#table.get(idOrName) ?? this.#named(idOrName);
    const machine = record && this.get(record.id);
    if (machine) return machine;
    const hint = didYouMean(
      idOrName,
      this.records().map(({ name }) => name),
    );
    const next = hint === '' ? ' See `muster machines` for those that have joined.' : hint;
    throw new MusterError('not_found', `there is no machine "${idOrName}".${next}`, { reason: 'MACHINE_UNKNOWN' });
  }

  /**
   * Makes room for a joining machine: a new one, or the one of that name where `again` allows it (its agent's disk may be new, so its
   * sessions are numbered from the beginning). `write` makes the change durable,
   * together with whatever allows it, and resolves with the revision.
   * @throws exists when the name is taken; invalid for a name or labels that cannot be used
   */
  async join(
    wish: { name: string; labels: Readonly<Record<string, string>>; again: boolean },
    write: (also: Mutation) => Promise<number>,
  ): Promise<MachineRecord> {
    assertMachineName(wish.name);
    assertLabels(wish.labels);
    const before = this.#named(wish.name);
    if ((before && !wish.again) || this.#joining.has(wish.name)) throw nameTaken(wish.name);
    this.#joining.add(wish.name);
    try {
      const record = before
        ? { ...before, labels: { ...before.labels, ...wish.labels }, epoch: 0, processId: '' }
        : newMachine(wish.name, wish.labels, this.#clock.now());
      const revision = await write(this.#table.putting(record.id, record));
      this.#table.applied(record.id, record, revision);
      return record;
    } finally {
      this.#joining.delete(wish.name);
    }
  }

  /** @throws invalid; not_found when it is gone */
  async changeLabels(id: string, set: Readonly<Record<string, string>>, remove: readonly string[]): Promise<void> {
    await this.#table.save(id, (current) => {
      if (!current) throw new MusterError('not_found', 'the machine was removed', { reason: 'MACHINE_UNKNOWN' });
      const labels = Object.fromEntries(
        Object.entries({ ...current.labels, ...set }).filter(([key]) => !remove.includes(key)),
      );
      assertLabels(labels);
      return { ...current, labels };
    });
  }

  async remove(id: string): Promise<void> {
    this.#contacts.delete(id);
    await this.#table.save(id, () => undefined);
    await this.#inventories.save(id, () => undefined);
  }

  /** Records a new session. Resolves once its epoch is durable: from then on an older one can be told. @throws not_found */
  async connected(id: string, arrival: Arrival): Promise<MachineRecord> {
    const nowMs = this.#clock.now();
    const record = await this.#table.save(id, (current) => current && { ...current, ...arrival, lastContactMs: nowMs });
    if (!record) throw new MusterError('not_found', 'the machine was removed', { reason: 'MACHINE_REMOVED' });
    const { resources } = this.#contacts.get(id) ?? {};
    const { clockSkewMs } = arrival;
    this.#contacts.set(id, { connectedMs: nowMs, lastMs: nowMs, resources, clockSkewMs });
    this.changes.emit(id);
    return record;
  }

  /** A frame arrived from the machine. */
  heard(id: string): void {
    const contact = this.#contacts.get(id);
    if (contact) contact.lastMs = this.#clock.now();
  }

  /** A beat; what it leaves out stays as it was. */
  beat(id: string, said: { resources?: Resources | undefined; machineNowMs?: number | undefined }): void {
    const contact = this.#contacts.get(id);
    if (!contact) return;
    contact.resources = said.resources ?? contact.resources;
    if (said.machineNowMs !== undefined) contact.clockSkewMs = said.machineNowMs - this.#clock.now();
    this.changes.emit(id);
  }

  /** Resolves once durable. */
  async inventoried(id: string, inventory: Inventory): Promise<void> {
    if (!this.#table.has(id)) return;
    await this.#inventories.put(id, inventory);
    this.changes.emit(id);
  }

  /** Contact is lost or ended. The time of the last contact becomes durable. */
  async disconnected(id: string): Promise<void> {
    const contact = this.#contacts.get(id);
    if (!contact) return;
    this.#contacts.delete(id);
    this.changes.emit(id);
    await this.#saveContact(id, contact);
  }

  /** Makes the time of the last contact durable, once a minute, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#clock, CONTACT_WRITE_INTERVAL_MS, signal);
      try {
        await Promise.all([...this.#contacts].map(([id, contact]) => this.#saveContact(id, contact)));
      } catch (error) {
        this.#logger.error('could not store when machines were last heard, trying again', { error });
      }
    }
  }

  /** The skew goes with it: both are as of the last word. */
  async #saveContact(id: string, { lastMs, clockSkewMs }: Contact): Promise<void> {
    await this.#table.save(id, (current) => current && { ...current, lastContactMs: lastMs, clockSkewMs });
  }

  #named(name: string): MachineRecord | undefined {
    return this.records().find((record) => record.name === name);
  }
}

function newMachine(name: string, labels: Readonly<Record<string, string>>, nowMs: number): MachineRecord {
  return {
    id: newId('m'),
    name,
    labels,
    joinedMs: nowMs,
    lastContactMs: undefined,
    agentVersion: '',
    bootId: '',
    epoch: 0,
    processId: '',
    address: '',
    clockSkewMs: undefined,
  };
}

function nameTaken(name: string): MusterError {
  return new MusterError(
    'exists',
    `there is a machine "${name}" already: choose another --name, or join it anew with a token made by \`muster token create --machine ${name}\``,
    { reason: 'MACHINE_NAME_TAKEN' },
  );
}

/** @throws invalid */
export function assertMachineName(name: string): void {
  if (MACHINE_NAME_PATTERN.test(name)) return;
  throw new MusterError(
    'invalid',
    `"${name}" cannot be a machine's name: use up to 253 letters, digits, "." and "-", beginning and ending with a letter or digit`,
    { reason: 'MACHINE_NAME', fields: [{ field: 'name', description: 'letters, digits, "." and "-"' }] },
  );
}
