import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../kit/clock.js';
import type { PlacesEnvironment } from '../model/places.js';

/** Everything a command may touch outside itself; injected, so that tests run commands without a terminal. */
export interface Io {
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly stdin: Readable;
  /** Whether standard output is a terminal that may be redrawn. */
  readonly terminal: boolean;
  /** Width and height of the terminal in characters, as they are now; undefined where there is none. */
  readonly columns: number | undefined;
  readonly rows: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly places: PlacesEnvironment;
  readonly clock: Clock;
  /** Aborts at the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
}

/** Options every command takes. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly context?: string;
  readonly socket?: string;
  readonly local?: boolean;
  readonly agentSocket?: string;
}

/** Ends a command that failed after it has already said why: exit status 1 and no further message. */
export class Failed extends Error {
  constructor() {
    super('failed');
    this.name = 'Failed';
  }
}
