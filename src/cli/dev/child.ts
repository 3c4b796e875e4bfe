import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.js';
import { errnoOf, MusterError } from '../../kit/errors.js';

const PROGRAM = fileURLToPath(new URL('../../../../bin/muster.js', import.meta.url));
/** Lines of a child's log shown when it ends by surprise. */
const TAIL_LINES = 12;

export interface ChildOptions {
  readonly name: string;
  readonly args: readonly string[];
  /** What it says goes there; the log of the run before is kept beside it as `.old`. */
  readonly log: string;
}

/**
 * A server of `muster dev`: `muster ARGS...` in a process group of its own, so that Ctrl-C reaches only the parent, which ends
 * its children in order. Its standard input is a pipe: however the parent dies, the pipe closes and the child stops.
 */
export class Child {
  readonly name: string;
  readonly #options: ChildOptions;
  #process: ChildProcess;
  #ended: Promise<string>;
  #over = false;

  private constructor(options: ChildOptions) {
    this.name = options.name;
    this.#options = options;
    this.#process = launch(options);
    this.#ended = this.#follow();
  }

  static async start(options: ChildOptions): Promise<Child> {
    await rename(options.log, `${options.log}.old`).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    return new Child(options);
  }

  get running(): boolean {
    return !this.#over;
  }

  /** Resolves when the present run has ended, with how: `was killed by SIGKILL`, `ended with status 1`. */
  get ended(): Promise<string> {
    return this.#ended;
  }

  /** Starts it once more after it has ended. */
  restart(): void {
    this.#process = launch(this.#options);
    this.#over = false;
    this.#ended = this.#follow();
  }

  /** Asks it to stop and waits for its end; one that does not end within `graceMs` is ended by force. False: force was needed. */
  async stop(clock: Clock, graceMs: number): Promise<boolean> {
    if (this.running) this.#process.kill('SIGTERM');
    let inTime = true;
    const force = clock.after(graceMs, () => {
      inTime = false;
      this.#process.kill('SIGKILL');
    });
    await this.ended;
    force.cancel();
    return inTime;
  }

  /** What it said last, as the failure to report when it ended although nobody asked. */
  async failure(): Promise<MusterError> {
    const text = await readFile(this.#options.log, 'utf8').catch(() => '');
    const tail = text.trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
    return new MusterError(
      'unavailable',
      `the ${this.name} ${await this.ended}. It said last (all of it is in ${this.#options.log}):\n${tail}`,
    );
  }

  #follow(): Promise<string> {
    return new Promise((resolve) => {
      const over = (how: string): void => {
        this.#over = true;
        resolve(how);
      };
      this.#process.once('exit', (status, signal) => {
        over(signal === null ? `ended with status ${status ?? 'unknown'}` : `was killed by ${signal}`);
      });
      this.#process.once('error', (error) => {
        over(`could not be started: ${error.message}`);
      });
    });
  }
}

function launch({ args, log }: ChildOptions): ChildProcess {
  const file = openSync(log, 'a', 0o600);
  const child = spawn(process.execPath, [PROGRAM, ...args, '--exit-with-parent'], {
    detached: true,
    // The child writes to the file itself: nothing is held here, and a full disk is the child's to meet.
    stdio: ['pipe', file, file],
  });
  closeSync(file);
  child.stdin?.on('error', () => undefined);
  return child;
}

/** Runs `muster ARGS...` to its end. @throws unavailable with what it said when it failed */
export async function runToEnd(name: string, args: readonly string[], log: string): Promise<void> {
  await rm(log, { force: true });
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-8192);
    });
  }
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (status !== 0) throw new MusterError('unavailable', `${name} failed:\n${said.trimEnd()}`);
}
