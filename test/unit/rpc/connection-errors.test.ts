import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { explainConnectionLost } from '../../../src/rpc/connection-errors.js';

describe('a connection that ends while an answer is under way', () => {
  const target = { peer: 'the center', address: 'center.example:7400' } as const;

  it('is told as that, and what the server says itself is left alone', () => {
    for (const details of ['read ECONNRESET', 'Connection dropped']) {
      const error = explainConnectionLost(details, target);
      assert.match(error?.message ?? '', /^the connection to .*center\.example:7400 was lost: try again$/);
    }
    assert.equal(explainConnectionLost('the center is being stopped', target), undefined);
  });
});
