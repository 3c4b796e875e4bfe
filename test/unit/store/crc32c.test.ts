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
