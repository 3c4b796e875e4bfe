import assert from 'node:assert/strict';
import { it } from 'node:test';
import { crc32c, maskedCrc32c } from '../../../src/store/leveldb-crc32c.js';

it('gives the values of RFC 3720, appendix B.4', () => {
  assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
  assert.equal(crc32c(Buffer.from(Array.from({ length: 32 }, (_, n) => n))), 0x46dd794e);
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  assert.equal(crc32c(Buffer.alloc(0)), 0);
});

it('masks as LevelDB does', () => {
  const crc = crc32c(Buffer.from('foo'));
  assert.notEqual(maskedCrc32c(Buffer.from('foo')), crc);
  assert.equal(maskedCrc32c(Buffer.alloc(0)), 0xa282ead8);
});

it('does not depend on where the bytes lie in memory', () => {
  const text = Buffer.from(Array.from({ length: 64 }, (_, n) => (n * 37) & 255));
  for (let length = 0; length <= text.length; length += 1) {
    const wanted = crc32c(Buffer.from(text.subarray(0, length)));
    for (let offset = 0; offset < 8; offset += 1) {
      const moved = Buffer.from(new ArrayBuffer(80), offset, length);
      text.copy(moved, 0, 0, length);
      assert.equal(crc32c(moved), wanted, `${length} bytes at offset ${offset}`);
    }
  }
});

it('is the same byte by byte', () => {
  const bytes = Buffer.from(Array.from({ length: 100 }, (_, n) => (n * 91) & 255));
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  assert.equal(crc32c(bytes), ~crc >>> 0);
});
