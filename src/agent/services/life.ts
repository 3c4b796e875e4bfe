import type { Clock } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import type { Exit, Running } from './driver.js';
import { withLife, type InstanceRecord, type InstanceRecords, type LifeRecord } from './records.js';
import { FRESH, isResting, reasonOf, runningOf, type State, type Tries } from './state.js';

export interface LifeOptions {
  readonly service: string;
  readonly clock: Clock;
  readonly records: InstanceRecords;
  readonly bootId: string;
  readonly logger: Logger;
}

/** What an instance went through: kept on disk, so that the next agent of the same boot goes on from it instead of counting anew. */
export class Life {
  readonly #options: LifeOptions;
  #before: LifeRecord | undefined;
  #sinceMs: number;
  #startedMs: number | undefined;
  #exit: Exit | undefined;
  #tries: Tries = FRESH;

  constructor(options: LifeOptions) {
    this.#options = options;
    this.#sinceMs = options.clock.now();
  }

  /** Since when its state holds; wall-clock milliseconds, as all times here. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  get startedMs(): number | undefined {
    return this.#startedMs;
  }

  /** Its last end; undefined where none was seen in this boot. */
  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Starts since somebody asked for one, the first not counted. */
  get restarts(): number {
    return this.#tries.restarts;
  }

  /** Takes over what the last agent of this boot knew. Call before the first change. */
  recall(): LifeRecord | undefined {
    const { records, service, bootId } = this.#options;
    const before = records.get(service)?.life;
    if (before?.bootId !== bootId) return undefined;
    this.#before = before;
    this.#exit = before.exit;
    this.#startedMs = before.startedMs;
    this.#tries = before.tries;
    if (before.at === 'STOPPED') this.#sinceMs = before.sinceMs;
    return before;
  }

  ended(exit: Exit): void {
    this.#exit = exit;
  }

  became(before: State, state: State): void {
    if ('tries' in state) this.#tries = state.tries;
    this.#startedMs = runningOf(state)?.startedMs ?? this.#startedMs;
    const moved = before.at !== state.at;
    if (moved) this.#sinceMs = this.#sinceOf(before, state);
    this.#before = undefined;
    const another = state.at === 'RUNNING' && runningOf(before)?.pid !== state.running.pid;
    // A stop that was interrupted is ordered anew by what is wanted.
    if ((moved && state.at !== 'STOPPING') || another) this.#remember(before, state);
  }

  #sinceOf(before: State, state: State): number {
    const nowMs = this.#options.clock.now();
    const known = this.#before;
    const running = runningOf(state);
    if (known?.at === state.at && (known.pid === 0 || known.pid === running?.pid)) return known.sinceMs;
    const found = state.at === 'RUNNING' && before.at !== 'STARTING';
    return found ? Math.min(nowMs, state.running.startedMs) : nowMs;
  }

  #remember(before: State, state: State): void {
    const { records, service, bootId, logger } = this.#options;
    const life: LifeRecord = {
      bootId,
      at: state.at,
      sinceMs: this.#sinceMs,
      pid: runningOf(state)?.pid ?? 0,
      reason: reasonOf(state),
      tries: this.#tries,
      ...(this.#startedMs === undefined ? {} : { startedMs: this.#startedMs }),
      ...(this.#exit ? { exit: this.#exit } : {}),
    };
    const rests = isResting(state) && before.at !== 'STOPPING';
    records
      .amend(service, (record) => withLife(record, life, rests ? restOf(state, record.wanted, bootId) : undefined))
      .catch((error: unknown) => {
        logger.warn('what became of it could not be stored', { service, error });
      });
  }
}

/** What ended by itself, was stopped by others or was given up must rest after a restart of the agent, too. */
function restOf(state: State, wanted: boolean, bootId: string): InstanceRecord['rest'] {
  if (!wanted) return undefined;
  if (state.at === 'EXITED' || state.at === 'FATAL') return { state: state.at, reason: state.reason, bootId };
  return state.at === 'STOPPED' && state.reason !== '' ? { state: state.at, reason: state.reason, bootId } : undefined;
}

/** What somebody started meanwhile begins anew; what only went on has its failures still. */
export function triesOf(life: LifeRecord | undefined): Tries {
  if (!life || life.at === 'STOPPED' || life.at === 'EXITED' || life.at === 'FATAL') return FRESH;
  return life.tries;
}

/** A driver that cannot tell when it was started says when it was seen first; the last agent may know better. */
export function sinceItsStart(found: Running, life: LifeRecord | undefined): Running {
  const same = life?.startedMs !== undefined && life.pid > 0 && life.pid === found.pid;
  return same ? { ...found, startedMs: life.startedMs } : found;
}
