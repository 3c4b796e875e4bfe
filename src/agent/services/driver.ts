import { MusterError } from '../../kit/errors.js';
import type { Manifest } from '../../model/manifest.js';

/** The narrow port behind which services are really started and stopped. */

/** How a service ended. Both are unknown (undefined and empty) for a process that is not the agent's child. */
export interface Exit {
  readonly code: number | undefined;
  /** For example SIGKILL; empty if none. */
  readonly signal: string;
}

export const EXIT_UNKNOWN: Exit = { code: undefined, signal: '' };

/** A service that runs. */
export interface Running {
  /** 0 where the driver cannot tell. */
  readonly pid: number;
  /** Wall-clock milliseconds. */
  readonly startedMs: number;
}

export type Observation =
  | { readonly kind: 'running'; readonly running: Running }
  | {
      readonly kind: 'ended';
      readonly exit: Exit;
      /** How it ended, for people. */
      readonly reason: string;
      /** Someone else stopped it on purpose: it rests until it is asked for or the machine boots. */
      readonly rest: boolean;
    }
  /** Nobody can say now: ask again later. */
  | { readonly kind: 'unclear'; readonly reason: string };

/** What is to be run, and where. */
export interface Subject {
  readonly manifest: Manifest;
  readonly logDirectory: string;
  readonly sharedDirectory: string;
  /** Absolute. */
  readonly workingDirectory: string;
  /** Absolute; set while it is run from a release. */
  readonly releaseDirectory?: string;
}

/** Environment and user of a service. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly gid?: number;
}

/** A service that could not be started. */
export class LaunchRefused extends MusterError {
  /** Whether trying again may help without anybody changing anything. */
  readonly again: boolean;

  constructor(message: string, again: boolean, cause?: unknown) {
    super('precondition', message, { reason: 'LAUNCH_REFUSED', cause });
    this.again = again;
  }
}

/** One service of a driver. Calls never overlap, except that observe() may run beside the others. */
export interface Unit {
  /** What runs from before this agent's time; takes it over. */
  find(): Promise<Running | undefined>;
  /** Starts it. @throws LaunchRefused */
  start(): Promise<Running>;
  /** Asks it to end; observe() says when it has. */
  terminate(): Promise<void>;
  /** Ends it by force. */
  kill(): Promise<void>;
  observe(): Promise<Observation>;
  /** What exec pings of it run with; as of the last start or find. */
  readonly surroundings: Surroundings;
  /** The last lines it printed since it was started last, oldest first; empty where that is not known. */
  lastLines(): Promise<readonly string[]>;
}

export interface ServiceDriver {
  /** How often observe() is worth calling while it runs, and while it does not (undefined: never). */
  readonly pace: { readonly runningMs: number; readonly idleMs: number | undefined };
  /** `onEnd` is called as soon as the driver knows that the service ended; observe() then says how. */
  unit(subject: Subject, onEnd: () => void): Unit;
}
