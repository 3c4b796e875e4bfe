import { withTimeout, type Clock, type Timer } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import { randomBetween, type Random } from '../../kit/random.js';
import { stopped } from '../../kit/tasks.js';
import type { CheckResult } from '../../model/instance.js';
import type { Answer, Probe } from './answer.js';
import { CheckRecord, type CheckName } from './record.js';
import type { Slots } from '../../kit/slots.js';

/** The first check comes within this after the start. */
const FIRST_WITHIN_MS = 1000;
/** For so long after its start a service that has never passed is also asked between its regular checks... */
const START_UP_MS = 30_000;
/** ...this often: it is seen to be well soon after it is. A failure of such a check counts for nothing. */
const START_UP_EVERY_MS = 1000;
/** What a check opened is gone well within this after its time is over; a program that is not cannot be killed. */
const ENDING_MS = 1000;

export interface PolledCheckSpec extends CheckName {
  readonly probe: Probe;
  readonly everyMs: number;
  readonly timeoutMs: number;
}

export interface PolledCheckParts {
  readonly clock: Clock;
  readonly random: Random;
  /** Shared by all checks of the machine. */
  readonly slots: Slots;
  /** Wall-clock start of the service, milliseconds. */
  readonly startedMs: number;
  readonly onResult: () => void;
}

/** Where a run is: `waiting` for a slot, `asking`, or over its time and still `ending` (a program that cannot be killed). */
type Run = 'none' | 'waiting' | 'asking' | 'ending';

/**
 * Asks again and again, at a fixed pace with a phase of its own: the first check soon, the next half to a whole interval later,
 * and then each interval. A check never overlaps itself: a turn that comes while the last one waits or asks is left out.
 */
export class PolledCheck {
  readonly #spec: PolledCheckSpec;
  readonly #parts: PolledCheckParts;
  readonly #record: CheckRecord;
  readonly #startUpEndsMs: number;
  #timer: Timer;
  #run: Run = 'none';
  /** Monotonic time of the next regular check. */
  #dueMs: number;
  /** From the next regular check to the one after it. */
  #gapMs: number;
  #hasPassed = false;
  /** Whether the present run counts if it fails. */
  #counts = false;
  #stopped = false;
  /** Monotonic time at which the last run gave its answer. */
  #answeredMs = 0;
  /** Ends the present run. */
  #running: AbortController | undefined;

  constructor(spec: PolledCheckSpec, parts: PolledCheckParts) {
    const { clock, random } = parts;
    this.#spec = spec;
    this.#parts = parts;
    this.#record = new CheckRecord(spec, clock);
    const ageMs = Math.max(0, clock.now() - parts.startedMs);
    this.#startUpEndsMs = clock.monotonic() + START_UP_MS - ageMs;
    const firstMs = randomBetween(random, 0, Math.min(FIRST_WITHIN_MS, spec.everyMs));
    this.#dueMs = clock.monotonic() + firstMs;
    this.#timer = clock.after(firstMs, this.#turn);
    this.#gapMs = randomBetween(random, spec.everyMs / 2, spec.everyMs);
  }

  get result(): CheckResult {
    return this.#record.result;
  }

  stop(): void {
    this.#timer.cancel();
    this.#stopped = true;
    this.#running?.abort(stopped(`check ${this.#spec.name}`));
  }

  readonly #turn = (): void => {
    const { clock } = this.#parts;
    const nowMs = clock.monotonic();
    const regular = nowMs >= this.#dueMs;
    if (regular) this.#moveDue(nowMs);
    const startingUp = !this.#hasPassed && nowMs < this.#startUpEndsMs;
    if (regular || startingUp) this.#take(regular, nowMs);
    const nextMs = startingUp ? Math.min(this.#dueMs, nowMs + START_UP_EVERY_MS) : this.#dueMs;
    this.#timer = clock.after(nextMs - nowMs, this.#turn);
  };

  #take(regular: boolean, nowMs: number): void {
    if (this.#run === 'none') {
      this.#counts = regular;
      void this.#ask();
    } else if (regular) {
      // A check from between the regular ones that is still under way takes the place of this one.
      this.#counts = true;
      if (this.#run === 'ending' && nowMs - this.#answeredMs > ENDING_MS)
        this.#add({ verdict: 'fail', output: 'the check before ran out of time and cannot be ended' }, 0);
    }
  }

  /** Turns that were slept through (a suspended machine) are not made up for. */
  #moveDue(nowMs: number): void {
    this.#dueMs += this.#gapMs;
    this.#gapMs = this.#spec.everyMs;
    if (this.#dueMs <= nowMs) this.#dueMs = nowMs + this.#spec.everyMs;
  }

  /** Never rejects. */
  async #ask(): Promise<void> {
    const { clock, slots } = this.#parts;
    this.#run = 'waiting';
    const giveBack = await slots.take();
    if (this.#stopped) {
      giveBack();
      return;
    }
    this.#run = 'asking';
    const askedMs = clock.monotonic();
    const { answer, ended } = this.#begin();
    const found = await answer;
    giveBack();
    this.#run = 'ending';
    this.#answeredMs = clock.monotonic();
    if (this.#counts || found.verdict !== 'fail') this.#add(found, this.#answeredMs - askedMs);
    await ended;
    this.#run = 'none';
  }

  /** `answer` comes at the latest when the time is over; `ended` when nothing of the probe is left. Neither rejects. */
  #begin(): { answer: Promise<Answer>; ended: Promise<void> } {
    const { timeoutMs, probe } = this.#spec;
    const running = new AbortController();
    let ended: Promise<void> = Promise.resolve();
    this.#running = running;
    const limit = {
      timeoutMs,
      parent: running.signal,
      reason: () => new MusterError('deadline', `no answer within ${formatDuration(timeoutMs)}`),
    };
    const answer = withTimeout(this.#parts.clock, limit, (signal) => {
      const work = probe(signal);
      ended = work.then(ignore, ignore);
      return Promise.race([work, rejection(signal)]);
    });
    return {
      answer: answer.catch((error: unknown): Answer => ({ verdict: 'fail', output: messageOf(error) })),
      ended,
    };
  }

  #add(answer: Answer, tookMs: number): void {
    if (this.#stopped) return;
    if (answer.verdict !== 'fail') this.#hasPassed = true;
    this.#record.add(answer, tookMs);
    this.#parts.onResult();
  }
}

function ignore(): void {
  // The answer says how it went; here only the end counts.
}

/** Rejects when the signal aborts. */
function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener(
      'abort',
      () => {
        reject(signal.reason as Error);
      },
      { once: true },
    );
  });
}
