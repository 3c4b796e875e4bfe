import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { DeployStep, DeployStepReport, StepOutcome } from '../../model/release.js';
import type { DeployableServices, Hold } from '../ports.js';
import { next, skipped, withoutEntry, type Facts } from './decide.js';
import type { Before, Deploy, DeployEnd, Position } from './deploy.js';
import { failureOf, isExpected } from './failure.js';
import { untried, type Held } from './held.js';
import type { DeployJournal } from './journal.js';
import type { Modules } from './modules.js';
import type { Pruner } from './prune.js';
import { endOf } from './report.js';
import { holderOf, type Done, type Steps } from './steps.js';
import type { Undo } from './undo.js';

export interface RunOptions {
  readonly journal: DeployJournal;
  readonly held: Held;
  readonly modules: Pick<Modules, 'has'>;
  readonly services: DeployableServices;
  readonly steps: Steps;
  readonly undo: Undo;
  readonly pruner: Pruner;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Told after each change. */
  readonly tell: (deploy: Deploy) => void;
  /** Aborts when the agent ends: the next one goes on. */
  readonly signal: AbortSignal;
}

const HOLD_RETRY = { initialMs: 100, maxMs: 5000, multiplier: 2 } as const;
/** How often room for an entry is looked for. */
const ROOM_RETRY_MS = 2000;
/** From this step on the service itself is touched. */
const TOUCHING = ['STOP', 'SWITCH', 'START', 'VERIFY', 'PRUNE'] as const;
type TouchingStep = (typeof TOUCHING)[number];

/**
 * Carries one deploy from where it is to its end. `#deploy.at` is on the disk before anything of its step happens, together with all that was
 * done before; so what a later process finds tells it what may have happened and what cannot have.
 */
export class Run {
  readonly #options: RunOptions;
  #deploy: Deploy;
  #hold: Hold | undefined;
  /** Monotonic, of the stop in this process. */
  #stoppedAtMs: number | undefined;
  #beganAtMs = 0;

  constructor(deploy: Deploy, options: RunOptions) {
    this.#deploy = deploy;
    this.#options = options;
  }

  /** @throws the signal's reason; the failure of the store, when nothing can be written any more */
  async toEnd(): Promise<DeployEnd> {
    try {
      while (this.#deploy.at.phase !== 'ended') {
        this.#options.signal.throwIfAborted();
        await this.#advance();
      }
      return await this.#finish();
    } finally {
      this.#letGo();
    }
  }

  #letGo(): void {
    this.#hold?.step(undefined);
    this.#hold?.letGo();
    this.#hold = undefined;
  }

  async #advance(): Promise<void> {
    const reason = skipped(this.#deploy, this.#facts());
    if (reason !== undefined) {
      this.#begun();
      this.#ended('SKIPPED', { message: reason });
      this.#move(next(this.#deploy.at, 'done'));
      return;
    }
    try {
      await this.#begin();
    } catch (error) {
      await this.#unbegun(error);
      return;
    }
    await this.#carryOut();
  }

  #facts(): Facts {
    const { held, modules, steps } = this.#options;
    const { at, service, to } = this.#deploy;
    const unpacked = held.find(service, to.digest) !== undefined;
    // A module may be missing that was there when it was unpacked; its own files need not be made again for that.
    const whole = to.modules.every((ref) => modules.has(ref)) || (at.phase === 'forward' && at.step === 'UNPACK');
    return { held: unpacked && whole, hook: steps.hook };
  }

  /** The entry of the step, durable before anything of it happens. */
  async #begin(): Promise<void> {
    const { at } = this.#deploy;
    if (at.phase === 'ended') return;
    if (at.phase === 'undo' || isTouching(at.step)) await this.#takeHold(at.step);
    this.#begun();
    await this.#options.journal.write(this.#deploy);
    this.#options.tell(this.#deploy);
  }

  /** Once the service is touched nothing else may come between: whoever holds it is waited for. */
  async #takeHold(step: DeployStep): Promise<void> {
    const hold = (this.#hold ??= await this.#held());
    this.#deploy = { ...this.#deploy, before: this.#deploy.before ?? this.#beforeOf(hold) };
    hold.step(step === 'PRUNE' ? undefined : step);
    if (step !== 'STOP' || this.#deploy.stoppedMs !== undefined || hold.report()?.state !== 'RUNNING') return;
    this.#stoppedAtMs = this.#options.clock.monotonic();
    this.#deploy = { ...this.#deploy, stoppedMs: this.#options.clock.now() };
  }

  async #held(): Promise<Hold> {
    const { services, clock, random, signal } = this.#options;
    const retry = new Backoff(HOLD_RETRY, random);
    for (;;) {
      try {
        return await services.hold(this.#deploy.service, holderOf(this.#deploy));
      } catch (error) {
        if (this.#deploy.before === undefined || !isCode(error, 'conflict')) throw error;
        await sleep(clock, retry.next(), signal);
      }
    }
  }

  #beforeOf(hold: Hold): Before {
    const source = hold.source();
    return {
      source: source && { manifestText: source.manifestText, folder: source.folder, release: source.release },
      wanted: hold.wanted,
      pinned: this.#options.held.of(this.#deploy.service).pinned,
    };
  }

  async #carryOut(): Promise<void> {
    const { at } = this.#deploy;
    if (at.phase === 'ended') return;
    try {
      const done = await (at.phase === 'undo' ? this.#undo(at.step) : this.#forward(at.step));
      this.#deploy = { ...this.#deploy, ...done.change };
      if (at.step === 'START') this.#up();
      this.#ended(done.skipped ? 'SKIPPED' : 'DONE', done);
      this.#move(next(this.#deploy.at, 'done'));
    } catch (error) {
      this.#options.signal.throwIfAborted();
      this.#failed(error, next(at, 'failed'));
    }
  }

  async #forward(step: DeployStep): Promise<Done> {
    return isTouching(step) ? this.#touch(step, await this.#holding()) : this.#prepare(step);
  }

  #prepare(step: Exclude<DeployStep, TouchingStep>): Promise<Done> {
    const { steps, signal } = this.#options;
    const deploy = this.#deploy;
    switch (step) {
      case 'FETCH':
        return steps.fetch(deploy, signal);
      case 'BACKUP':
        return steps.backup(deploy);
      case 'MODULES':
        return steps.modules(deploy);
      case 'UNPACK':
        return steps.unpack(deploy);
      case 'INSTALL':
        return steps.install(deploy);
    }
  }

  async #touch(step: TouchingStep, hold: Hold): Promise<Done> {
    const { steps, pruner } = this.#options;
    switch (step) {
      case 'STOP':
        return steps.stop(hold);
      case 'SWITCH':
        return steps.switch(this.#deploy, hold);
      case 'START':
        return steps.start(this.#deploy, hold);
      case 'VERIFY':
        return steps.verify(this.#deploy, hold);
      case 'PRUNE':
        if (wasVerified(this.#deploy)) await pruner.keep(this.#deploy, hold);
        else await this.#untried();
        return pruner.prune(this.#deploy, steps.manifestOf(this.#deploy));
    }
  }

  async #untried(): Promise<void> {
    const { held, clock } = this.#options;
    const { kind, service, to } = this.#deploy;
    if (kind === 'DEPLOY') await held.change(service, (one) => untried(one, to.digest, clock.now()));
  }

  async #undo(step: DeployStep): Promise<Done> {
    const { undo, signal } = this.#options;
    const hold = await this.#holding();
    if (step === 'STOP') return undo.stop(hold, signal);
    if (step === 'SWITCH') return undo.switch(this.#deploy, hold, signal);
    return step === 'START' ? undo.start(hold) : undo.verify(hold);
  }

  async #holding(): Promise<Hold> {
    return (this.#hold ??= await this.#held());
  }

  /** Its entry could not be written: nothing of the step has happened. @throws what says that the store is gone */
  async #unbegun(error: unknown): Promise<void> {
    const { logger, signal, clock } = this.#options;
    if (isCode(error, 'unavailable', 'data_loss')) throw error;
    signal.throwIfAborted();
    const then = withoutEntry(this.#deploy.at);
    if (typeof then === 'object') {
      // Nothing has been touched that would be put back.
      if (then.phase === 'ended') this.#deploy = { ...this.#deploy, before: undefined, stoppedMs: undefined };
      this.#failed(error, then);
      return;
    }
    logger.warn('a step of a deploy could not be written to the journal', { service: this.#deploy.service, error });
    if (then === 'go on') await this.#carryOut();
    else await sleep(clock, ROOM_RETRY_MS, signal);
  }

  #begun(): void {
    const { at, steps } = this.#deploy;
    if (at.phase === 'ended') return;
    const { clock } = this.#options;
    const last = steps.at(-1);
    const again = last?.outcome === 'RUNNING';
    const kept = again ? steps.slice(0, -1) : steps;
    this.#beganAtMs = clock.monotonic();
    const entry: DeployStepReport = {
      step: at.step,
      undo: at.phase === 'undo',
      outcome: 'RUNNING',
      startedMs: again && last.step === at.step ? last.startedMs : clock.now(),
      tookMs: undefined,
      message: '',
    };
    this.#deploy = { ...this.#deploy, steps: [...kept, entry] };
  }

  #ended(outcome: StepOutcome, details: Pick<DeployStepReport, 'message' | 'exitCode' | 'output'>): void {
    const { steps } = this.#deploy;
    const last = steps.at(-1);
    if (!last) return;
    const { message, exitCode, output } = details;
    const tookMs = Math.max(0, Math.round(this.#options.clock.monotonic() - this.#beganAtMs));
    this.#deploy = {
      ...this.#deploy,
      steps: [...steps.slice(0, -1), { ...last, outcome, tookMs, message, exitCode, output }],
    };
  }

  #failed(error: unknown, then: Position): void {
    const { at, service, id } = this.#deploy;
    if (at.phase === 'ended') return;
    if (!isExpected(error)) this.#options.logger.error('a deploy failed in an unexpected way', { id, service, error });
    const failure = failureOf(at, error);
    this.#ended('FAILED', failure);
    this.#deploy = { ...this.#deploy, failure: this.#deploy.failure ?? failure };
    this.#move(then);
  }

  #move(at: Position): void {
    this.#deploy = { ...this.#deploy, at };
    this.#options.tell(this.#deploy);
  }

  /** It is RUNNING again. */
  #up(): void {
    const { stoppedMs, downtimeMs } = this.#deploy;
    if (stoppedMs === undefined || (downtimeMs !== undefined && this.#deploy.at.phase !== 'undo')) return;
    const { clock } = this.#options;
    const tookMs = this.#stoppedAtMs === undefined ? clock.now() - stoppedMs : clock.monotonic() - this.#stoppedAtMs;
    this.#deploy = { ...this.#deploy, downtimeMs: Math.max(0, Math.round(tookMs)) };
  }

  async #finish(): Promise<DeployEnd> {
    const { pruner, logger } = this.#options;
    const { failure, service } = this.#deploy;
    // A download that broke off is gone on with by the next deploy.
    if (failure && failure.step !== 'FETCH') {
      await pruner.forgetArchives(this.#deploy).catch((error: unknown) => {
        logger.warn('downloads of a failed deploy are still on the disk', { service, error });
      });
    }
    const end = endOf(this.#deploy);
    this.#deploy = { ...this.#deploy, end };
    this.#letGo();
    await this.#writeEnd();
    return end;
  }

  /**
   * What touched the service is over only once that is written: a later process that found it at its stop would leave the service's start to it.
   * One that touched nothing may be forgotten.
   * @throws the signal's reason; the failure of the store, when nothing can be written any more
   */
  async #writeEnd(): Promise<void> {
    const { journal, logger, signal, clock } = this.#options;
    const { id, service, before } = this.#deploy;
    for (;;) {
      try {
        await journal.write(this.#deploy);
        return;
      } catch (error) {
        if (!isCode(error, 'exhausted')) throw error;
        logger.warn('the end of a deploy could not be written yet', { id, service, error });
        if (before === undefined) return;
        await sleep(clock, ROOM_RETRY_MS, signal);
      }
    }
  }
}

function isTouching(step: DeployStep): step is TouchingStep {
  return TOUCHING.some((one) => one === step);
}

function wasVerified({ steps }: Deploy): boolean {
  return steps.some(({ step, undo, outcome }) => step === 'VERIFY' && !undo && outcome === 'DONE');
}
