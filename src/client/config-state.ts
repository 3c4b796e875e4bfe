import { mergeValues } from '../config/merge.js';
import { isMap, type ConfigValue, type ConfigValues } from '../config/values.js';
import type { ConfigSnapshot } from '../config/wire.js';
import { withTimeout, type Clock } from '../kit/clock.js';
import { messageOf, MusterError } from '../kit/errors.js';
import { aborted } from '../kit/tasks.js';

/** Takes a new configuration; throwing or rejecting refuses it. */
export type ConfigListener = (config: ConfigValues, info: { readonly revision: number }) => unknown;

/** Says what became of a revision; `error` is empty when it was taken. */
export type ReportOutcome = (revision: number, error: string) => void;

/** A listener that takes longer counts as having refused, milliseconds. */
export const LISTENER_TIMEOUT_MS = 30_000;

const NOTHING: ConfigSnapshot = { revision: 0, hash: '', values: {}, provenance: {} };

/**
 * The configuration a program runs with. A new one is offered to the listeners, one revision at a time, and becomes the current one
 * when all have taken it; refused, the last good one stays. While one is offered, of those that follow only the newest is kept.
 */
export class ConfigState {
  readonly #clock: Clock;
  readonly #report: ReportOutcome;
  readonly #listeners = new Set<ConfigListener>();
  #current = NOTHING;
  #offered = NOTHING;
  #next: ConfigSnapshot | undefined;
  #offering: Promise<void> | undefined;

  constructor(clock: Clock, report: ReportOutcome) {
    this.#clock = clock;
    this.#report = report;
  }

  /** What the program runs with. */
  get current(): ConfigSnapshot {
    return this.#current;
  }

  /** Hash of the newest one that was offered, taken or not. */
  get newestHash(): string {
    return (this.#next ?? this.#offered).hash;
  }

  onChange(listener: ConfigListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A snapshot arrived. */
  offer(snapshot: ConfigSnapshot): void {
    this.#next = snapshot;
    this.#offering ??= this.#work();
  }

  /** Resolves when nothing is being offered. */
  async idle(): Promise<void> {
    await this.#offering;
  }

  async #work(): Promise<void> {
    for (let next = this.#next; next; next = this.#next) {
      this.#next = undefined;
      await this.#try(next);
    }
    this.#offering = undefined;
  }

  async #try(snapshot: ConfigSnapshot): Promise<void> {
    const same = snapshot.hash === this.#current.hash;
    this.#offered = snapshot;
    const frozen = { ...snapshot, values: freeze(snapshot.values) };
    const error = same ? '' : await this.#ask(frozen);
    if (error === '') this.#current = frozen;
    // Revision 0 is no configuration: there is nothing to report.
    if (snapshot.revision > 0) this.#report(snapshot.revision, error);
  }

  /** Why a listener refuses, or an empty text. */
  async #ask({ values, revision }: ConfigSnapshot): Promise<string> {
    for (const listener of this.#listeners) {
      try {
        await this.#inTime(async () => {
          await listener(values, { revision });
        });
      } catch (error) {
        return messageOf(error) || 'a listener refused it without saying why';
      }
    }
    return '';
  }

  #inTime(work: () => Promise<void>): Promise<void> {
    const reason = (): Error =>
      new MusterError('deadline', `a listener of onChange did not finish within ${LISTENER_TIMEOUT_MS / 1000} s`);
    return withTimeout(this.#clock, { timeoutMs: LISTENER_TIMEOUT_MS, reason }, (signal) =>
      Promise.race([
        work(),
        aborted(signal).then(() => {
          signal.throwIfAborted();
        }),
      ]),
    );
  }
}

/** `values` laid on `defaults`, frozen. */
export function withDefaults(defaults: ConfigValues, values: ConfigValues): ConfigValues {
  return freeze(mergeValues(defaults, values));
}

function freeze<T extends ConfigValue>(value: T): T {
  if (Array.isArray(value)) value.forEach(freeze);
  else if (isMap(value)) Object.values(value).forEach(freeze);
  return Object.freeze(value);
}
