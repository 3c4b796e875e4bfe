import { constants } from 'node:os';
import type { Clock } from '../../kit/clock.js';
import {
  LaunchRefused,
  type Exit,
  type Observation,
  type Running,
  type ServiceDriver,
  type Subject,
  type Surroundings,
  type Unit,
} from './driver.js';
import type { Manifest } from '../../model/manifest.js';
import { runExternal, SYSTEM_ENVIRONMENT, type ExternalResult } from '../system/external.js';
import { describeExit } from './process-driver.js';

export interface SystemdDriverOptions {
  readonly clock: Clock;
  /** How systemctl is called. */
  readonly systemctl?: readonly string[];
}

/** systemctl waits for a unit to have started or stopped; units may set long times of their own. */
const START_TIMEOUT_MS = 180_000;
const STOP_TIMEOUT_MS = 180_000;
const SHOW_TIMEOUT_MS = 10_000;

/** What `systemctl show` says of a unit. */
export interface UnitFacts {
  readonly loaded: string;
  readonly active: string;
  readonly sub: string;
  readonly pid: number;
  readonly result: string;
  readonly exit: Exit;
  /** Wall-clock milliseconds; undefined where it never ran. */
  readonly startedMs: number | undefined;
}

const PROPERTIES = [
  'LoadState',
  'ActiveState',
  'SubState',
  'MainPID',
  'Result',
  'ExecMainCode',
  'ExecMainStatus',
  'ActiveEnterTimestamp',
  'ExecMainStartTimestamp',
];

/** siginfo codes: CLD_EXITED, then CLD_KILLED and CLD_DUMPED. */
const CLD_EXITED = 1;

/** Parses the output of `systemctl show`. */
export function parseUnit(text: string): UnitFacts {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1));
  }
  const value = (name: string): string => values.get(name) ?? '';
  const started = Date.parse(timestamp(value('ExecMainStartTimestamp') || value('ActiveEnterTimestamp')));
  return {
    loaded: value('LoadState'),
    active: value('ActiveState'),
    sub: value('SubState'),
    pid: Number(value('MainPID')) || 0,
    result: value('Result'),
    exit: exitOf(Number(value('ExecMainCode')), Number(value('ExecMainStatus'))),
    startedMs: Number.isNaN(started) ? undefined : started,
  };
}

/** `Mon 2026-11-23 06:31:57 UTC` without its day name, as Date.parse reads it. */
function timestamp(text: string): string {
  return text.replace(/^[A-Z][a-z]{2} /, '');
}

function exitOf(code: number, status: number): Exit {
  if (code === 0) return { code: undefined, signal: '' };
  return code === CLD_EXITED ? { code: status, signal: '' } : { code: undefined, signal: signalName(status) };
}

function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}

/** What a unit's facts mean. A unit that is inactive with success was stopped by somebody: it rests. */
export function judgeUnit(facts: UnitFacts, nowMs: number): Observation {
  const { active, sub } = facts;
  if (active === 'active' || active === 'reloading' || active === 'activating' || active === 'deactivating') {
    // Waiting to be restarted by systemd itself is running, as far as anybody else is to care.
    return { kind: 'running', running: { pid: facts.pid, startedMs: facts.startedMs ?? nowMs } };
  }
  if (active === 'inactive') {
    const rest = facts.result === 'success' || facts.result === '';
    return { kind: 'ended', exit: facts.exit, reason: rest ? 'it was stopped outside Muster' : endReason(facts), rest };
  }
  if (active === 'failed') return { kind: 'ended', exit: facts.exit, reason: endReason(facts), rest: false };
  return { kind: 'unclear', reason: `systemd says "${active}" (${sub})` };
}

function endReason(facts: UnitFacts): string {
  return `${describeExit(facts.exit)} (systemd: ${facts.result})`;
}

/** The whole name of a service's unit, which is also that of its file. */
export function unitName({ unit }: Pick<Manifest, 'unit'>): string {
  return /\.[a-z]+$/.test(unit) ? unit : `${unit}.service`;
}

/** Services as units of systemd, which starts, watches and limits them; Muster asks and watches. */
export class SystemdDriver implements ServiceDriver {
  readonly pace = { runningMs: 5000, idleMs: 5000 };
  readonly #options: SystemdDriverOptions;

  constructor(options: SystemdDriverOptions) {
    this.#options = options;
  }

  unit(subject: Subject, onEnd: () => void): Unit {
    return new SystemdUnit(this.#options, subject, onEnd);
  }
}

class SystemdUnit implements Unit {
  readonly surroundings: Surroundings = { environment: SYSTEM_ENVIRONMENT };
  readonly #clock: Clock;
  readonly #systemctl: readonly string[];
  readonly #subject: Subject;
  readonly #onEnd: () => void;

  constructor(options: SystemdDriverOptions, subject: Subject, onEnd: () => void) {
    this.#clock = options.clock;
    this.#systemctl = options.systemctl ?? ['systemctl'];
    this.#subject = subject;
    this.#onEnd = onEnd;
  }

  async find(): Promise<Running | undefined> {
    const seen = await this.observe();
    return seen.kind === 'running' ? seen.running : undefined;
  }

  async start(): Promise<Running> {
    const before = await this.#facts();
    if (before?.loaded === 'not-found') {
      throw new LaunchRefused(
        `systemd knows no unit ${this.#unit}: install it, or correct "unit" in the manifest`,
        false,
      );
    }
    const { code, output, timedOut } = await this.#start();
    if (code !== 0)
      throw new LaunchRefused(`systemctl start ${this.#unit}: ${timedOut ? 'took too long' : output}`, true);
    const seen = await this.observe();
    if (seen.kind === 'running') return seen.running;
    throw new LaunchRefused(seen.kind === 'ended' ? `it ended at once: ${seen.reason}` : seen.reason, true);
  }

  /**
   * systemd refuses a unit that was started several times within seconds, and does not always say that this is why: the result of the failure
   * before stays. Here starts are paced already, or asked for by people who have just repaired it, so its count begins anew with each.
   */
  async #start(): Promise<ExternalResult> {
    await this.#call(['reset-failed', this.#unit], SHOW_TIMEOUT_MS);
    return this.#call(['start', this.#unit], START_TIMEOUT_MS);
  }

  async terminate(): Promise<void> {
    await this.#call(['stop', this.#unit], STOP_TIMEOUT_MS);
    this.#onEnd();
  }

  async kill(): Promise<void> {
    await this.#call(['kill', '--signal=SIGKILL', this.#unit], SHOW_TIMEOUT_MS);
    this.#onEnd();
  }

  async observe(): Promise<Observation> {
    const facts = await this.#facts();
    return facts ? judgeUnit(facts, this.#clock.now()) : { kind: 'unclear', reason: 'systemctl does not answer' };
  }

  async lastLines(): Promise<readonly string[]> {
    const { code, output } = await this.#call(['status', '--no-pager', '--lines=10', this.#unit], SHOW_TIMEOUT_MS);
    return code === undefined ? [] : output.split('\n').slice(-10);
  }

  get #unit(): string {
    return unitName(this.#subject.manifest);
  }

  async #facts(): Promise<UnitFacts | undefined> {
    const { code, output } = await this.#call(
      ['show', this.#unit, `--property=${PROPERTIES.join(',')}`],
      SHOW_TIMEOUT_MS,
    );
    return code === 0 ? parseUnit(output) : undefined;
  }

  #call(args: readonly string[], timeoutMs: number): Promise<ExternalResult> {
    const command = [...this.#systemctl, ...args];
    return runExternal(this.#clock, { command, timeoutMs, environment: { SYSTEMD_COLORS: '0', SYSTEMD_PAGER: '' } });
  }
}
