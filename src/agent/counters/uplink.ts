import { BATCH_POINTS_MAX, type Batch, type PointRefusal } from '../../counter/series.js';
import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { aborted } from '../../kit/tasks.js';
import type { CenterAccess } from '../ports.js';
import type { CounterSpool, Durable } from './spool.js';

/** One stream to the center. */
export interface UplinkStream {
  /** Resolves once the center has the batch on its disk. */
  send(batch: Batch): Promise<readonly PointRefusal[]>;
  close(): void;
}

export interface UplinkOptions {
  readonly spool: CounterSpool;
  readonly center: Pick<CenterAccess, 'connected' | 'onConnection'>;
  /** A new stream; undefined before the machine has joined. */
  readonly open: (signal: AbortSignal) => UplinkStream | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Changes go up at most this often. */
export const UPLINK_INTERVAL_MS = 1_000;
const BACKOFF = { initialMs: 500, maxMs: 10_000, multiplier: 2 };

/** Totals of a service's series as the center has acknowledged them. */
interface Acknowledged {
  readonly uid: string;
  readonly totals: (number | undefined)[];
  /** Places of series it does not take: not offered again on this stream. */
  readonly refused: Set<number>;
}

/**
 * Tells the center what is durable here. A new stream begins with everything, so that whatever either side forgot is mended; then
 * only changes are sent. Values are cumulative, so sending again is harmless.
 */
export class Uplink {
  readonly #options: UplinkOptions;
  readonly #backoff: Backoff;
  /** Totals the center is known to have, by service: those of the start, then those it has acknowledged since. */
  readonly #known: Map<string, (number | undefined)[]>;
  readonly #warned = new Set<string>();
  #acknowledged = new Map<string, Acknowledged>();
  #changed = true;
  #wake: (() => void) | undefined;

  constructor(options: UplinkOptions) {
    this.#options = options;
    this.#backoff = new Backoff(BACKOFF, options.random);
    this.#known = new Map(options.spool.durable().map(({ service, values }) => [service, [...values]]));
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { spool } = this.#options;
    const unsubscribe = spool.onDurable(() => {
      this.#changed = true;
      this.#wake?.();
    });
    try {
      while (!signal.aborted) {
        await this.#untilConnected(signal);
        await this.#session(signal);
        await sleep(this.#options.clock, this.#backoff.next(), signal).catch(() => undefined);
      }
    } finally {
      unsubscribe();
    }
  }

  async #untilConnected(signal: AbortSignal): Promise<void> {
    const { center } = this.#options;
    if (center.connected) return;
    const connected = new AbortController();
    const unsubscribe = center.onConnection((now) => {
      if (now) connected.abort();
    });
    await aborted(AbortSignal.any([signal, connected.signal]));
    unsubscribe();
  }

  /** One stream, until it fails. */
  async #session(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    let stream: UplinkStream | undefined;
    try {
      stream = signal.aborted ? undefined : this.#options.open(signal);
      if (!stream) return;
      this.#acknowledged = new Map();
      this.#changed = true;
      for (;;) {
        await this.#sendChanges(stream);
        this.#backoff.reset();
        await sleep(clock, UPLINK_INTERVAL_MS, signal);
        await this.#untilChanged(signal);
      }
    } catch (error) {
      if (!signal.aborted) logger.debug('the counters could not be handed to the center; trying again', { error });
    } finally {
      stream?.close();
    }
  }

  /** Resolves at the next change; at once where there was one. */
  async #untilChanged(signal: AbortSignal): Promise<void> {
    while (!this.#changed) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          signal.removeEventListener('abort', wake);
          this.#wake = undefined;
          resolve();
        };
        this.#wake = wake;
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }

  async #sendChanges(stream: UplinkStream): Promise<void> {
    this.#changed = false;
    for (const durable of this.#options.spool.durable()) {
      const places = this.#changedPlaces(durable);
      for (let from = 0; from < places.length; from += BATCH_POINTS_MAX) {
        await this.#send(stream, durable, places.slice(from, from + BATCH_POINTS_MAX));
      }
    }
  }

  async #send(stream: UplinkStream, durable: Durable, places: readonly number[]): Promise<void> {
    try {
      const refusals = await stream.send(toBatch(durable, places));
      const refused = new Map(refusals.map((refusal) => [places[refusal.index], refusal]));
      for (const place of places) this.#note(durable, place, refused.get(place));
      for (const refusal of refusals) this.#warn(durable, refusal);
      if (refusals.some(({ reason }) => reason === 'DECREASING')) await this.#rename(durable);
    } catch (error) {
      if (isCode(error, 'precondition') && error.reason === 'PROCESS_RETIRED') await this.#rename(durable);
      throw error;
    }
  }

  #note(durable: Durable, place: number, refusal: PointRefusal | undefined): void {
    const { totals, refused } = this.#acknowledgedOf(durable);
    if (refusal) {
      // A new name may help this one.
      if (refusal.reason !== 'DECREASING') refused.add(place);
      return;
    }
    const value = durable.values[place];
    totals[place] = value;
    const known = this.#known.get(durable.service) ?? [];
    known[place] = value;
    this.#known.set(durable.service, known);
  }

  async #rename(durable: Durable): Promise<void> {
    const { service, uid, values } = durable;
    const known = this.#known.get(service) ?? [];
    this.#options.logger.warn('the center has counted more than this machine remembers; going on from what it has', {
      service,
      uid,
    });
    await this.#options.spool.rename(
      service,
      values.map((_, place) => known[place] ?? 0),
    );
  }

  #changedPlaces(durable: Durable): number[] {
    const { totals, refused } = this.#acknowledgedOf(durable);
    const changed = (place: number): boolean => totals[place] !== durable.values[place] && !refused.has(place);
    return [...durable.definitions.keys()].filter(changed);
  }

  #acknowledgedOf({ service, uid }: Durable): Acknowledged {
    const known = this.#acknowledged.get(service);
    if (known?.uid === uid) return known;
    const fresh: Acknowledged = { uid, totals: [], refused: new Set() };
    this.#acknowledged.set(service, fresh);
    return fresh;
  }

  #warn({ service }: Durable, { reason, message }: PointRefusal): void {
    const key = `${service} ${reason}`;
    if (this.#warned.has(key)) return;
    this.#warned.add(key);
    this.#options.logger.warn('the center does not take a counter', { service, reason, message });
  }
}

function toBatch(durable: Durable, places: readonly number[]): Batch {
  const { service, uid, startedMs, definitions, baseline, values, times } = durable;
  const points = places.flatMap((place) => {
    const definition = definitions[place];
    if (!definition) return [];
    const from = definition.kind === 'counter' ? (baseline[place] ?? 0) : 0;
    return [{ definition, value: (values[place] ?? 0) - from, timeMs: times[place] ?? 0 }];
  });
  return { uid, service, startedMs, resumed: false, final: false, points };
}
