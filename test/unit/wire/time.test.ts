import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Timestamp } from '../../../generated/google/protobuf/timestamp.js';
import { fromDate, fromDuration, toDate, toDuration } from '../../../src/wire/time.js';

describe('times of peers', () => {
  it('come and go unchanged', () => {
    fc.assert(
      fc.property(fc.integer({ min: -8.64e12, max: 8.64e12 }), (ms) => {
        assert.equal(fromDate(toDate(ms)), ms);
        assert.equal(fromDuration(toDuration(ms)), ms);
      }),
    );
    assert.equal(fromDate(undefined), undefined);
    assert.equal(fromDuration(undefined), undefined);
  });

  it('that no clock can show are taken as left out', () => {
    const { seconds } = Timestamp.decode(Timestamp.encode({ seconds: 9e15, nanos: 0 }).finish());
    assert.equal(fromDate(new Date(seconds * 1000)), undefined);
    assert.equal(fromDate(new Date(Number.NaN)), undefined);
    assert.equal(fromDuration({ seconds: 9e15, nanos: 0 }), undefined);
    assert.equal(fromDuration({ seconds: -9e15, nanos: 0 }), undefined);
  });
});
