import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { MusterError } from '../../../src/kit/errors.js';
import { FieldReader, FieldWriter, LENGTH, numberFieldBytes, VARINT, varintBytes } from '../../../src/rpc/framing.js';

const FIELD_MAX = 2 ** 29 - 1;

type Field =
  | { readonly kind: 'number'; readonly field: number; readonly value: number }
  | { readonly kind: 'text'; readonly field: number; readonly value: string }
  | { readonly kind: 'bytes'; readonly field: number; readonly value: Uint8Array }
  | { readonly kind: 'fixed32'; readonly field: number; readonly value: number }
  | { readonly kind: 'fixed64'; readonly field: number; readonly value: bigint }
  | { readonly kind: 'negative'; readonly field: number; readonly value: bigint };

const fieldNumber = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: FIELD_MAX }));
const safe = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.maxSafeNat());
const anyField: fc.Arbitrary<Field> = fc.oneof(
  fc.record({ kind: fc.constant('number' as const), field: fieldNumber, value: safe }),
  fc.record({ kind: fc.constant('text' as const), field: fieldNumber, value: fc.string({ unit: 'grapheme' }) }),
  fc.record({ kind: fc.constant('bytes' as const), field: fieldNumber, value: fc.uint8Array({ maxLength: 200 }) }),
  fc.record({ kind: fc.constant('fixed32' as const), field: fieldNumber, value: fc.nat() }),
  fc.record({
    kind: fc.constant('fixed64' as const),
    field: fieldNumber,
    value: fc.bigInt({ min: 0n, max: 2n ** 63n }),
  }),
  fc.record({
    kind: fc.constant('negative' as const),
    field: fieldNumber,
    value: fc.bigInt({ min: -(2n ** 63n), max: -1n }),
  }),
);

/** Encoded by the library that everybody else uses. */
function encode(fields: readonly Field[]): Buffer {
  const writer = new BinaryWriter();
  for (const one of fields) {
    switch (one.kind) {
      case 'number':
        writer.tag(one.field, WireType.Varint).uint64(one.value);
        break;
      case 'text':
        writer.tag(one.field, WireType.LengthDelimited).string(one.value);
        break;
      case 'bytes':
        writer.tag(one.field, WireType.LengthDelimited).bytes(one.value);
        break;
      case 'fixed32':
        writer.tag(one.field, WireType.Bit32).fixed32(one.value);
        break;
      case 'fixed64':
        writer.tag(one.field, WireType.Bit64).fixed64(one.value);
        break;
      case 'negative':
        writer.tag(one.field, WireType.Varint).int64(one.value);
    }
  }
  return Buffer.from(writer.finish());
}

/** Reads what the field holds, or passes over it. */
function readValue(reader: FieldReader, kind: Field['kind']): unknown {
  switch (kind) {
    case 'number':
      return reader.varint();
    case 'text':
      return reader.text();
    case 'bytes':
      return new Uint8Array(reader.value());
    case 'fixed32':
    case 'fixed64':
    case 'negative':
      reader.skip();
      return undefined;
  }
}

/** Passes over every field; answers with the failure. */
function skipAll(bytes: Buffer): unknown {
  const reader = new FieldReader(bytes);
  try {
    while (reader.next()) reader.skip();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Reads every field somehow; answers with the failure. */
function walk(bytes: Buffer, start = 0, end = bytes.length): unknown {
  const reader = new FieldReader(bytes, start, end);
  try {
    while (reader.next()) {
      if (reader.wireType === VARINT && reader.field % 2 === 0) reader.varint();
      else if (reader.wireType === LENGTH && reader.field % 3 === 0) reader.text();
      else reader.skip();
      assert.ok(reader.at <= end, 'read outside its bounds');
    }
  } catch (error) {
    return error;
  }
  return undefined;
}

function assertInvalid(error: unknown): asserts error is MusterError {
  assert.ok(error instanceof MusterError, `not a failure on purpose: ${String(error)}`);
  assert.equal(error.code, 'invalid');
  assert.equal(error.reason, 'MALFORMED');
}

function varint(...bytes: readonly number[]): FieldReader {
  return new FieldReader(Buffer.from(bytes));
}

describe('reading fields', () => {
  it('reads what the library of everybody else wrote', () => {
    fc.assert(
      fc.property(fc.array(anyField), (fields) => {
        const reader = new FieldReader(encode(fields));
        for (const one of fields) {
          assert.ok(reader.next());
          assert.equal(reader.field, one.field);
          const value = readValue(reader, one.kind);
          if (value !== undefined) assert.deepEqual(value, one.value);
        }
        assert.equal(reader.next(), false);
        assert.equal(reader.at, reader.end);
      }),
    );
  });

  it('refuses what is cut off anywhere but between two fields', () => {
    fc.assert(
      fc.property(fc.array(anyField, { minLength: 1 }), fc.nat(), (fields, at) => {
        const bytes = encode(fields);
        const cut = at % bytes.length;
        const whole = new Set(fields.map((_, index) => encode(fields.slice(0, index)).length));
        const failure = skipAll(bytes.subarray(0, cut));
        if (whole.has(cut)) assert.equal(failure, undefined);
        else assertInvalid(failure);
      }),
    );
  });

  it('says invalid of any other bytes, and never reads outside its bounds', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(64), fc.nat(64), (noise, a, b) => {
        const bytes = Buffer.from(noise);
        const [start, end] = [Math.min(a, b, bytes.length), Math.min(Math.max(a, b), bytes.length)];
        const failure = walk(bytes, start, end);
        if (failure !== undefined) assertInvalid(failure);
      }),
      { numRuns: 2000 },
    );
  });

  it('does not enter what ends behind its bounds, though the bytes go on', () => {
    const bytes = encode([{ kind: 'bytes', field: 1, value: new Uint8Array(10) }]);
    assertInvalid(walk(bytes, 0, bytes.length - 1));
    assert.equal(walk(bytes), undefined);
  });

  it('reads numbers up to 2^53 - 1 and none above', () => {
    const largest = new BinaryWriter().uint64(Number.MAX_SAFE_INTEGER).finish();
    assert.equal(new FieldReader(Buffer.from(largest)).varint(), Number.MAX_SAFE_INTEGER);
    for (const value of [2n ** 53n, 2n ** 56n, 2n ** 63n]) {
      const bytes = Buffer.from(new BinaryWriter().uint64(value).finish());
      assert.throws(() => new FieldReader(bytes).varint(), { code: 'invalid', message: /too large/ });
    }
  });

  it('refuses negative numbers, ten bytes long, and passes over them where nobody asks', () => {
    const bytes = encode([{ kind: 'negative', field: 9, value: -1n }]);
    assert.equal(bytes.length, 11);
    const asked = new FieldReader(bytes);
    asked.next();
    assert.throws(() => asked.varint(), { code: 'invalid', message: /too large/ });
    const passed = new FieldReader(bytes);
    passed.next();
    passed.skip();
    assert.equal(passed.next(), false);
  });

  it('refuses numbers that have no end, or more than 64 bits', () => {
    const endless = varint(8, ...new Array<number>(11).fill(0x80), 0);
    endless.next();
    assert.throws(() => {
      endless.skip();
    }, /too long/);
    const wide = varint(8, ...new Array<number>(9).fill(0x80), 2);
    wide.next();
    assert.throws(() => {
      wide.skip();
    }, /too long/);
  });

  it('refuses field 0 and fields that no message can have', () => {
    assert.throws(() => varint(0, 0).next(), /field 0/);
    const last = new FieldWriter(Buffer.alloc(5));
    last.varint(FIELD_MAX * 8 + VARINT);
    assert.ok(new FieldReader(last.bytes).next());
    const beyond = new FieldWriter(Buffer.alloc(5));
    beyond.varint((FIELD_MAX + 1) * 8 + VARINT);
    assert.throws(() => new FieldReader(beyond.bytes).next(), { code: 'invalid', message: /field 536870912/ });
  });

  it('refuses groups and the wire types that do not exist', () => {
    for (const wireType of [3, 4, 6, 7]) {
      const reader = varint(8 + wireType, 0);
      assert.ok(reader.next());
      assert.throws(
        () => {
          reader.skip();
        },
        { code: 'invalid', message: new RegExp(`wire type ${wireType}`) },
      );
    }
  });

  it('refuses to enter what is not length-delimited, and text that is not UTF-8', () => {
    const number = varint(8, 1);
    number.next();
    assert.throws(() => number.enter(), /field 1 has wire type 0/);
    const text = varint(10, 2, 0xc3, 0x28);
    text.next();
    assert.throws(() => text.text(), { code: 'invalid', message: /field 1 is not UTF-8/ });
  });

  it('gives bytes without copying them', () => {
    const bytes = encode([{ kind: 'bytes', field: 1, value: new Uint8Array([1, 2, 3]) }]);
    const reader = new FieldReader(bytes);
    reader.next();
    const value = reader.value();
    bytes[2] = 9;
    assert.deepEqual([...value], [9, 2, 3]);
  });
});

describe('writing fields', () => {
  it('writes what the library of everybody else reads, as long as was said', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 15 }), safe, fc.uint8Array({ maxLength: 300 }), (field, value, noise) => {
        const payload = Buffer.from(noise);
        const size = numberFieldBytes(value) + 1 + varintBytes(payload.length) + payload.length;
        const writer = new FieldWriter(Buffer.alloc(size));
        writer.number(field, value);
        writer.length(field, payload.length);
        writer.copy(payload);
        assert.equal(writer.at, size);
        const reader = new BinaryReader(writer.bytes);
        if (value !== 0) {
          assert.deepEqual(reader.tag(), [field, WireType.Varint]);
          assert.equal(BigInt(reader.uint64()), BigInt(value));
        }
        assert.deepEqual(reader.tag(), [field, WireType.LengthDelimited]);
        assert.deepEqual(Buffer.from(reader.bytes()), payload);
        assert.equal(reader.pos, reader.len);
      }),
    );
  });

  it('takes as many bytes for a number as the library does', () => {
    fc.assert(
      fc.property(safe, (value) => {
        assert.equal(varintBytes(value), new BinaryWriter().uint64(value).finish().length);
      }),
    );
    for (let bits = 1; bits <= 53; bits += 1) {
      for (const value of [2 ** bits - 1, Math.min(2 ** bits, Number.MAX_SAFE_INTEGER)]) {
        assert.equal(varintBytes(value), new BinaryWriter().uint64(value).finish().length);
      }
    }
  });

  it('writes nothing for 0, and copies a part', () => {
    const writer = new FieldWriter(Buffer.alloc(2));
    writer.number(3, 0);
    assert.equal(writer.at, 0);
    assert.equal(numberFieldBytes(0), 0);
    writer.copy(Buffer.from('abcd'), 1, 3);
    assert.equal(writer.bytes.toString(), 'bc');
  });
});
