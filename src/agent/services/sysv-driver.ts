import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { readProcess, type ProcessFacts } from '../../kit/proc.js';
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
/** A daemon that has gone to the background writes its pid file after its script has ended, at a time of its own. */
const SEEN_WITHIN_MS = 3000;
const LOOK_EVERY_MS = 100;

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

type Daemon = Pick<ProcessFacts, 'pid' | 'startTicks'>;

class SysvUnit implements Unit {
  readonly surroundings: Surroundings = { environment: SYSTEM_ENVIRONMENT };
  readonly #clock: Clock;
  readonly #scripts: string;
  readonly #subject: Subject;
  readonly #onEnd: () => void;
  #startedMs: number;
  /** The daemon, where a pid file names it: looking at it costs less than asking the script. */
  #daemon: Daemon | undefined;
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
    return this.#seen();
  }

  /** The daemon that its script has just said to have started. Where it is not to be seen, observe() says what that means. */
  async #seen(): Promise<Running> {
    const untilMs = this.#clock.monotonic() + SEEN_WITHIN_MS;
    for (;;) {
      const seen = await this.#ask();
      if (seen.kind === 'running') return seen.running;
      if (seen.kind === 'unclear' || this.#clock.monotonic() >= untilMs) return { pid: 0, startedMs: this.#startedMs };
      await sleep(this.#clock, LOOK_EVERY_MS);
    }
  }

  async terminate(): Promise<void> {
    await this.#act('stop');
    this.#askedAtMs = -Infinity;
    this.#onEnd();
  }

  async kill(): Promise<void> {
    const alive = await this.#living();
    if (alive) {
      if (alive.group === alive.pid) signalGroup(alive.pid, 'SIGKILL');
      else process.kill(alive.pid, 'SIGKILL');
    }
    this.#askedAtMs = -Infinity;
    this.#onEnd();
  }

  async observe(): Promise<Observation> {
    const recent = this.#clock.monotonic() - this.#askedAtMs < ASK_SCRIPT_EVERY_MS;
    const living = recent ? await this.#living() : undefined;
    return living ? { kind: 'running', running: this.#running(living) } : this.#ask();
  }

  async lastLines(): Promise<readonly string[]> {
    return readLastLines(this.#subject.logDirectory, mainLog(this.#subject.manifest.name), this.#logOffset);
  }

  async #ask(): Promise<Observation> {
    const command = ['service', this.#script, 'status'];
    const { code, output } = await runExternal(this.#clock, { command, timeoutMs: STATUS_TIMEOUT_MS });
    this.#askedAtMs = this.#clock.monotonic();
    if (code === STATUS.running) this.#daemon = await findDaemon(this.#scripts, this.#script);
    const seen = judgeStatus(code, output, this.#running(this.#daemon));
    // Scripts go by the pid file. A daemon that removes it first and ends later has not ended: another would not get its ports.
    const living = seen.kind === 'ended' ? await this.#living() : undefined;
    if (living) return { kind: 'running', running: this.#running(living) };
    if (seen.kind === 'ended') this.#daemon = undefined;
    return seen;
  }

  #running(daemon: Daemon | undefined): Running {
    return { pid: daemon?.pid ?? 0, startedMs: this.#startedMs };
  }

  /** The daemon known last, where it lives still. */
  async #living(): Promise<ProcessFacts | undefined> {
    const known = this.#daemon;
    const facts = known && (await readProcess(known.pid));
    return facts?.startTicks === known?.startTicks ? facts : undefined;
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

async function findDaemon(scripts: string, name: string): Promise<Daemon | undefined> {
  for (const file of await pidFiles(scripts, name)) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const pid = /^\s*(\d+)\s*$/.exec(text)?.[1];
    const facts = pid === undefined ? undefined : await readProcess(Number(pid));
    if (facts) return facts;
  }
  return undefined;
}
