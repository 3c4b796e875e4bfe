import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { nowMs } from './port.js';

const POLL_MS = 5;
const START_MS = 60_000;
const END_MS = 20_000;

/** Everything that runs, so that nothing outlives the bench. */
const running = new Set<ChildProcess>();

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Started processes that are to end with the bench, whatever ends it. */
export function endWithBench(child: ChildProcess): void {
  running.add(child);
  child.once('exit', () => running.delete(child));
}

export interface DaemonOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What it prints goes there. */
  readonly log: string;
  /** Resolves when it can be used. Called again and again until then; failing means "not yet". */
  readonly ready: () => Promise<void>;
}

/** A server process of the bench's own. */
export class Daemon {
  readonly #options: DaemonOptions;
  #child: ChildProcess | undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.#options.command} does not run`);
    return pid;
  }

  /** Everything it printed. */
  said(): string {
    return readFileSync(this.#options.log, 'utf8');
  }

  /** Starts the process, unless it runs, and returns at once. */
  spawn(): void {
    if (this.#child) return;
    const { command, args, env, log } = this.#options;
    const output = openSync(log, 'a');
    const child = spawn(command, args, { stdio: ['ignore', output, output], env: { ...process.env, ...env } });
    closeSync(output);
    child.on('error', () => undefined);
    endWithBench(child);
    this.#child = child;
  }

  /** @throws when it ends or is not ready in time, with what it said last */
  async ready(): Promise<void> {
    const untilMs = nowMs() + START_MS;
    for (;;) {
      const child = this.#child;
      if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null || nowMs() > untilMs) {
        throw new Error(`${this.#options.command} did not start: ${this.said().trim().slice(-500)}`);
      }
      try {
        await this.#options.ready();
        return;
      } catch {
        await sleep(systemClock, POLL_MS);
      }
    }
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const late = systemClock.after(END_MS, () => child.kill('SIGKILL'));
    await ended;
    late.cancel();
  }
}
