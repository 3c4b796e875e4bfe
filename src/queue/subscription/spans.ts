/** Where an item lies: the integers [from, until). */
export interface Extent<T> {
  readonly from: (item: T) => number;
  readonly until: (item: T) => number;
}

/** Items per piece, at most. */
const PIECE_MAX = 256;

/**
 * Items in order that do not overlap, in pieces, so that adding and taking out in the middle of many costs no more than a piece. What lies where
 * may be changed while an item is in the list, as long as the order stays the same.
 */
export class Spans<T> {
  readonly #extent: Extent<T>;
  readonly #pieceMax: number;
  /** None of them empty. */
  #pieces: T[][] = [];
  #size = 0;

  constructor(extent: Extent<T>, pieceMax = PIECE_MAX) {
    this.#extent = extent;
    this.#pieceMax = pieceMax;
  }

  get size(): number {
    return this.#size;
  }

  get first(): T | undefined {
    return this.#pieces[0]?.[0];
  }

  get last(): T | undefined {
    const piece = this.#pieces[this.#pieces.length - 1];
    return piece?.[piece.length - 1];
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (const piece of this.#pieces) yield* piece;
  }

  add(item: T): void {
    const { last } = this;
    const at = this.#extent.from(item);
    const isLast = last === undefined || this.#extent.until(last) <= at;
    const index = isLast ? this.#pieces.length - 1 : this.#pieceBehind(at);
    const piece = this.#pieces[index];
    this.#size += 1;
    if (!piece) {
      this.#pieces.push([item]);
      return;
    }
    if (isLast) piece.push(item);
    else piece.splice(this.#indexBehind(piece, at), 0, item);
    if (piece.length > this.#pieceMax) this.#halve(index);
  }

  remove(item: T): void {
    const at = this.#extent.from(item);
    const index = this.#pieceBehind(at);
    const piece = this.#pieces[index];
    if (!piece) return;
    const place = this.#indexBehind(piece, at);
    if (piece[place] !== item) return;
    this.#size -= 1;
    if (place === 0) piece.shift();
    else piece.splice(place, 1);
    if (piece.length === 0) this.#pieces.splice(index, 1);
  }

  /** The first item that ends behind `value`: it holds `value`, or is the next one. */
  firstBehind(value: number): T | undefined {
    const piece = this.#pieces[this.#pieceBehind(value)];
    return piece?.[this.#indexBehind(piece, value)];
  }

  /** Those that have integers of [from, until), in order. */
  overlapping(from: number, until: number): T[] {
    const found: T[] = [];
    let index = this.#pieceBehind(from);
    let piece = this.#pieces[index];
    let place = piece ? this.#indexBehind(piece, from) : 0;
    while (piece) {
      const item = piece[place];
      if (item === undefined) {
        index += 1;
        piece = this.#pieces[index];
        place = 0;
        continue;
      }
      if (this.#extent.from(item) >= until) break;
      found.push(item);
      place += 1;
    }
    return found;
  }

  clear(): void {
    this.#pieces = [];
    this.#size = 0;
  }

  #halve(index: number): void {
    const piece = this.#pieces[index];
    if (!piece) return;
    // What comes in at the end goes on there: the piece before it stays full.
    const isLast = index === this.#pieces.length - 1;
    const behind = piece.splice(isLast ? piece.length - 1 : piece.length >> 1);
    this.#pieces.splice(index + 1, 0, behind);
  }

  /** Index of the first piece that ends behind `value`. */
  #pieceBehind(value: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const piece = this.#pieces[middle];
      const last = piece?.[piece.length - 1];
      if (last === undefined || this.#extent.until(last) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Index of the first item of the piece that ends behind `value`. */
  #indexBehind(piece: readonly T[], value: number): number {
    let low = 0;
    let high = piece.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const item = piece[middle];
      if (item === undefined || this.#extent.until(item) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
