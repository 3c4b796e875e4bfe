import { Run } from '../../../generated/muster/v1/queue.js';
import { FieldReader, malformed } from '../../rpc/framing.js';

/** Fields of SubscribeResponse and of Deliveries. */
const DELIVERIES = 2;
const MESSAGES = 1;
const FIRST_DELIVERY = 2;
const RUNS = 3;

/** Where a run begins in its frame. */
interface PlacedRun {
  readonly run: Run;
  readonly index: number;
}

/** Messages as they came in one frame. They are looked into only when they are asked for. */
export class ReceivedFrame {
  /** Delivery id of the first message; the others follow by one. */
  readonly firstDelivery: number;
  readonly count: number;
  readonly #bytes: Buffer;
  /** Start and end of each encoded message, one after another. */
  readonly #places: readonly number[];
  readonly #runs: readonly PlacedRun[];

  /** Use deliveriesOf(). @throws invalid */
  constructor(reader: FieldReader) {
    const places: number[] = [];
    const runs: PlacedRun[] = [];
    let counted = 0;
    let firstDelivery = 0;
    while (reader.next()) {
      if (reader.field === MESSAGES) {
        const end = reader.enter();
        places.push(reader.at, end);
        reader.at = end;
      } else if (reader.field === FIRST_DELIVERY) firstDelivery = reader.varint();
      else if (reader.field === RUNS) {
        const run = Run.decode(reader.value());
        runs.push({ run, index: counted });
        counted += run.count;
      } else reader.skip();
    }
    if (counted * 2 !== places.length || counted === 0) malformed('its runs do not count its messages');
    this.firstDelivery = firstDelivery;
    this.count = counted;
    this.#bytes = reader.bytes;
    this.#places = places;
    this.#runs = runs;
  }

  /** Its encoded bytes, about. */
  get bytes(): number {
    return this.#bytes.length;
  }

  /** The encoded message at `index`, not copied. */
  message(index: number): Buffer {
    return this.#bytes.subarray(this.#places[index * 2], this.#places[index * 2 + 1]);
  }

  /** Reads the fields of the encoded message at `index`. */
  fields(index: number): FieldReader {
    return new FieldReader(this.#bytes, this.#places[index * 2], this.#places[index * 2 + 1]);
  }

  /** The run the message at `index` belongs to, and its sequence. */
  place(index: number): { readonly run: Run; readonly sequence: number } {
    const placed = this.#runs.findLast((one) => one.index <= index);
    if (!placed) throw new RangeError(`there is no message ${index} in a frame of ${this.count}`);
    return { run: placed.run, sequence: placed.run.firstSequence + index - placed.index };
  }
}

/** The deliveries of an encoded SubscribeResponse; undefined when it says something else. @throws invalid */
export function deliveriesOf(bytes: Buffer): ReceivedFrame | undefined {
  const reader = new FieldReader(bytes);
  if (!reader.next() || reader.field !== DELIVERIES) return undefined;
  const end = reader.enter();
  return new ReceivedFrame(new FieldReader(bytes, reader.at, end));
}
