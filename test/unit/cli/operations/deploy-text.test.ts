import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Command, Operation } from '../../../../generated/muster/v1/center.js';
import { DeployReport } from '../../../../generated/muster/v1/types.js';
import { changeText, deployLines, deploySummary, stepText } from '../../../../src/cli/operations/deploy-text.js';
import { renderFrame } from '../../../../src/cli/operations/screen.js';
import { messageText, placeText, titleOf } from '../../../../src/cli/operations/text.js';
import { OperationView } from '../../../../src/cli/operations/view.js';

const NOW = Date.parse('2026-11-23T14:02:00Z');

function release(version: string): { service: string; version: string; digest: string } {
  return { service: 'orders', version, digest: version.padEnd(64, '0') };
}

const HALFWAY = DeployReport.fromPartial({
  from: release('1.4.1'),
  to: release('1.4.2'),
  current: release('1.4.1'),
  steps: [
    { step: 'DEPLOY_STEP_FETCH', outcome: 'STEP_OUTCOME_DONE', took: { seconds: 2 } },
    { step: 'DEPLOY_STEP_UNPACK', outcome: 'STEP_OUTCOME_RUNNING', message: '312 files' },
  ],
});

const UNDONE = DeployReport.fromPartial({
  from: release('1.4.1'),
  to: release('1.4.2'),
  current: { ...release('1.4.1'), modules: [{ name: 'shared-lib', version: '2.3.0' }] },
  rolledBack: true,
  downtime: { nanos: 640_000_000 },
  verified: ['port http'],
  backup: '20261123T140155',
  steps: [
    { step: 'DEPLOY_STEP_FETCH', outcome: 'STEP_OUTCOME_SKIPPED', message: 'it is here already', took: { nanos: 1e6 } },
    {
      step: 'DEPLOY_STEP_VERIFY',
      outcome: 'STEP_OUTCOME_FAILED',
      message: './verify.sh failed',
      exitCode: 3,
      output: 'checking\nno coffee\n',
      took: { seconds: 3 },
    },
    { step: 'DEPLOY_STEP_STOP', undo: true, outcome: 'STEP_OUTCOME_DONE', took: { nanos: 20e6 } },
  ],
});

function target(outcome: Command['outcome'], deploy: DeployReport, message = ''): Command {
  return Command.fromPartial({ id: 'c-1', machineName: 'web-1', service: 'orders', outcome, deploy, message });
}

describe('the words of a deploy', () => {
  it('name the step in place of the outcome while it is under way, and no longer', () => {
    assert.equal(stepText(target('OUTCOME_STARTED', HALFWAY)), 'UNPACK');
    assert.equal(placeText(target('OUTCOME_STARTED', HALFWAY), NOW), 'UNPACK');
    assert.equal(placeText(target('OUTCOME_FAILED', HALFWAY), NOW), 'FAILED');
    assert.equal(placeText(target('OUTCOME_STARTED', DeployReport.fromPartial({})), NOW), 'STARTED');
    const undoing = DeployReport.fromPartial({
      steps: [{ step: 'DEPLOY_STEP_START', undo: true, outcome: 'STEP_OUTCOME_RUNNING' }],
    });
    assert.equal(placeText(target('OUTCOME_STARTED', undoing), NOW), 'undo START');
    const failed = DeployReport.fromPartial({
      steps: [{ step: 'DEPLOY_STEP_VERIFY', outcome: 'STEP_OUTCOME_FAILED' }],
    });
    assert.equal(placeText(target('OUTCOME_STARTED', failed), NOW), 'VERIFY failed');
  });

  it('say from what to what', () => {
    const ref = (version: string) => DeployReport.fromPartial({ from: release(version) }).from;
    assert.equal(changeText(ref('1.4.1'), ref('1.4.2')), '1.4.1 -> 1.4.2');
    assert.equal(changeText(undefined, ref('1.4.2')), 'none -> 1.4.2');
    assert.equal(changeText(ref('1.4.2'), ref('1.4.2')), '1.4.2 again');
    assert.equal(changeText(undefined, undefined), '');
  });

  it('say on one line what became of a target', () => {
    const done = DeployReport.fromPartial({ ...HALFWAY, current: release('1.4.2'), downtime: { nanos: 240_000_000 } });
    assert.equal(deploySummary(target('OUTCOME_SUCCEEDED', done)), '1.4.1 -> 1.4.2');
    assert.equal(deploySummary(target('OUTCOME_STARTED', HALFWAY)), '312 files');
    assert.equal(deploySummary(target('OUTCOME_FAILED', UNDONE)), '1.4.1 was put back');
    const told = target('OUTCOME_FAILED', UNDONE, '1.4.2 failed at VERIFY. 1.4.1 runs again');
    assert.equal(messageText(told, NOW), '1.4.2 failed at VERIFY. 1.4.1 runs again');
    const first = DeployReport.fromPartial({ ...UNDONE, from: undefined, current: undefined });
    assert.equal(deploySummary(target('OUTCOME_FAILED', first)), 'what was there before was put back');
  });

  it('tell every step with its time, its exit code and its last output, and what that led to', () => {
    assert.deepEqual(deployLines(UNDONE), [
      'FETCH                skipped: it is here already',
      'VERIFY           3s  failed: exit code 3: ./verify.sh failed',
      '  | checking',
      '  | no coffee',
      'undo STOP      20ms',
      'change        1.4.1 -> 1.4.2',
      'now           1.4.1 was put back',
      'modules       shared-lib 2.3.0',
      'verified      port http',
      'downtime      640ms',
      'backup        20261123T140155',
    ]);
  });

  it('do not tell a line again that the message has', () => {
    const steps = (output: string) => [
      {
        step: 'DEPLOY_STEP_START' as const,
        outcome: 'STEP_OUTCOME_FAILED' as const,
        message: 'ended with code 2, saying "no such file"',
        output,
      },
    ];
    assert.deepEqual(deployLines(DeployReport.fromPartial({ steps: steps('no such file\n') })).slice(1), []);
    assert.deepEqual(deployLines(DeployReport.fromPartial({ steps: steps('at line 3\nno such file\n') })).slice(1), [
      '  | at line 3',
      '  | no such file',
    ]);
  });

  it('keep to the last lines of a long output', () => {
    const output = Array.from({ length: 14 }, (_, index) => `line ${index}`).join('\n');
    const lines = deployLines(
      DeployReport.fromPartial({ steps: [{ step: 'DEPLOY_STEP_INSTALL', outcome: 'STEP_OUTCOME_FAILED', output }] }),
    );
    assert.deepEqual(lines.slice(1, 3), ['  | (4 lines before)', '  | line 4']);
    assert.equal(lines.length, 12);
  });

  it('call an operation what it is', () => {
    const title = (fields: Parameters<typeof Operation.fromPartial>[0]): string =>
      titleOf(Operation.fromPartial({ service: 'orders', ...fields }));
    assert.equal(title({ action: 'ACTION_DEPLOY', deploy: { version: '1.4.2' } }), 'deploy of orders 1.4.2');
    assert.equal(title({ action: 'ACTION_ROLLBACK', deploy: { version: '1.4.1' } }), 'rollback of orders to 1.4.1');
    assert.equal(title({ action: 'ACTION_ROLLBACK', deploy: { version: '' } }), 'rollback of orders');
    assert.equal(title({ action: 'ACTION_BACKUP' }), 'backup of orders');
    assert.equal(title({ action: 'ACTION_VERIFY_BACKUP' }), 'verify of a backup of orders');
    assert.equal(title({ action: 'ACTION_RESTORE' }), 'restore of a backup of orders');
  });
});

describe('a deploy that is followed', () => {
  it('has changed when a step has', () => {
    const view = new OperationView(Operation.fromPartial({ action: 'ACTION_DEPLOY' }));
    const take = (command: Command): number => view.apply({ operation: undefined, targets: [command] }).length;
    assert.equal(take(target('OUTCOME_STARTED', HALFWAY)), 1);
    assert.equal(take(target('OUTCOME_STARTED', HALFWAY)), 0);
    const verifying = DeployReport.fromPartial({
      steps: [{ step: 'DEPLOY_STEP_VERIFY', outcome: 'STEP_OUTCOME_RUNNING' }],
    });
    assert.equal(take(target('OUTCOME_STARTED', verifying)), 1);
  });

  it('shows the step of each machine on the screen', () => {
    const operation = Operation.fromPartial({
      id: 'op-1',
      action: 'ACTION_DEPLOY',
      service: 'orders',
      deploy: { version: '1.4.2' },
      state: 'OPERATION_STATE_RUNNING',
    });
    const view = new OperationView(operation);
    view.apply({ operation: undefined, targets: [target('OUTCOME_STARTED', HALFWAY)] });
    const lines = renderFrame(view, { nowMs: NOW, columns: 80, rows: 24, awayMs: undefined });
    assert.match(lines[0] ?? '', /^deploy of orders 1\.4\.2 {2}op-1 {2}RUNNING/);
    assert.match(lines.at(-1) ?? '', /^ {2}web-1 {2}UNPACK {4}312 files$/);
  });
});
