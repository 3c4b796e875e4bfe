import type { MusterError } from '../../kit/errors.js';
import type { CommandKind, Outcome } from '../../model/instance.js';
import type { CommandResult } from '../../model/command-result.js';
import type { BackupOrder } from '../../model/backup.js';
import type { LogSearch } from '../../model/log-search.js';
import type { DeployOrder, RollbackOrder } from '../../model/release.js';

/** What the gateway and the parts behind it tell each other, in domain words. */

/** What an agent holds of a service. */
export interface Held {
  readonly service: string;
  readonly generation: number;
  readonly configRevision: number;
}

/** What an agent shall hold of a service. */
export interface Desired {
  readonly service: string;
  readonly generation: number;
  /** YAML; empty for a service the machine declares itself. */
  readonly manifest: string;
  readonly removed: boolean;
  readonly configRevision: number;
  readonly configHash: string;
}

export type AppliedPhase = 'applying' | 'applied' | 'failed';

export interface Applied {
  readonly service: string;
  readonly generation: number;
  readonly phase: AppliedPhase;
  readonly error: string;
}

/** How far a command is, as its agent says. */
export interface CommandReport {
  readonly command: string;
  readonly outcome: Outcome;
  readonly message: string;
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly result: CommandResult;
}

/** What a command is to do, beside its action. */
export interface CommandWork {
  /** With SEARCH. */
  readonly search?: LogSearch | undefined;
  /** With DEPLOY. */
  readonly deploy?: DeployOrder | undefined;
  /** With ROLLBACK. */
  readonly rollback?: RollbackOrder | undefined;
  /** With VERIFY_BACKUP and RESTORE. */
  readonly backup?: BackupOrder | undefined;
}

export interface CommandOrder extends CommandWork {
  readonly command: string;
  readonly action: CommandKind;
  readonly service: string;
  readonly expiresInMs: number;
}

export interface TailOrder {
  readonly command: string;
  readonly service: string;
  readonly lines: number;
  readonly follow: boolean;
  /** Go on behind this place; empty: begin with the last lines. */
  readonly position: string;
  /** Empty: what the service prints. */
  readonly file: string;
}

/** The way to agents that are connected. Each answers false when the machine has no live session. */
export interface Courier {
  connected(machine: string): boolean;
  order(machine: string, order: CommandOrder): boolean;
  tail(machine: string, order: TailOrder): boolean;
  cancel(machine: string, command: string): boolean;
  acknowledge(machine: string, command: string): boolean;
  assign(machine: string, desired: Desired): boolean;
}

/** Whether the stream that says something is still the machine's session: a fenced one changes nothing. */
export type StillCurrent = () => boolean;

/** The parts that hear from agents. */
export interface GatewayListeners {
  /** What differs between what the agent holds and what it shall hold. Resolves once the generations are durable. */
  differences(machine: string, held: readonly Held[]): Promise<readonly Desired[]>;
  applied(machine: string, applied: Applied): void;
  /** The commands on the agent's disk, all of them. */
  commandsHeld(machine: string, reports: readonly CommandReport[], current: StillCurrent): Promise<void>;
  commandReported(machine: string, report: CommandReport, current: StillCurrent): Promise<void>;
  /** Contact ended; not called when a newer session took over. */
  contactLost(machine: string): Promise<void>;
  /** A second agent with the machine's identity was refused. */
  duplicate(machine: string, refusal: MusterError, address: string): void;
}
