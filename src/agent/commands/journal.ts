import { NO_RESULT, type CommandResult } from '../../model/command-result.js';
import type { CommandKind, Outcome } from '../../model/instance.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';

/** A command as this agent knows it. Times are wall-clock milliseconds. */
export interface CommandStatus {
  readonly command: string;
  /** Undefined: an action that this version does not know. */
  readonly action: CommandKind | undefined;
  readonly service: string;
  readonly outcome: Outcome;
  readonly message: string;
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly result: CommandResult;
}

interface Stored extends Partial<CommandStatus> {
  readonly service: string;
  readonly outcome: Outcome;
  readonly message: string;
  /** The center has the outcome; kept for a while so that a late repetition of the order still runs nothing. */
  readonly acknowledged?: boolean;
}

/** Commands whose outcome the center has not acknowledged; beyond it new ones are refused. */
export const COMMANDS_UNACKNOWLEDGED_MAX = 200;
/** Acknowledged commands remembered; beyond it the oldest acknowledged are forgotten. */
export const COMMANDS_ACKNOWLEDGED_KEPT = 200;

const DIED =
  'the agent ended while this command ran, so nobody can say how it ended; look at the service and order again what is still wanted';

/**
 * The commands on this agent's disk. A command is written STARTED before it runs and with its outcome before that is told, so one that is
 * found started without an end was cut off: its outcome is UNKNOWN and it never runs again.
 */
export class CommandJournal {
  readonly #documents: Documents<Stored>;
  readonly #unacknowledged = new Map<string, CommandStatus>();
  /** In the order of acknowledgement; of those found at the start, in the order of their ids. */
  readonly #acknowledged = new Map<string, CommandStatus>();

  private constructor(store: Store) {
    this.#documents = new Documents<Stored>(store, 'command/');
  }

  /**
   * Reads the journal and ends what was cut off, but for what can be gone on with: that stays STARTED.
   * @throws as Store.get and write
   */
  static async open(
    store: Store,
    nowMs: number,
    goesOn: (status: CommandStatus) => boolean = () => false,
  ): Promise<CommandJournal> {
    const journal = new CommandJournal(store);
    for (const { id, value } of await journal.#documents.all()) {
      const status = statusOf(id, value);
      if (value.acknowledged) journal.#acknowledged.set(id, status);
      else if (status.outcome === 'STARTED' && !goesOn(status)) {
        await journal.write({ ...status, outcome: 'UNKNOWN', message: DIED, endedMs: nowMs });
      } else journal.#unacknowledged.set(id, status);
    }
    await journal.#prune();
    return journal;
  }

  get full(): boolean {
    return this.#unacknowledged.size >= COMMANDS_UNACKNOWLEDGED_MAX;
  }

  find(command: string): CommandStatus | undefined {
    return this.#unacknowledged.get(command) ?? this.#acknowledged.get(command);
  }

  /** Those the center has not acknowledged. */
  pending(): readonly CommandStatus[] {
    return [...this.#unacknowledged.values()];
  }

  /** Resolves once it is on disk; only then find() and pending() know it. @throws as Store.write */
  async write(status: CommandStatus): Promise<void> {
    await this.#documents.put(status.command, status);
    this.#unacknowledged.set(status.command, status);
  }

  /** The center has the outcome on its disk. Acknowledgements of what has not ended, or is not known, mean nothing. @throws as Store.write */
  async acknowledge(command: string): Promise<void> {
    const status = this.#unacknowledged.get(command);
    if (!status || status.outcome === 'STARTED') return;
    await this.#documents.put(command, { ...status, acknowledged: true });
    this.#unacknowledged.delete(command);
    this.#acknowledged.set(command, status);
    await this.#prune();
  }

  async #prune(): Promise<void> {
    for (const command of this.#acknowledged.keys()) {
      if (this.#acknowledged.size <= COMMANDS_ACKNOWLEDGED_KEPT) return;
      this.#acknowledged.delete(command);
      await this.#documents.delete(command);
    }
  }
}

function statusOf(command: string, stored: Stored): CommandStatus {
  const { action, service, outcome, message, startedMs, endedMs, result = NO_RESULT } = stored;
  return { command, action, service, outcome, message, startedMs, endedMs, result };
}
