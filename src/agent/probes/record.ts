import type { Clock } from '../../kit/clock.js';
import type { CheckResult } from '../../model/instance.js';
import { keptOutput, type Answer } from './answer.js';
import { NOT_RUN, stand, type Standing, type Thresholds } from './threshold.js';

/** What a check is called and how its results count. */
export interface CheckName {
  /** `port NAME` or `ping`. */
  readonly name: string;
  readonly kind: CheckResult['kind'];
  readonly thresholds: Thresholds;
}

/** The results of one check, come to one. */
export class CheckRecord {
  readonly #check: CheckName;
  readonly #clock: Clock;
  #standing: Standing = NOT_RUN;
  #result: CheckResult;

  constructor(check: CheckName, clock: Clock) {
    this.#check = check;
    this.#clock = clock;
    this.#result = {
      name: check.name,
      kind: check.kind,
      health: 'UNKNOWN',
      sinceMs: clock.now(),
      lastRunMs: undefined,
      tookMs: 0,
      output: '',
      streak: 0,
    };
  }

  get result(): CheckResult {
    return this.#result;
  }

  add(answer: Answer, tookMs: number): void {
    const before = this.#result;
    const nowMs = this.#clock.now();
    this.#standing = stand(this.#standing, answer.verdict, this.#check.thresholds);
    const { health, streak } = this.#standing;
    this.#result = {
      ...before,
      health,
      sinceMs: health === before.health ? before.sinceMs : nowMs,
      lastRunMs: nowMs,
      tookMs,
      output: keptOutput(answer.output),
      streak,
    };
  }
}
