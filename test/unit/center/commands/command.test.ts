import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  cancelled,
  cancelRequested,
  contactLost,
  delivered,
  expired,
  forgotten,
  isCancelDue,
  isSettled,
  reported,
  resumeStep,
  type CommandRecord,
} from '../../../../src/center/commands/command.js';
import { NO_RESULT } from '../../../../src/model/command-result.js';
import { OUTCOMES, isFinal } from '../../../../src/model/instance.js';

const queued: CommandRecord = {
  id: 'c-1',
  number: 1,
  requestId: '',
  machine: 'm-1',
  machineName: 'web-1',
  service: 'orders',
  action: 'RESTART',
  outcome: 'QUEUED',
  message: '',
  createdMs: 1000,
  expiresMs: 61_000,
  deliveredMs: undefined,
  startedMs: undefined,
  endedMs: undefined,
  unknownSinceMs: undefined,
  createdBy: 'operator ann',
  reason: '',
};

function report(outcome: CommandRecord['outcome'], facts: { startedMs?: number; endedMs?: number } = {}) {
  const { startedMs, endedMs } = facts;
  return { command: 'c-1', outcome, message: 'says the agent', startedMs, endedMs, result: NO_RESULT };
}

const started = reported(delivered(queued, 2000), report('STARTED', { startedMs: 2500 }), 2600);

describe('command', () => {
  it('goes from queued over delivered and started to its end', () => {
    assert.equal(started.outcome, 'STARTED');
    assert.equal(started.deliveredMs, 2000);
    const ended = reported(started, report('SUCCEEDED', { endedMs: 3000 }), 3100);
    assert.deepEqual(
      [ended.outcome, ended.startedMs, ended.endedMs, isSettled(ended)],
      ['SUCCEEDED', 2500, 3000, true],
    );
  });

  it('is unknown while contact is lost, and known again when the agent comes back with news', () => {
    const lost = contactLost(started, 5000);
    assert.deepEqual([lost.outcome, lost.unknownSinceMs, isSettled(lost)], ['UNKNOWN', 5000, false]);
    assert.equal(reported(lost, report('DELIVERED'), 6000), lost);
    const back = reported(lost, report('STARTED'), 6000);
    assert.deepEqual([back.outcome, back.unknownSinceMs], ['STARTED', undefined]);
    assert.equal(reported(lost, report('FAILED'), 6000).outcome, 'FAILED');
  });

  it('waits on when contact is lost before it was sent', () => {
    assert.equal(contactLost(queued, 5000), queued);
  });

  it('is sent again only when nobody can have started it', () => {
    assert.equal(resumeStep(queued, 2000), 'send');
    assert.equal(resumeStep(delivered(queued, 2000), 3000), 'send');
    assert.equal(resumeStep(contactLost(delivered(queued, 2000), 2500), 3000), 'send');
    assert.equal(resumeStep(delivered(queued, 2000), 61_000), 'expire');
    assert.equal(resumeStep(started, 3000), 'give up');
    assert.equal(resumeStep(contactLost(started, 2700), 3000), 'give up');
    assert.equal(resumeStep(forgotten(started, 3000), 4000), 'leave');
  });

  it('settles as unknown when the agent itself cannot know', () => {
    const unknown = reported(started, report('UNKNOWN', { endedMs: 4000 }), 4100);
    assert.deepEqual([unknown.outcome, unknown.endedMs, isSettled(unknown)], ['UNKNOWN', 4000, true]);
    assert.equal(reported(unknown, report('SUCCEEDED'), 5000), unknown);
  });

  it('is cancelled instead of sent again when that was asked for, and not when it had started', () => {
    const asked = cancelRequested(contactLost(delivered(queued, 2000), 2500), 'operator ann');
    assert.equal(resumeStep(asked, 3000), 'cancel');
    assert.equal(resumeStep(asked, 70_000), 'cancel');
    assert.equal(cancelRequested(asked, 'operator bob').cancelBy, 'operator ann');
    const after = reported(asked, report('STARTED'), 3000);
    assert.deepEqual([resumeStep(after, 3000), isCancelDue(after)], ['give up', false]);
    assert.equal(isCancelDue(reported(asked, report('CANCELLED'), 3000)), false);
    assert.match(cancelled(asked, 'operator ann', 3000).message, /will not run/);
  });

  it('says whether it was sent before it expired', () => {
    assert.match(expired(queued, 70_000).message, /was not connected/);
    assert.match(expired(delivered(queued, 2000), 70_000).message, /never stored/);
    assert.match(cancelled(queued, 'operator ann', 2000).message, /cancelled by operator ann/);
  });

  it('never goes back, never leaves a settled outcome, and is never sent again once started, whatever is told in whatever order', () => {
    const step = fc.oneof(
      fc
        .constantFrom(...OUTCOMES)
        .map((outcome) => (command: CommandRecord) => reported(command, report(outcome), 9000)),
      fc.constant((command: CommandRecord) => contactLost(command, 9000)),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        let command = delivered(queued, 2000);
        for (const next of steps) {
          const before = command;
          command = next(before);
          if (isSettled(before)) assert.equal(command, before);
          if (before.startedMs !== undefined) {
            assert.notEqual(command.startedMs, undefined);
            assert.notEqual(resumeStep(command, 3000), 'send');
          }
          if (isFinal(command.outcome)) assert.notEqual(command.endedMs, undefined);
          assert.equal(command.outcome === 'UNKNOWN', command.unknownSinceMs !== undefined);
        }
      }),
    );
  });
});
