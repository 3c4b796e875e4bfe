import {
  CounterService,
  type CounterDefinition,
  type CounterKind as WireKind,
  type CounterPoint,
  type CounterRefusal,
  type ReportRequest,
  type ReportResponse,
} from '../../generated/muster/v1/counter.js';
import { MusterError } from '../kit/errors.js';
import { createClient, type Channel } from '../rpc/client.js';
import type { ClientDuplex } from '../rpc/types.js';
import { fromDate, toDate } from '../wire/time.js';
import type { Transport } from './reporter.js';
import {
  seriesKey,
  type Batch,
  type CounterKind,
  type Point,
  type PointRefusal,
  type Refusal,
  type RefusalReason,
  type SeriesDefinition,
} from './series.js';

/** Batches between the contract and the domain, for both ends of both hops. */

const KINDS = { counter: 'COUNTER_KIND_COUNTER', gauge: 'COUNTER_KIND_GAUGE' } as const;

export function toWireKind(kind: CounterKind): WireKind {
  return KINDS[kind];
}

function fromWireKind(wire: WireKind): CounterKind {
  return wire === KINDS.gauge ? 'gauge' : 'counter';
}

/** A refused point, before it is known which series it was. */
export interface Received {
  readonly batch: Batch;
  /** Number of each point of the batch on the stream. */
  readonly refs: readonly number[];
  readonly sequence: number;
  /** Points that name no definition. */
  readonly undefinedRefs: readonly number[];
}

/** Definitions one stream may name. */
const DEFINITIONS_PER_STREAM_MAX = 100_000;

/** The receiving end of a stream: remembers its definitions. */
export class BatchReader {
  readonly #definitions = new Map<number, SeriesDefinition>();

  /** @throws invalid when the frame names no process; exhausted beyond DEFINITIONS_PER_STREAM_MAX */
  read(frame: ReportRequest): Received {
    const { process } = frame;
    if (!process || process.uid === '') {
      throw new MusterError('invalid', 'a report must name the process that counts: set process.uid');
    }
    for (const definition of frame.definitions) this.#define(definition);
    const points: Point[] = [];
    const refs: number[] = [];
    const undefinedRefs: number[] = [];
    for (const point of frame.points) {
      const definition = this.#definitions.get(point.ref);
      if (!definition) undefinedRefs.push(point.ref);
      else {
        refs.push(point.ref);
        points.push({ definition, value: point.value, timeMs: fromDate(point.time) ?? 0 });
      }
    }
    const { uid, service, resumed } = process;
    const startedMs = fromDate(process.started) ?? 0;
    const batch = { uid, service, startedMs, resumed, final: frame.final, points };
    return { batch, refs, undefinedRefs, sequence: frame.sequence };
  }

  #define({ ref, name, kind, help, unit, labels }: CounterDefinition): void {
    if (this.#definitions.size >= DEFINITIONS_PER_STREAM_MAX) {
      throw new MusterError(
        'exhausted',
        `more than ${DEFINITIONS_PER_STREAM_MAX} series on one stream: open a new one`,
      );
    }
    this.#definitions.set(ref, { name, kind: fromWireKind(kind), help, unit, labels });
  }
}

/** The answer to a batch of which `refusals` were not taken. */
export function toAcknowledgement(received: Received, refusals: readonly PointRefusal[]): ReportResponse {
  const missing = received.undefinedRefs.map((ref) => ({
    ref,
    reason: 'UNDEFINED',
    message: `point ${ref} names no definition of this stream: send the definition first`,
  }));
  const refused = refusals.map(({ index, reason, message }) => ({ ref: received.refs[index] ?? 0, reason, message }));
  return { acknowledged: received.sequence, refused: [...refused, ...missing] };
}

const REASONS: readonly RefusalReason[] = [
  'INVALID_NAME',
  'INVALID_LABELS',
  'INVALID_VALUE',
  'DECREASING',
  'KIND_MISMATCH',
  'UNDEFINED',
  'TOO_MANY_SERIES',
];

function fromWireRefusal({ reason, message }: CounterRefusal): Refusal {
  return { reason: REASONS.find((known) => known === reason) ?? 'INVALID_VALUE', message };
}

/** The sending end: one stream, one batch at a time. */
export class ReportStream {
  readonly #call: ClientDuplex<ReportRequest, ReportResponse>;
  readonly #answers: AsyncIterator<ReportResponse>;
  readonly #refs = new Map<string, number>();
  #sequence = 0;

  constructor(channel: Channel, signal: AbortSignal) {
    this.#call = createClient(CounterService, channel).report({ signal });
    this.#answers = this.#call[Symbol.asyncIterator]();
  }

  /** Resolves once the batch is acknowledged. @throws the call's failure */
  async send(batch: Batch): Promise<PointRefusal[]> {
    this.#sequence += 1;
    const definitions: CounterDefinition[] = [];
    const points = batch.points.map((point) => this.#toWire(point, batch.uid, definitions));
    const { uid, service, startedMs, resumed, final } = batch;
    const process = { uid, service, started: toDate(startedMs), resumed };
    await this.#call.send({ sequence: this.#sequence, process, definitions, points, final });
    const places = new Map(points.map(({ ref }, index) => [ref, index]));
    return (await this.#acknowledged()).flatMap((refusal) => {
      const index = places.get(refusal.ref);
      return index === undefined ? [] : [{ index, ...fromWireRefusal(refusal) }];
    });
  }

  /** Says that nothing more comes; resolves when the receiver has ended the call too. @throws the call's failure */
  async finish(): Promise<void> {
    this.#call.end();
    while ((await this.#answers.next()).done !== true);
  }

  /** Ends the call at once; nothing happens to one that has ended. */
  close(): void {
    this.#call.cancel();
  }

  async #acknowledged(): Promise<CounterRefusal[]> {
    for (;;) {
      const answer = await this.#answers.next();
      if (answer.done === true) throw new MusterError('unavailable', 'the receiver of the counters ended the stream');
      if (answer.value.acknowledged >= this.#sequence) return answer.value.refused;
    }
  }

  #toWire({ definition, value, timeMs }: Point, uid: string, definitions: CounterDefinition[]): CounterPoint {
    const key = `${uid} ${seriesKey(definition)}`;
    let ref = this.#refs.get(key);
    if (ref === undefined) {
      ref = this.#refs.size + 1;
      this.#refs.set(key, ref);
      const { name, kind, help, unit, labels } = definition;
      definitions.push({ ref, name, kind: toWireKind(kind), help, unit, labels: { ...labels } });
    }
    return { ref, value, time: toDate(timeMs) };
  }
}

/**
 * One short call per batch: an open stream would keep the process alive, and a service that changes its counters once a second
 * loses nothing by it.
 */
export function channelTransport(channel: Channel): Transport {
  return {
    async send(batch, signal) {
      const stream = new ReportStream(channel, signal);
      try {
        const refusals = await stream.send(batch);
        await stream.finish();
        return refusals;
      } finally {
        stream.close();
      }
    },
  };
}
