import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { readFile, rename, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.js';
import { errnoOf, MusterError } from '../../kit/errors.js';

const PROGRAM = fileURLToPath(new URL('../../../../bin/muster.js', import.meta.url));
/** Lines of a child's log shown when it ends by surprise. */
const TAIL_LINES = 12;

/**
 * A server of `muster dev`: `muster ARGS...` in a process group of its own, so that Ctrl-C reaches only the parent, which ends
 * its children in order. Its standard input is a pipe: however the parent dies, the pipe closes and the child stops.
 */
export class Child {
  readonly name: string;
  readonly #process: ChildProcess;
  readonly #log: string;
  readonly ended: Promise<void>;
  #over = false;

  private constructor(name: string, child: ChildProcess, log: string) {
    this.name = name;
    this.#process = child;
    this.#log = log;
    this.ended = new Promise((resolve) => {
      const over = (): void => {
        this.#over = true;
        resolve();
      };
      child.once('exit', over);
      child.once('error', over);
    });
  }

  /** Starts the child; what it says goes to `log`, the log of the run before is kept beside it as `log.old`. */
  static async start(name: string, args: readonly string[], log: string): Promise<Child> {
    await rename(log, `${log}.old`).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    const child = spawn(process.execPath, [PROGRAM, ...args, '--exit-with-parent'], {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const file = createWriteStream(log, { flags: 'a', mode: 0o600 });
    child.stdout.pipe(file, { end: false });
    child.stderr.pipe(file, { end: false });
    child.stdin.on('error', () => undefined);
    return new Child(name, child, log);
  }

  get running(): boolean {
    return !this.#over;
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
    const text = await readFile(this.#log, 'utf8').catch(() => '');
    const tail = text.trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
    return new MusterError(
      'unavailable',
      `the ${this.name} ended. It said last (all of it is in ${this.#log}):\n${tail}`,
    );
  }
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
