import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { readProcess } from '../../kit/proc.js';
import {
  EXIT_UNKNOWN,
  LaunchRefused,
  type Observation,
  type Running,
  type ServiceDriver,
  type Subject,
  type Surroundings,
  type Unit,
} from './driver.js';
import { runExternal, SYSTEM_ENVIRONMENT, type ExternalResult } from '../system/external.js';
import { readLastLines } from './last-lines.js';
import { signalGroup } from './proc.js';
import { ensureOwned, mainLog, openMainLog } from './workplace.js';

export interface SysvDriverOptions {
  readonly clock: Clock;
  /** Where the init scripts are. */
  readonly scripts?: string;
}

const ACTION_TIMEOUT_MS = 120_000;
const STATUS_TIMEOUT_MS = 15_000;
/** While its pid lives, asking the script itself can wait this long. */
const ASK_SCRIPT_EVERY_MS = 10_000;
const NOT_EXECUTABLE = 127;

/** Exit codes of `status`, LSB 3.1 section 20.2. */
const STATUS = { running: 0, deadWithPidFile: 1, deadWithLock: 2, stopped: 3 } as const;

/** What a status code means. Only "stopped" is an end on purpose: a dead daemon leaves its pid file or lock. */
export function judgeStatus(code: number | undefined, output: string, running: Running): Observation {
  if (code === STATUS.running) return { kind: 'running', running };
  const ended = { kind: 'ended', exit: EXIT_UNKNOWN } as const;
  if (code === STATUS.stopped) return { ...ended, reason: 'it was stopped outside Muster', rest: true };
  if (code === STATUS.deadWithPidFile || code === STATUS.deadWithLock) {
    return { ...ended, reason: 'ended by itself, leaving its pid file', rest: false };
  }
  return { kind: 'unclear', reason: output === '' ? `its status is ${code ?? 'not to be had'}` : output };
}

/** Services as init scripts, called as `service NAME start|stop|status`. */
export class SysvDriver implements ServiceDriver {
  readonly pace = { runningMs: 1000, idleMs: 10_000 };
  readonly #options: SysvDriverOptions;

  constructor(options: SysvDriverOptions) {
    this.#options = options;
  }

  unit(subject: Subject, onEnd: () => void): Unit {
    return new SysvUnit(this.#options, subject, onEnd);
  }
}

class SysvUnit implements Unit {
  readonly surroundings: Surroundings = { environment: SYSTEM_ENVIRONMENT };
  readonly #clock: Clock;
  readonly #scripts: string;
  readonly #subject: Subject;
  readonly #onEnd: () => void;
  #startedMs: number;
  /** The daemon, where a pid file names it: looking at it costs less than asking the script. */
  #daemon: { readonly pid: number; readonly startTicks: number } | undefined;
  #askedAtMs = -Infinity;
  #logOffset = 0;

  constructor(options: SysvDriverOptions, subject: Subject, onEnd: () => void) {
    this.#clock = options.clock;
    this.#scripts = options.scripts ?? '/etc/init.d';
    this.#subject = subject;
    this.#onEnd = onEnd;
    this.#startedMs = options.clock.now();
  }

  get #script(): string {
    return this.#subject.manifest.unit;
  }

  async find(): Promise<Running | undefined> {
    const seen = await this.#ask();
    return seen.kind === 'running' ? seen.running : undefined;
  }

  async start(): Promise<Running> {
    await stat(join(this.#scripts, this.#script)).catch((error: unknown) => {
      throw new LaunchRefused(
        `there is no init script ${this.#scripts}/${this.#script}: install the service, or correct "unit" in the manifest`,
        false,
        error,
      );
    });
    const { code, output, timedOut } = await this.#act('start');
    if (code === NOT_EXECUTABLE || code === undefined) {
      throw new LaunchRefused(
        `service ${this.#script} start ${timedOut ? 'took too long' : `cannot be run: ${output}`}`,
        true,
      );
    }
    if (code !== 0) throw new LaunchRefused(`service ${this.#script} start ended with code ${code}`, true);
    this.#startedMs = this.#clock.now();
    const seen = await this.#ask();
    if (seen.kind === 'running') return seen.running;
    // The script said yes: its daemon may need a moment to be seen, and observe() goes on looking.
    return { pid: 0, startedMs: this.#startedMs };
  }

  async terminate(): Promise<void> {
    await this.#act('stop');
    this.#askedAtMs = -Infinity;
    this.#onEnd();
  }

  async kill(): Promise<void> {
    const daemon = this.#daemon;
    const alive = daemon && (await readProcess(daemon.pid));
    if (alive && alive.startTicks === daemon.startTicks) {
      if (alive.group === alive.pid) signalGroup(alive.pid, 'SIGKILL');
      else process.kill(alive.pid, 'SIGKILL');
    }
    this.#askedAtMs = -Infinity;
    this.#onEnd();
  }

  async observe(): Promise<Observation> {
    const recent = this.#clock.monotonic() - this.#askedAtMs < ASK_SCRIPT_EVERY_MS;
    if (recent && this.#daemon) {
      const facts = await readProcess(this.#daemon.pid);
      if (facts?.startTicks === this.#daemon.startTicks) {
        return { kind: 'running', running: { pid: facts.pid, startedMs: this.#startedMs } };
      }
    }
    return this.#ask();
  }

  async lastLines(): Promise<readonly string[]> {
    return readLastLines(this.#subject.logDirectory, mainLog(this.#subject.manifest.name), this.#logOffset);
  }

  async #ask(): Promise<Observation> {
    const command = ['service', this.#script, 'status'];
    const { code, output } = await runExternal(this.#clock, { command, timeoutMs: STATUS_TIMEOUT_MS });
    this.#askedAtMs = this.#clock.monotonic();
    this.#daemon = code === STATUS.running ? await findDaemon(this.#scripts, this.#script) : undefined;
    return judgeStatus(code, output, { pid: this.#daemon?.pid ?? 0, startedMs: this.#startedMs });
  }

  /** Its output goes to the log: a daemon may inherit it, so it must not be a pipe of the agent's. */
  async #act(action: 'start' | 'stop'): Promise<ExternalResult> {
    const { logDirectory, manifest } = this.#subject;
    await ensureOwned(logDirectory, undefined);
    const log = await openMainLog(logDirectory, manifest.name, undefined);
    try {
      if (action === 'start') this.#logOffset = (await log.stat()).size;
      const command = ['service', this.#script, action];
      return await runExternal(this.#clock, { command, timeoutMs: ACTION_TIMEOUT_MS, stdout: log.fd, stderr: log.fd });
    } finally {
      await log.close();
    }
  }
}

/** Places of pid files, as the script says or as they usually are. */
async function pidFiles(scripts: string, name: string): Promise<string[]> {
  const text = await readFile(join(scripts, name), 'utf8').catch(() => '');
  const said = [...text.matchAll(/^\s*(?:#\s*pidfile:|PIDFILE=)\s*["']?(\/[^\s"'$]+)/gm)].map(
    (match) => match[1] ?? '',
  );
  return [...said, `/run/${name}.pid`, `/run/${name}/${name}.pid`, `/var/run/${name}.pid`];
}

async function findDaemon(scripts: string, name: string): Promise<{ pid: number; startTicks: number } | undefined> {
  for (const file of await pidFiles(scripts, name)) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const pid = /^\s*(\d+)\s*$/.exec(text)?.[1];
    const facts = pid === undefined ? undefined : await readProcess(Number(pid));
    if (facts) return { pid: facts.pid, startTicks: facts.startTicks };
  }
  return undefined;
}
