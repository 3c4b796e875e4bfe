import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GetStatusResponse } from '../../../generated/muster/v1/center.js';
import { shortfalls } from '../../../src/cli/status.js';

describe('the verdict of "muster status"', () => {
  it('is that all is well where nothing falls short', () => {
    const fields = { machines: 2, machinesOnline: 2, instancesWanted: 3, instancesRunning: 3 };
    assert.deepEqual(shortfalls(GetStatusResponse.fromPartial(fields)), []);
  });

  it('says that a center whose disk is full can store nothing', () => {
    const storageProblem = 'the disk of /data has 0 B free: free some space';
    assert.deepEqual(shortfalls(GetStatusResponse.fromPartial({ storageProblem })), [
      `the center can store nothing: ${storageProblem}`,
    ]);
  });
});
