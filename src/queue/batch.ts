import { MusterError } from '../kit/errors.js';
import { FieldReader, malformed } from '../rpc/framing.js';
import type { StoredBatch } from './log/port.js';
import { MessageSizes } from './subscription/sizes.js';
import type { Batch } from './subscription/types.js';

/** Field of Message. */
const KEY = 3;

/** A stored batch, opened as far as delivery needs it: where each message begins, and what its key is. Looks only when asked. */
export class BatchView implements Batch {
  readonly stored: StoredBatch;
  #starts: Uint32Array | undefined;
  #sizes: MessageSizes | undefined;
  #keys: readonly string[] | undefined;

  constructor(stored: StoredBatch) {
    this.stored = stored;
  }

  get firstSequence(): number {
    return this.stored.firstSequence;
  }

  get count(): number {
    return this.stored.count;
  }

  /** Sequence behind the last message. */
  get until(): number {
    return this.stored.firstSequence + this.stored.count;
  }

  get publishedMs(): number {
    return this.stored.publishedMs;
  }

  get sizes(): MessageSizes {
    this.#sizes ??= new MessageSizes(this.firstSequence, this.#offsets(), this.stored.messages.length);
    return this.#sizes;
  }

  /** The encoded messages `first` to `last`, both included, not copied. */
  slice(first: number, last: number): Buffer {
    const { messages } = this.stored;
    if (first === this.firstSequence && last === this.until - 1) return messages;
    return messages.subarray(this.#start(first), this.#end(last));
  }

  /** Key of a message; '' for none. */
  keyOf(sequence: number): string {
    this.#keys ??= this.#readKeys();
    return this.#keys[sequence - this.firstSequence] ?? '';
  }

  #start(sequence: number): number {
    return this.#offsets()[sequence - this.firstSequence] ?? this.stored.messages.length;
  }

  #end(sequence: number): number {
    return this.#start(sequence + 1);
  }

  #offsets(): Uint32Array {
    this.#starts ??= this.#findStarts();
    return this.#starts;
  }

  #findStarts(): Uint32Array {
    try {
      return startsOf(this.stored);
    } catch (error) {
      throw new MusterError('data_loss', `a stored batch does not hold the ${this.count} messages it should`, {
        reason: 'DATA_DAMAGED',
        metadata: { sequence: String(this.firstSequence) },
        cause: error,
      });
    }
  }

  #readKeys(): readonly string[] {
    const starts = this.#offsets();
    const keys: string[] = [];
    for (let index = 0; index < this.count; index += 1) {
      keys.push(keyOfMessage(this.stored.messages, starts[index] ?? 0));
    }
    return keys;
  }
}

/** Where each message begins. @throws invalid when the bytes are not `count` messages */
function startsOf({ count, messages }: StoredBatch): Uint32Array {
  const starts = new Uint32Array(count);
  const reader = new FieldReader(messages);
  for (let index = 0; index < count; index += 1) {
    starts[index] = reader.at;
    if (!reader.next()) malformed('it ends too early');
    reader.skip();
  }
  if (reader.at !== reader.end) malformed('it goes on behind its last message');
  return starts;
}

/** The key of the message whose encoded `messages` field begins at `start`; '' for none. */
function keyOfMessage(messages: Buffer, start: number): string {
  const outer = new FieldReader(messages, start);
  outer.next();
  const end = outer.enter();
  const reader = new FieldReader(messages, outer.at, end);
  let key = '';
  while (reader.next()) {
    if (reader.field === KEY) key = reader.text();
    else reader.skip();
  }
  return key;
}
