import type { Clock, Timer } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { MusterError, messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { Driver, InstanceReport } from '../../model/instance.js';
import type { ChecksFactory, ReportedHealth } from '../probes/checks.js';
import { Checking } from './checking.js';
import { LaunchRefused, type Exit, type Running, type ServiceDriver, type Subject, type Unit } from './driver.js';
import { tellingLine } from './last-lines.js';
import { Life, sinceItsStart, triesOf } from './life.js';
import { detachedMeanwhile, NotStarted, notStopped, stopNotStored } from './outcomes.js';
import { asked, type InstanceRecord, type InstanceRecords, type LifeRecord } from './records.js';
import { processKey, type Definition } from './sources.js';
import {
  decide,
  FRESH,
  isResting,
  nextTickMs,
  reasonOf,
  runningOf,
  type Effect,
  type Event,
  type State,
  type Tries,
} from './state.js';

export interface SupervisorOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly bootId: string;
  readonly records: InstanceRecords;
  readonly checks: ChecksFactory;
  readonly drivers: Readonly<Record<Driver, ServiceDriver>>;
  /** Where a service's things are. */
  readonly subjectOf: (definition: Definition) => Subject;
  /** Hears of every change of the report. */
  readonly onChange: () => void;
}

/** After SIGKILL a process ends at once, unless it hangs in the kernel. */
const KILL_PATIENCE_MS = 10_000;
/** A launch is over, one way or the other, before this: the drivers have limits of their own. */
const LAUNCH_PATIENCE_MS = 10 * 60_000;
const LAST_LINES_SHOWN_MAX = 10;

/**
 * One instance: holds its state (changed in #become alone), carries out what decide() says, and watches what really runs.
 * Everything that happens comes in as an event, one after the other; nothing it starts is ever awaited inside a change.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  #definition: Definition;
  #state: State = { at: 'STOPPED', reason: '' };
  readonly #life: Life;
  #unit: Unit;
  readonly #checking: Checking;
  #timer: Timer | undefined;
  #observing: Promise<void> | undefined;
  #lookAgain = false;
  #detached = false;
  readonly #waiting = new Set<() => void>();

  constructor(definition: Definition, options: SupervisorOptions) {
    this.#options = options;
    this.#definition = definition;
    this.#life = new Life({ ...options, service: definition.manifest.name });
    this.#checking = new Checking(options.checks, options.onChange);
    this.#unit = this.#makeUnit();
  }

  get service(): string {
    return this.#definition.manifest.name;
  }

  get definition(): Definition {
    return this.#definition;
  }

  report(): InstanceReport {
    const { manifest, generation, release } = this.#definition;
    const state = this.#state;
    return {
      service: manifest.name,
      version: manifest.version,
      driver: manifest.driver,
      state: state.at,
      sinceMs: this.#life.sinceMs,
      health: this.#checking.health,
      pid: runningOf(state)?.pid ?? 0,
      wanted: this.#record()?.wanted ?? true,
      reason: reasonOf(state),
      exitCode: this.#life.exit?.code,
      exitSignal: this.#life.exit?.signal ?? '',
      restarts: this.#life.restarts,
      checks: this.#checking.results,
      generation,
      logDirectory: this.#options.subjectOf(this.#definition).logDirectory,
      startedMs: this.#life.startedMs,
      ...(release ? { release } : {}),
    };
  }

  /** Takes over what runs from before, then makes it as it is wanted, unless it is not to be started by that. Call once, first. */
  async adopt({ start = true }: { readonly start?: boolean } = {}): Promise<void> {
    const found = await this.#unit.find().catch((error: unknown) => {
      this.#log('warn', 'what runs of it cannot be found out', { error });
      return undefined;
    });
    const record = this.#record();
    const wanted = record?.wanted ?? true;
    const life = this.#life.recall();
    if (found) {
      this.#found(sinceItsStart(found, life), triesOf(life));
      if (!wanted) this.#event({ kind: 'want', run: false });
    } else if (wanted && start) this.#begin(record?.rest, life);
    // Others may start what rests.
    this.#schedule();
  }

  /** Starts it, unless it ended or was given up during this boot and is to rest. Tries go on where the last agent was. */
  #begin(rest: InstanceRecord['rest'], life: LifeRecord | undefined): void {
    const { bootId, clock } = this.#options;
    if (rest?.bootId === bootId) this.#become({ at: rest.state, reason: rest.reason });
    else if (life?.at === 'BACKOFF') {
      this.#become({ at: 'BACKOFF', retryAtMs: clock.monotonic(), reason: life.reason, tries: life.tries });
    } else this.#event({ kind: 'want', run: true });
  }

  #found(running: Running, tries: Tries): void {
    this.#event({ kind: 'found', running, upForMs: this.#options.clock.now() - running.startedMs, tries });
  }

  /** Resolves when it is RUNNING, or has EXITED with success. @throws precondition saying why it is not */
  async start(): Promise<void> {
    await this.#want(true);
    this.#event({ kind: 'want', run: true });
    await this.#started();
  }

  /** As start; what runs is stopped before, also what others started since it was last looked at: starting that again would change nothing. */
  async restart(): Promise<void> {
    await this.#want(true);
    if (!('running' in this.#state) && this.#pace.idleMs !== undefined) await this.#observe();
    this.#event({ kind: 'restart' });
    await this.#started();
  }

  /**
   * Resolves when it has ended. One that is still being launched is ended after that, and its time to end counts from then.
   * @throws deadline when it cannot even be killed; conflict when it was started meanwhile
   */
  async stop(): Promise<void> {
    const unstored = await this.#want(false).catch((error: unknown) => ({ error }));
    await this.halt();
    if (unstored) throw stopNotStored(this.service, unstored.error);
  }

  /** As stop, but what is wanted stays as it is. */
  async halt(): Promise<void> {
    this.#event({ kind: 'want', run: false });
    const isOver = (now: State): boolean => now.at !== 'STOPPING' || now.next === 'start';
    await this.#settled((now) => isOver(now) || runningOf(now) !== undefined, LAUNCH_PATIENCE_MS);
    const limitMs = this.#definition.manifest.stop.graceMs + KILL_PATIENCE_MS;
    const state = runningOf(this.#state) ? await this.#settled(isOver, limitMs) : this.#state;
    if (state.at !== 'STOPPED') throw this.#detached ? detachedMeanwhile() : notStopped(this.service, state);
  }

  /** Follows a changed manifest; restarts what runs when the change matters to the process. */
  update(definition: Definition): void {
    const before = this.#definition;
    const changed = processKey(before) !== processKey(definition);
    this.#definition = definition;
    const { at } = this.#state;
    const different = JSON.stringify(before.manifest) !== JSON.stringify(definition.manifest);
    // What was given up may have been mended by any change.
    const due = at === 'FATAL' ? changed || different : changed && at !== 'STOPPED' && at !== 'EXITED';
    if (due) this.#event({ kind: 'restart' });
    else if (different) this.#restartChecks();
    if (changed && at === 'STOPPED') this.#unit = this.#makeUnit();
    this.#schedule();
    this.#options.onChange();
  }

  /** @throws precondition where it does not run or has no ttl ping */
  reportHealth(health: ReportedHealth, output: string): number {
    return this.#checking.report(this.service, health, output);
  }

  /** What it printed since it was started last, as far as that is known. */
  async lastLines(): Promise<readonly string[]> {
    return this.#unit.lastLines().catch(() => []);
  }

  /** Lets go: nothing is watched or done any more; what runs goes on running. */
  detach(): void {
    this.#detached = true;
    this.#timer?.cancel();
    this.#checking.follow(undefined);
    for (const wake of [...this.#waiting]) wake();
  }

  get #pace(): ServiceDriver['pace'] {
    return this.#options.drivers[this.#definition.manifest.driver].pace;
  }

  #record(): InstanceRecord | undefined {
    return this.#options.records.get(this.service);
  }

  async #want(run: boolean): Promise<void> {
    await this.#options.records.amend(this.service, (record) => asked(record, run));
    this.#options.onChange();
  }

  #makeUnit(): Unit {
    const { drivers, subjectOf } = this.#options;
    return drivers[this.#definition.manifest.driver].unit(subjectOf(this.#definition), () => {
      void this.#observe();
    });
  }

  #event(event: Event): void {
    if (this.#detached) return;
    const { clock, random } = this.#options;
    const context = { nowMs: clock.monotonic(), policy: this.#definition.manifest, jitter: random.next() };
    const { state, effects } = decide(this.#state, event, context);
    if (state !== this.#state) this.#become(state);
    for (const effect of effects) this.#carryOut(effect);
    this.#schedule();
  }

  /** The only place where the state changes. */
  #become(state: State): void {
    const before = this.#state;
    this.#state = state;
    this.#life.became(before, state);
    if (before.at !== state.at) this.#sayMoved(before, state);
    if (runningOf(state) !== runningOf(before) || state.at === 'STOPPING') this.#restartChecks();
    this.#options.onChange();
    for (const wake of [...this.#waiting]) wake();
  }

  #sayMoved(before: State, state: State): void {
    const reason = reasonOf(state);
    this.#log(state.at === 'FATAL' ? 'error' : 'info', `${before.at} -> ${state.at}`, reason === '' ? {} : { reason });
  }

  #carryOut(effect: Effect): void {
    if (effect === 'launch') void this.#launch();
    else {
      const done = effect === 'kill' ? this.#unit.kill() : this.#unit.terminate();
      done.catch((error: unknown) => {
        this.#log('error', `${effect} failed`, { error });
      });
    }
  }

  async #launch(): Promise<void> {
    const unit = this.#makeUnit();
    this.#unit = unit;
    try {
      this.#event({ kind: 'launched', running: await unit.start() });
      // It may have ended while it was being launched.
      void this.#observe();
    } catch (error) {
      const again = !(error instanceof LaunchRefused) || error.again;
      if (!(error instanceof LaunchRefused)) this.#log('error', 'it could not be started', { error });
      this.#event({ kind: 'refused', reason: messageOf(error), again });
    }
  }

  /** Looks at what really runs; calls during a look make one more after it. Resolves after a look that began since the call. */
  #observe(): Promise<void> {
    if (this.#observing) this.#lookAgain = true;
    else this.#observing = this.#lookOn();
    return this.#observing;
  }

  async #lookOn(): Promise<void> {
    await this.#look();
    const again = this.#lookAgain && !this.#detached;
    this.#lookAgain = false;
    if (again) return this.#lookOn();
    this.#observing = undefined;
    this.#schedule();
  }

  async #look(): Promise<void> {
    const unit = this.#unit;
    try {
      const seen = await unit.observe();
      // A launch since the question makes the answer one about the past.
      if (unit !== this.#unit) return;
      if (seen.kind === 'running') this.#sawRunning(seen.running);
      else if (seen.kind === 'ended') await this.#sawEnd(unit, seen);
    } catch (error) {
      this.#log('warn', 'it could not be looked at', { error });
    }
  }

  #sawRunning(running: Running): void {
    const state = this.#state;
    const known = runningOf(state);
    if (!known) this.#found(running, FRESH);
    else if (known.pid !== running.pid && (state.at === 'STARTING' || state.at === 'RUNNING')) {
      // Its own manager restarted it.
      this.#become({ ...state, running });
    }
  }

  async #sawEnd(
    unit: Unit,
    seen: { readonly exit: Exit; readonly reason: string; readonly rest: boolean },
  ): Promise<void> {
    const { at } = this.#state;
    if (at !== 'STARTING' && at !== 'RUNNING' && at !== 'STOPPING') return;
    this.#life.ended(seen.exit);
    const { startedMs } = this.#life;
    const upMs = startedMs === undefined ? undefined : this.#options.clock.now() - startedMs;
    const after = upMs === undefined || at === 'STOPPING' || seen.rest ? '' : ` after ${formatDuration(upMs)}`;
    const words = at === 'STARTING' && seen.exit.code !== 0 ? await lastWords(unit) : '';
    this.#event({ kind: 'ended', exit: seen.exit, reason: `${seen.reason}${after}${words}`, rest: seen.rest });
  }

  #restartChecks(): void {
    const running = runningOf(this.#state);
    if (!running || this.#state.at === 'STOPPING' || this.#detached) {
      this.#checking.follow(undefined);
      return;
    }
    const { manifest } = this.#definition;
    this.#checking.follow({
      service: manifest.name,
      manifest,
      startedMs: running.startedMs,
      directory: this.#options.subjectOf(this.#definition).workingDirectory,
      ...this.#unit.surroundings,
    });
  }

  /** One timer: for the state's own time, or for the next look. */
  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#detached) return;
    const { clock } = this.#options;
    const state = this.#state;
    const idleMs = 'running' in state ? undefined : this.#pace.idleMs;
    const lookInMs = runningOf(state) ? this.#pace.runningMs : idleMs;
    const tickAtMs = nextTickMs(state);
    const tickInMs = tickAtMs === undefined ? undefined : Math.max(0, tickAtMs - clock.monotonic());
    const waits = [lookInMs, tickInMs].filter((wait) => wait !== undefined);
    if (waits.length === 0) return;
    this.#timer = clock.after(Math.min(...waits), () => {
      this.#event({ kind: 'tick' });
      if (lookInMs !== undefined) void this.#observe();
    });
  }

  async #started(): Promise<void> {
    const state = await this.#settled((now) => now.at === 'RUNNING' || isResting(now), undefined);
    if (state.at === 'RUNNING' || (state.at === 'EXITED' && this.#life.exit?.code === 0)) return;
    throw this.#detached ? detachedMeanwhile() : await this.#notStarted(state);
  }

  async #notStarted(state: State): Promise<MusterError> {
    if (state.at === 'STOPPED' && this.#record()?.wanted === false) {
      return new MusterError('conflict', `${this.service} was stopped while it was starting`, {
        reason: 'STOPPED_MEANWHILE',
      });
    }
    const lines = (await this.lastLines()).slice(-LAST_LINES_SHOWN_MAX);
    return new NotStarted(this.service, state, lines);
  }

  /** The first state that `is` accepts; the present one when it detaches or the time is over. */
  #settled(is: (state: State) => boolean, limitMs: number | undefined): Promise<State> {
    return new Promise((resolve) => {
      const limit =
        limitMs === undefined
          ? undefined
          : this.#options.clock.after(limitMs, () => {
              done();
            });
      const done = (): void => {
        limit?.cancel();
        this.#waiting.delete(look);
        resolve(this.#state);
      };
      const look = (): void => {
        if (is(this.#state) || this.#detached) done();
      };
      this.#waiting.add(look);
      look();
    });
  }

  #log(level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>): void {
    this.#options.logger[level](message, { service: this.service, ...facts });
  }
}

async function lastWords(unit: Unit): Promise<string> {
  const line = tellingLine(await unit.lastLines().catch(() => []));
  return line === '' ? '' : `, saying "${line}"`;
}
