import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  AHEAD_MAX_MS,
  DueTimes,
  judgeable,
  LATE_GRACE_MS,
  RETURN_MS,
  type ServiceBackups,
} from '../../../../src/center/backups/lateness.js';
import type { Backup } from '../../../../src/model/backup.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MIDNIGHT_MS = Date.UTC(2026, 10, 23);
const LATE_MS = MIDNIGHT_MS + 3 * HOUR_MS + LATE_GRACE_MS;

function backup(id: string, startedMs: number, status: Backup['status'] = 'OK'): Backup {
  return {
    id,
    service: 'orders',
    version: '1.0.0',
    trigger: 'SCHEDULE',
    status,
    startedMs,
    tookMs: 1000,
    bytes: 100,
    contentBytes: 1000,
    files: 3,
    digest: 'a'.repeat(64),
    problems: [],
    verifiedMs: undefined,
    verifyProblem: '',
    copies: [],
    copyProblem: '',
    command: '',
  };
}

function judged(nowMs: number, ...backups: readonly Backup[]): ServiceBackups {
  const plan = { service: 'orders', schedule: '0 3 * * *', timeZone: 'UTC', nextDueMs: undefined };
  const now = { nowMs, runMs: RETURN_MS, heard: true, due: new DueTimes() };
  return judgeable({ machine: 'm1', plan, sinceMs: MIDNIGHT_MS }, backups, now);
}

describe('a backup with a time in the future, of a machine whose clock was wrong', () => {
  it('says nothing of whether one is late', () => {
    const years = LATE_MS + 3000 * DAY_MS;
    assert.equal(judged(LATE_MS, backup('a', years)).late?.dueMs, LATE_MS - LATE_GRACE_MS);
    const making = judged(LATE_MS, backup('a', years, 'RUNNING'));
    assert.deepEqual([making.unsure, making.late?.dueMs], [false, LATE_MS - LATE_GRACE_MS]);
  });

  it('counts where it is only a little ahead, and where its time has come', () => {
    assert.equal(judged(LATE_MS, backup('a', LATE_MS + AHEAD_MAX_MS)).late, undefined);
    assert.equal(judged(LATE_MS + HOUR_MS, backup('a', LATE_MS + HOUR_MS)).late, undefined);
  });
});
