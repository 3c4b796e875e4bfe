import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CenterService, UploadOutputRequest } from '../../../generated/muster/v1/center.js';
import { boundedRequests } from '../../../src/rpc/raw.js';

describe('a bounded request', () => {
  const bounded = boundedRequests(CenterService.uploadOutput, { bytesMax: 4096, fieldsMax: 8 });
  const encode = (hits: number, text: string): Buffer =>
    Buffer.from(
      UploadOutputRequest.encode(
        UploadOutputRequest.fromPartial({ command: 'c-1', hits: Array.from({ length: hits }, () => ({ text })) }),
      ).finish(),
    );

  it('is decoded as always within its bounds', () => {
    const bytes = encode(7, 'x'.repeat(300));
    assert.deepEqual(bounded.requestDeserialize(bytes), CenterService.uploadOutput.requestDeserialize(bytes));
    assert.equal(bounded.requestDeserialize(Buffer.alloc(0)).command, '');
  });

  it('is refused before it is decoded when it is too large, or has too many fields', () => {
    assert.throws(() => bounded.requestDeserialize(encode(7, 'x'.repeat(600))), /at most 4096 bytes/);
    assert.throws(() => bounded.requestDeserialize(encode(8, '')), /at most 8 fields/);
  });

  it('is left to the decoder where its fields cannot be told apart', () => {
    const outcome = (method: typeof bounded, bytes: Buffer): unknown => {
      try {
        return method.requestDeserialize(bytes);
      } catch (error) {
        return String(error);
      }
    };
    for (const bytes of [[0x0a, 0xff, 0xff], [0x0c], [0x0a, 0x05, 0x61], [0x80]].map((some) => Buffer.from(some))) {
      assert.deepEqual(outcome(bounded, bytes), outcome(CenterService.uploadOutput, bytes));
    }
  });
});
