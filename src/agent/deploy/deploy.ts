import type { DeployedRelease } from '../../model/instance.js';
import type { DeployOrder, DeployReport, DeployStep, DeployStepReport, ReleaseRef } from '../../model/release.js';

/** Where a deploy is. What it is at may have happened, in part or whole; what comes behind it has not. */
export type Position =
  | { readonly phase: 'forward' | 'undo'; readonly step: DeployStep }
  | { readonly phase: 'ended'; readonly outcome: 'SUCCEEDED' | 'FAILED' };

/** What the service was before it was touched. */
export interface Before {
  readonly source:
    | {
        readonly manifestText: string;
        readonly folder: string;
        readonly release?: DeployedRelease | undefined;
      }
    | undefined;
  /** Whether it was wanted to run. */
  readonly wanted: boolean;
  /** Its configuration was the one kept with its release, put back by a rollback. */
  readonly pinned: boolean;
}

export interface Failure {
  readonly step: DeployStep;
  readonly message: string;
  readonly exitCode?: number | undefined;
  readonly output?: string | undefined;
}

/** How a deploy ended. */
export interface DeployEnd {
  readonly outcome: 'SUCCEEDED' | 'FAILED';
  readonly message: string;
  readonly report: DeployReport;
  readonly exitCode?: number | undefined;
  readonly output?: string | undefined;
}

/** A deploy or rollback on the disk: one document, written before each side effect. Times are wall-clock milliseconds. */
export interface Deploy {
  /** Of the command; of a rollback asked for on the machine itself, an own one. */
  readonly id: string;
  readonly service: string;
  readonly kind: 'DEPLOY' | 'ROLLBACK';
  /** No command waits for its end. */
  readonly local: boolean;
  readonly to: ReleaseRef;
  /** Where its archives come from; undefined: the release is on the machine. */
  readonly order?: DeployOrder | undefined;
  /** What the service ran from when it began. */
  readonly from?: ReleaseRef | undefined;
  readonly startedMs: number;
  /** Processes of the agent that found it unfinished when they began. */
  readonly found: number;
  readonly at: Position;
  readonly steps: readonly DeployStepReport[];
  /** Written with the entry of STOP, the first step that touches the service. */
  readonly before?: Before | undefined;
  readonly backup: string;
  readonly verified: readonly string[];
  readonly stoppedMs?: number | undefined;
  readonly downtimeMs?: number | undefined;
  readonly failure?: Failure | undefined;
  readonly end?: DeployEnd | undefined;
}
