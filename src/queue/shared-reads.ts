import type { BatchView } from './batch.js';

/** Messages read from the disk kept for other subscriptions, over all topics, bytes. The oldest reads go first. */
export const SHARED_BYTES_MAX = 8 * 1024 * 1024;

/** Batches that were read together, in order and without gaps. */
type Piece = readonly BatchView[];

interface Kept {
  readonly topicId: number;
  readonly piece: Piece;
  readonly bytes: number;
}

/**
 * What was read from the disk last. Subscriptions of one topic that cannot keep up with its publishers are often at about the same place: what one
 * of them reads, the others find here.
 */
export class SharedReads {
  readonly #bytesMax: number;
  #kept: Kept[] = [];
  #bytes = 0;
  /** By topic and sequence. */
  readonly #running = new Map<string, Promise<Piece>>();

  constructor(bytesMax = SHARED_BYTES_MAX) {
    this.#bytesMax = bytesMax;
  }

  /** The piece that holds `sequence`: one that is kept or is just being read, or else what `load` reads, which is kept. @throws what load throws */
  read(topicId: number, sequence: number, load: () => Promise<Piece>): Promise<Piece> {
    const kept = this.#kept.find((one) => one.topicId === topicId && holds(one.piece, sequence));
    if (kept) return Promise.resolve(kept.piece);
    const name = `${topicId}/${sequence}`;
    const running = this.#running.get(name);
    if (running) return running;
    const reading = this.#load(topicId, load).finally(() => this.#running.delete(name));
    this.#running.set(name, reading);
    return reading;
  }

  /** Nobody asks for messages of the topic below any more. */
  dropBelow(topicId: number, sequence: number): void {
    if (this.#kept.length === 0) return;
    this.#keep(this.#kept.filter((one) => one.topicId !== topicId || untilOf(one.piece) > sequence));
  }

  async #load(topicId: number, load: () => Promise<Piece>): Promise<Piece> {
    const piece = await load();
    if (piece.length === 0) return piece;
    const bytes = piece.reduce((sum, { stored }) => sum + stored.messages.length, 0);
    this.#keep([...this.#kept, { topicId, piece, bytes }]);
    return piece;
  }

  #keep(kept: Kept[]): void {
    this.#kept = kept;
    this.#bytes = kept.reduce((sum, { bytes }) => sum + bytes, 0);
    while (this.#bytes > this.#bytesMax) this.#bytes -= this.#kept.shift()?.bytes ?? 0;
  }
}

function holds(piece: Piece, sequence: number): boolean {
  return (piece[0]?.firstSequence ?? Infinity) <= sequence && sequence < untilOf(piece);
}

function untilOf(piece: Piece): number {
  return piece.at(-1)?.until ?? 0;
}
