import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { standing } from '../../../../src/agent/deploy/verify.js';
import type { CheckResult, InstanceReport } from '../../../../src/model/instance.js';
import { instanceReport } from '../../../support/fake-services.js';

const STARTED_MS = 5000;

function report(lastRunMs: number | undefined, fields: Partial<InstanceReport> = {}): InstanceReport {
  const check: CheckResult = {
    name: 'port http',
    kind: 'tcp',
    health: 'PASSING',
    sinceMs: 1,
    lastRunMs,
    tookMs: 1,
    output: '',
    streak: 1,
  };
  return instanceReport('orders', { state: 'RUNNING', pid: 7, startedMs: STARTED_MS, checks: [check], ...fields });
}

describe('how far a started service is', () => {
  it('counts no result from before its start', () => {
    const before = report(STARTED_MS - 1);
    assert.equal(standing(before, before), 'waiting');
    assert.equal(standing(report(undefined), before), 'waiting');
    assert.equal(standing(report(STARTED_MS), before), 'passing');
  });

  it('counts a result that came since, whatever the clock says', () => {
    for (const known of [STARTED_MS - 1, undefined]) assert.equal(standing(report(1000), report(known)), 'passing');
  });

  it('has ended when it is another process', () => {
    assert.equal(standing(report(STARTED_MS, { pid: 8 }), report(STARTED_MS)), 'ended');
    assert.equal(standing(report(STARTED_MS, { state: 'EXITED' }), report(STARTED_MS)), 'ended');
  });
});
