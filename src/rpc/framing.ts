/**
 * The protobuf wire format (protobuf.dev/programming-guides/encoding), for hot paths that look into messages without decoding them:
 * tags, lengths and numbers. Whole numbers are safe integers; a larger one is refused.
 */
import { isUtf8 } from 'node:buffer';
import { MusterError } from '../kit/errors.js';

export const VARINT = 0;
const FIXED64 = 1;
export const LENGTH = 2;
const FIXED32 = 5;

/** Seven bits a byte; 2^53 needs eight. Longer ones are negative or larger, and none of the queue's. */
const SAFE_VARINT_BYTES = 8;
const VARINT_BYTES_MAX = 10;
/** The tenth byte of a number of 64 bits holds the last of them. */
const LAST_VARINT_BYTE_MAX = 1;
const FIELD_MAX = 2 ** 29 - 1;

/** @throws invalid always: the bytes are not what the contract says */
export function malformed(what: string): never {
  throw new MusterError('invalid', `the frame is not a message of this contract: ${what}`, { reason: 'MALFORMED' });
}

/** Reads the fields of one encoded message, front to back, within bounds. */
export class FieldReader {
  readonly bytes: Buffer;
  /** Where the next byte is read. */
  at: number;
  /** Behind the last byte. */
  readonly end: number;
  /** Of the field read last. */
  field = 0;
  wireType = 0;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** Moves to the next field; false at the end. @throws invalid */
  next(): boolean {
    if (this.at >= this.end) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.field === 0 || this.field > FIELD_MAX) malformed(`field ${this.field}`);
    return true;
  }

  /** @throws invalid when it is cut off or not a safe integer */
  varint(): number {
    const { bytes, end } = this;
    const first = this.at < end ? (bytes[this.at] ?? 0) : malformed('it ends too early');
    if (first < 128) {
      this.at += 1;
      return first;
    }
    let value = 0;
    let scale = 1;
    for (let length = 1; length <= SAFE_VARINT_BYTES; length += 1) {
      if (this.at >= end) malformed('it ends too early');
      const byte = bytes[this.at] ?? 0;
      this.at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value <= Number.MAX_SAFE_INTEGER ? value : malformed('a number is too large');
      scale *= 128;
    }
    return malformed('a number is too large');
  }

  /** Enters a length-delimited field: answers with its end, `at` being its start. @throws invalid */
  enter(): number {
    if (this.wireType !== LENGTH) malformed(`field ${this.field} has wire type ${this.wireType}`);
    const length = this.varint();
    if (this.at + length > this.end) malformed('it ends too early');
    return this.at + length;
  }

  /** Passes over the value of the field. @throws invalid */
  skip(): void {
    switch (this.wireType) {
      case VARINT:
        this.#skipVarint();
        return;
      case LENGTH:
        this.at = this.enter();
        return;
      case FIXED64:
        this.#skipBytes(8);
        return;
      case FIXED32:
        this.#skipBytes(4);
        return;
      default:
        malformed(`wire type ${this.wireType}`);
    }
  }

  #skipVarint(): void {
    for (let length = 1; length <= VARINT_BYTES_MAX; length += 1) {
      if (this.at >= this.end) malformed('it ends too early');
      const byte = this.bytes[this.at] ?? 0;
      this.at += 1;
      if (length === VARINT_BYTES_MAX && byte > LAST_VARINT_BYTE_MAX) break;
      if (byte < 128) return;
    }
    malformed('a number is too long');
  }

  #skipBytes(count: number): void {
    this.at += count;
    if (this.at > this.end) malformed('it ends too early');
  }

  /** The bytes of a length-delimited field, not copied. @throws invalid */
  value(): Buffer {
    const end = this.enter();
    const value = this.bytes.subarray(this.at, end);
    this.at = end;
    return value;
  }

  /** @throws invalid when it is not UTF-8 */
  text(): string {
    const value = this.value();
    if (!isUtf8(value)) malformed(`field ${this.field} is not UTF-8`);
    return value.toString('utf8');
  }
}

/** Bytes that `value` takes as a varint. */
export function varintBytes(value: number): number {
  let length = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length += 1;
  return length;
}

/** Writes fields one after another into a buffer that was made large enough. */
export class FieldWriter {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  varint(value: number): void {
    let rest = value;
    while (rest >= 128) {
      this.bytes[this.at] = (rest % 128) + 128;
      this.at += 1;
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.at] = rest;
    this.at += 1;
  }

  /** A field that is a number; nothing for 0, as proto3 wants it. */
  number(field: number, value: number): void {
    if (value === 0) return;
    this.varint(field * 8 + VARINT);
    this.varint(value);
  }

  /** The front of a length-delimited field. */
  length(field: number, bytes: number): void {
    this.varint(field * 8 + LENGTH);
    this.varint(bytes);
  }

  copy(source: Buffer, from = 0, until = source.length): void {
    source.copy(this.bytes, this.at, from, until);
    this.at += until - from;
  }
}

/** Bytes of `number(field, value)`, for fields up to 15. */
export function numberFieldBytes(value: number): number {
  return value === 0 ? 0 : 1 + varintBytes(value);
}
