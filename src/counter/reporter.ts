import { Backoff } from '../kit/backoff.js';
import { withTimeout, type Clock, type Timer } from '../kit/clock.js';
import { isCode, messageOf, MusterError } from '../kit/errors.js';
import { newId } from '../kit/ids.js';
import type { Random } from '../kit/random.js';
import { aborted } from '../kit/tasks.js';
import type { Registry, Series } from './registry.js';
import { BATCH_POINTS_MAX, type Batch, type PointRefusal } from './series.js';

/** The way to the receiver of batches. */
export interface Transport {
  /**
   * Resolves once the receiver has the batch on its disk, with the points it did not take.
   * @throws precondition with reason PROCESS_FORGOTTEN when the batch is `resumed` and its uid unknown; anything else: try again
   */
  send(batch: Batch, signal: AbortSignal): Promise<readonly PointRefusal[]>;
}

export interface ReporterOptions {
  readonly registry: Registry;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  /** Name of the service, for the receiver's logs; it goes by the socket. */
  readonly service: string;
  /** Says what was refused. */
  readonly warn: (message: string) => void;
}

export interface FlushOptions {
  /** Default FLUSH_TIMEOUT_MS. */
  readonly timeoutMs?: number;
  /** The process is about to end. */
  readonly final?: boolean;
}

/** Changes are sent this often. */
export const REPORT_INTERVAL_MS = 1_000;
export const FLUSH_TIMEOUT_MS = 5_000;
const SEND_TIMEOUT_MS = 5_000;
/** Different things said of one process's counters. */
const WARNINGS_MAX = 100;
/** A refused series is offered again after this. */
const REFUSED_RETRY_MS = 60_000;
const BACKOFF = { initialMs: 200, maxMs: 5_000, multiplier: 2 };
/** Times one flush starts again because the receiver forgot the process. */
const REBASES_MAX = 3;

interface Sent {
  /** Value of the series when the present uid began: what is sent is counted from there. */
  baseline: number;
  /** Value of the series last acknowledged; undefined before the first time. */
  acknowledged: number | undefined;
  /** Monotonic; set where the receiver refused the series. */
  retryAtMs: number;
}

/**
 * Hands a registry's values to a receiver: cumulative values of one process, sent again until acknowledged, one batch at a time.
 * Sending is idempotent, so a lost acknowledgement costs nothing. What is not acknowledged when the process dies is lost.
 *
 * Invariant: a value counts as acknowledged only when the receiver said so for the present uid; after a change of uid, baselines are
 * the acknowledged values.
 */
export class Reporter {
  readonly #options: ReporterOptions;
  readonly #sent = new Map<Series, Sent>();
  readonly #warned = new Set<string>();
  readonly #backoff: Backoff;
  readonly #stop = new AbortController();
  #uid = newId('p');
  #startedMs: number;
  #resumed = false;
  #timer: Timer | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#startedMs = options.clock.now();
    this.#backoff = new Backoff(BACKOFF, options.random);
  }

  /** Begins to send changes in the background. */
  start(): void {
    this.#arm(REPORT_INTERVAL_MS);
  }

  /** Ends sending; what is not acknowledged stays so. */
  stop(): void {
    this.#stop.abort(new MusterError('cancelled', 'the reporter is stopped'));
    this.#timer?.cancel();
  }

  /**
   * Resolves once everything counted before the call is acknowledged.
   * @throws deadline, unavailable and others when it is not within the time
   */
  flush({ timeoutMs = FLUSH_TIMEOUT_MS, final = false }: FlushOptions = {}): Promise<void> {
    const limit = {
      timeoutMs,
      reason: () =>
        new MusterError('deadline', `the counters were not acknowledged within ${timeoutMs} ms: is the agent running?`),
      parent: this.#stop.signal,
    };
    return withTimeout(this.#options.clock, limit, (signal) => this.#enqueue(signal, final));
  }

  #arm(delayMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#timer = this.#options.clock.after(delayMs, () => {
      void this.#tick();
    });
  }

  async #tick(): Promise<void> {
    try {
      await this.flush({ timeoutMs: SEND_TIMEOUT_MS });
      this.#backoff.reset();
      this.#arm(REPORT_INTERVAL_MS);
    } catch (error) {
      // An agent that is away comes back; anything else would otherwise never be heard of.
      if (!isCode(error, 'unavailable', 'deadline', 'cancelled')) this.#warnOnce(messageOf(error));
      this.#arm(REPORT_INTERVAL_MS + this.#backoff.next());
    }
  }

  /** One round at a time, in the order asked. */
  async #enqueue(signal: AbortSignal, final: boolean): Promise<void> {
    const round = this.#sending.then(() => this.#round(signal, final));
    this.#sending = round.catch(() => undefined);
    await orAborted(round, signal);
  }

  async #round(signal: AbortSignal, final: boolean): Promise<void> {
    signal.throwIfAborted();
    for (let rebases = 0; ; rebases += 1) {
      try {
        await this.#sendAll(signal, final);
        return;
      } catch (error) {
        if (!isForgotten(error) || rebases >= REBASES_MAX) throw error;
        this.#rebase();
      }
    }
  }

  async #sendAll(signal: AbortSignal, final: boolean): Promise<void> {
    const changed = this.#changed();
    for (let from = 0; from < changed.length; from += BATCH_POINTS_MAX) {
      signal.throwIfAborted();
      const part = changed.slice(from, from + BATCH_POINTS_MAX);
      await this.#send(part, final && from + BATCH_POINTS_MAX >= changed.length, signal);
    }
    if (final && changed.length === 0 && this.#resumed) await this.#send([], true, signal);
  }

  async #send(part: readonly Series[], final: boolean, signal: AbortSignal): Promise<void> {
    const { clock, transport, service } = this.#options;
    const timeMs = clock.now();
    const values = part.map((series) => series.value);
    const points = part.map((series, index) => ({
      definition: series.definition,
      value: (values[index] ?? 0) - this.#sentOf(series).baseline,
      timeMs,
    }));
    const header = { uid: this.#uid, service, startedMs: this.#startedMs, resumed: this.#resumed, final };
    const refusals = await transport.send({ ...header, points }, signal);
    this.#resumed = true;
    const refused = new Map(refusals.map((refusal) => [refusal.index, refusal]));
    part.forEach((series, index) => {
      const refusal = refused.get(index);
      if (refusal) this.#refused(series, refusal);
      else this.#sentOf(series).acknowledged = values[index];
    });
  }

  #changed(): Series[] {
    const nowMs = this.#options.clock.monotonic();
    return [...this.#options.registry.series()].filter((series) => {
      const sent = this.#sent.get(series);
      return !sent || (sent.acknowledged !== series.value && sent.retryAtMs <= nowMs);
    });
  }

  #sentOf(series: Series): Sent {
    const known = this.#sent.get(series);
    if (known) return known;
    const sent: Sent = { baseline: 0, acknowledged: undefined, retryAtMs: -Infinity };
    this.#sent.set(series, sent);
    return sent;
  }

  #refused(series: Series, refusal: PointRefusal): void {
    this.#sentOf(series).retryAtMs = this.#options.clock.monotonic() + REFUSED_RETRY_MS;
    this.#warnOnce(refusal.message);
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message) || this.#warned.size >= WARNINGS_MAX) return;
    this.#warned.add(message);
    this.#options.warn(message);
  }

  /** Goes on as a new process: what is acknowledged stays where it was counted, the rest is counted under the new uid. */
  #rebase(): void {
    this.#uid = newId('p');
    this.#startedMs = this.#options.clock.now();
    this.#resumed = false;
    for (const [series, sent] of this.#sent) {
      if (series.definition.kind === 'counter') sent.baseline = sent.acknowledged ?? sent.baseline;
      sent.acknowledged = undefined;
    }
  }
}

/** Says in one line why the last values could not be handed over. */
export function describeLoss(error: unknown): string {
  return `the last counts of this process may be lost: ${messageOf(error)}`;
}

function isForgotten(error: unknown): boolean {
  return isCode(error, 'precondition') && error.reason === 'PROCESS_FORGOTTEN';
}

/** What the promise says, or the signal's reason if that comes first. */
async function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  const either = AbortSignal.any([signal, over.signal]);
  try {
    await Promise.race([
      promise,
      aborted(either).then(() => {
        signal.throwIfAborted();
      }),
    ]);
  } finally {
    over.abort();
  }
}
