/** The messages of one key that wait for the one before them. */
interface Line {
  parked: number[];
  /** Places before it are left over. */
  first: number;
}

/** Left-over places at the front of a line before it is moved up. */
const SLACK = 1024;

/**
 * Ordering keys: of all unsettled messages of a key that were looked at, one holds the key and the others are parked behind it, in the
 * order in which they were looked at. The holder may be delivered; it holds its key until it is settled, through all its attempts.
 */
export class Keys {
  /** Undefined, both, for as long as no message had a key: plain subscriptions pay nothing. */
  #lines: Map<string, Line> | undefined;
  /** Key by the sequence that holds it. */
  #held: Map<number, string> | undefined;
  #parked = 0;

  /** Messages parked. */
  get parked(): number {
    return this.#parked;
  }

  /** Whether no key is held. */
  get isEmpty(): boolean {
    return this.#held === undefined || this.#held.size === 0;
  }

  /** Sequences that hold a key. */
  holders(): number[] {
    return this.#held ? [...this.#held.keys()] : [];
  }

  /** Whether another message holds the key, or is to hold it next. */
  isBusy(sequence: number, key: string): boolean {
    return key !== '' && this.#lines?.has(key) === true && this.#held?.has(sequence) !== true;
  }

  /** Gives a key that is not busy to the message. */
  hold(sequence: number, key: string): void {
    if (key === '' || this.#held?.has(sequence)) return;
    this.#lines ??= new Map();
    this.#held ??= new Map();
    this.#lines.set(key, { parked: [], first: 0 });
    this.#held.set(sequence, key);
  }

  /** Parks the message behind those of a busy key; release() hands it out when its turn comes. */
  park(sequence: number, key: string): void {
    const line = this.#lines?.get(key);
    if (!line) return;
    line.parked.push(sequence);
    this.#parked += 1;
  }

  /** Call when a message is settled. Gives the one that holds its key now; undefined when it held none or nobody waits. */
  release(sequence: number): number | undefined {
    const key = this.#held?.get(sequence);
    if (key === undefined || !this.#held || !this.#lines) return undefined;
    this.#held.delete(sequence);
    const line = this.#lines.get(key);
    const next = line?.parked[line.first];
    if (!line || next === undefined) {
      this.#lines.delete(key);
      return undefined;
    }
    line.first += 1;
    this.#parked -= 1;
    this.#held.set(next, key);
    if (line.first >= SLACK && line.first * 2 > line.parked.length) {
      line.parked = line.parked.slice(line.first);
      line.first = 0;
    }
    return next;
  }

  /** Takes out and returns the parked messages that `keep` refuses. */
  siftParked(keep: (sequence: number) => boolean): number[] {
    const refused: number[] = [];
    if (this.#parked === 0 || !this.#lines) return refused;
    for (const line of this.#lines.values()) {
      const kept: number[] = [];
      for (const sequence of line.parked.slice(line.first)) (keep(sequence) ? kept : refused).push(sequence);
      line.parked = kept;
      line.first = 0;
    }
    this.#parked -= refused.length;
    return refused;
  }

  /** Forgets everything. */
  clear(): void {
    this.#lines = undefined;
    this.#held = undefined;
    this.#parked = 0;
  }
}
