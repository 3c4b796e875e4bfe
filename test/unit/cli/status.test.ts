import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GetStatusResponse } from '../../../generated/muster/v1/center.js';
import { QueueServer } from '../../../generated/muster/v1/types.js';
import { shortfalls, silentQueues } from '../../../src/cli/status.js';

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

  it('names a queue that was not heard of for longer than it keeps silent', () => {
    const nowMs = Date.UTC(2026, 0, 1, 12);
    const seen = (name: string, agoMs: number): QueueServer =>
      QueueServer.fromPartial({ name, lastSeen: new Date(nowMs - agoMs) });
    assert.deepEqual(silentQueues([seen('near', 61_000), QueueServer.fromPartial({ name: 'new' })], nowMs), []);
    const [silent, ...others] = silentQueues([seen('gone', 200_000), seen('near', 0)], nowMs);
    assert.match(String(silent), /^queue gone was last heard of 3m/);
    assert.deepEqual(others, []);
  });
});
