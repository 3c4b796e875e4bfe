import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FetchArtifactResponse, FetchBackupResponse } from '../../../generated/muster/v1/center.js';
import { decodePiece, encodePiece } from '../../../src/rpc/pieces.js';
import { failureOf } from '../../support/rpc.js';

const pieces = fc.record(
  {
    sizeBytes: fc.oneof(fc.constant(0), fc.maxSafeNat()),
    data: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  },
  { noNullPrototype: true },
);

describe('pieces of files', () => {
  it('are the bytes that the generated code writes, for both messages', () => {
    fc.assert(
      fc.property(pieces, (piece) => {
        const encoded = encodePiece(piece);
        assert.deepEqual(encoded, Buffer.from(FetchArtifactResponse.encode(piece).finish()));
        assert.deepEqual(encoded, Buffer.from(FetchBackupResponse.encode(piece).finish()));
        assert.deepEqual(decodePiece(encoded), piece);
      }),
    );
  });

  it('are read whatever else a later version says in them', () => {
    const later = Buffer.concat([
      Buffer.from([0x18, 7, 0x22, 1, 65]),
      encodePiece({ sizeBytes: 9, data: Buffer.from('x') }),
    ]);
    assert.deepEqual(decodePiece(later), { sizeBytes: 9, data: Buffer.from('x') });
  });

  it('are refused when they are cut off', async () => {
    const bytes = encodePiece({ sizeBytes: 300, data: Buffer.from('content') });
    for (const length of [1, 2, 4, 5, bytes.length - 1]) {
      const failure = await failureOf(Promise.resolve(bytes.subarray(0, length)).then(decodePiece));
      assert.equal(failure.code, 'invalid', `${length} bytes`);
    }
  });
});
