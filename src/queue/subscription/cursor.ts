import type { CursorRecord } from '../log/port.js';
import { RangeSet } from './ranges.js';

/** What is settled: all below the floor, and ranges above it. The floor itself is never settled. */
export class Cursor {
  #floor: number;
  #dropped: number;
  readonly #settled: RangeSet;

  constructor(record: CursorRecord) {
    this.#floor = record.floor;
    this.#dropped = record.dropped;
    this.#settled = new RangeSet(record.settled);
    this.#rise();
  }

  get floor(): number {
    return this.#floor;
  }

  get dropped(): number {
    return this.#dropped;
  }

  /** Behind everything that is settled. */
  get end(): number {
    return this.#settled.end ?? this.#floor;
  }

  isSettled(sequence: number): boolean {
    return sequence < this.#floor || this.#settled.has(sequence);
  }

  /** The first unsettled sequence at or behind `sequence`, which is not below the floor. */
  unsettledFrom(sequence: number): number {
    return this.#settled.endOf(sequence) ?? sequence;
  }

  /** How many of [from, until) are not settled. */
  unsettledIn(from: number, until: number): number {
    const low = Math.max(from, this.#floor);
    return until <= low ? 0 : until - low - this.#settled.countIn(low, until);
  }

  /** Settles [from, until), all at or above the floor. */
  settle(from: number, until: number): void {
    if (from > this.#floor) {
      this.#settled.add(from, until);
      return;
    }
    this.#floor = until;
    if (this.#settled.ranges > 0) this.#rise();
  }

  /** Settles all below `head`; what was not settled counts as dropped. */
  dropBelow(head: number): void {
    this.#dropped += this.unsettledIn(this.#floor, head);
    this.#settled.remove(this.#floor, head);
    this.#floor = Math.max(this.#floor, head);
    this.#rise();
  }

  /** Settles all below `sequence` and nothing else. */
  moveTo(sequence: number): void {
    this.#settled.clear();
    this.#floor = sequence;
  }

  record(): CursorRecord {
    return { floor: this.#floor, settled: this.#settled.list(), dropped: this.#dropped };
  }

  #rise(): void {
    const end = this.#settled.endOf(this.#floor);
    if (end === undefined) return;
    this.#settled.remove(this.#floor, end);
    this.#floor = end;
  }
}

/** `record` as it is where `sequences`, which it may say are settled, are not. */
export function withUnsettled(record: CursorRecord, sequences: readonly number[]): CursorRecord {
  if (sequences.length === 0) return record;
  const rising = [...sequences].sort((a, b) => a - b);
  const floor = Math.min(record.floor, rising[0] ?? record.floor);
  const settled = new RangeSet(record.settled);
  if (floor < record.floor) settled.add(floor, record.floor);
  for (const sequence of rising) settled.remove(sequence, sequence + 1);
  return { ...record, floor, settled: settled.list() };
}
