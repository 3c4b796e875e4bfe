import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Deploys } from '../../../../src/agent/deploy/deploys.js';
import type { DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import type { DeployReport } from '../../../../src/model/release.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import {
  FakeMachine,
  newBench,
  newWorld,
  onDisk,
  openDeploys,
  type Bench,
  type ReleaseSpec,
} from '../../../support/deploying.js';

const VERIFIED = `ports: [{ name: http, port: 80 }]\nping: { http: /health }\nverify: { exec: [check], timeout: 200ms }`;

/** The report's steps in short: a dash before those that put back. */
function stepsOf({ steps }: DeployReport): string {
  return steps
    .map(({ step, undo, outcome }) => `${undo ? '-' : ''}${step}${outcome === 'DONE' ? '' : `:${outcome}`}`)
    .join(' ');
}

describe('deploys of a machine', () => {
  let bench: Bench;
  let machine: FakeMachine;
  let deploys: Deploys;
  let commands: number;

  beforeEach(async () => {
    bench = await newBench();
    machine = new FakeMachine(newWorld());
    deploys = await openDeploys(bench, await openMemoryStore(), machine);
    commands = 0;
  });

  afterEach(async () => {
    assert.equal(machine.held, 0, 'nothing is held any more');
    await bench.clean();
  });

  const deploy = async (spec: ReleaseSpec): Promise<DeployEnd> => {
    commands += 1;
    return deploys.deploy(`c-${commands}`, await bench.shelf.release(spec), () => undefined);
  };

  const running = (): string => machine.world.running['orders'] ?? '';

  it('deploys a first release, then the next, and goes back to the first without a download', async () => {
    const first = await deploy({
      version: '1.0.0',
      manifest: VERIFIED,
      modules: [{ name: 'shared', version: '2.0.0' }],
    });
    assert.equal(first.outcome, 'SUCCEEDED', first.message);
    assert.equal(
      stepsOf(first.report),
      'FETCH BACKUP:SKIPPED MODULES UNPACK INSTALL:SKIPPED STOP:SKIPPED SWITCH START VERIFY PRUNE:SKIPPED',
    );
    assert.deepEqual(first.report.verified, ['port http', 'ping', 'check']);
    assert.equal(first.report.downtimeMs, undefined, 'nothing was down');
    assert.equal(machine.world.sources['orders']?.release?.ref.configRevision, 7, 'the one kept with it');
    const second = await deploy({
      version: '1.1.0',
      manifest: VERIFIED,
      modules: [{ name: 'shared', version: '2.1.0' }],
    });
    assert.equal(second.outcome, 'SUCCEEDED', second.message);
    assert.equal(second.report.from?.version, '1.0.0');
    assert.equal(typeof second.report.downtimeMs, 'number');
    assert.match(running(), /releases\/1\.1\.0-/);
    assert.equal(await readFile(join(running(), 'modules/shared/index.js'), 'utf8'), '// shared 2.1.0');

    const calls = bench.shelf.calls.length;
    const back = await deploys.rollBackHere('orders', '');
    assert.equal(stepsOf(back), 'STOP SWITCH START VERIFY PRUNE:SKIPPED');
    assert.equal(back.current?.version, '1.0.0');
    assert.equal(bench.shelf.calls.length, calls, 'nothing was downloaded');
    const { current, releases } = await onDisk(bench.data);
    assert.match(current, /^releases\/1\.0\.0-/);
    assert.equal(releases.length, 2);
    assert.equal(
      await readFile(join(bench.data, 'services/orders/current/modules/shared/index.js'), 'utf8'),
      '// shared 2.0.0',
    );
    assert.equal(machine.world.pins['orders'], back.to?.digest, 'the configuration is the one kept with it');
    assert.deepEqual(machine.shown.filter((step) => step !== undefined).slice(-4), [
      'STOP',
      'SWITCH',
      'START',
      'VERIFY',
    ]);
  });

  it('puts back what was there when the verify fails, and runs nothing of the release that failed', async () => {
    await deploy({ version: '1.0.0', manifest: VERIFIED });
    machine.world.trace.length = 0;
    const failed = await deploy({ version: '2.0.0', manifest: VERIFIED, behaves: 'verify-fails' });
    assert.equal(failed.outcome, 'FAILED');
    assert.equal(failed.exitCode, 4);
    assert.equal(failed.output, 'check says no');
    assert.match(failed.message, /^2\.0\.0 failed at VERIFY: check exited with 4\. 1\.0\.0 runs again, after /);
    assert.equal(
      stepsOf(failed.report),
      'FETCH BACKUP:SKIPPED MODULES:SKIPPED UNPACK INSTALL:SKIPPED STOP SWITCH START VERIFY:FAILED -STOP -SWITCH -START -VERIFY',
    );
    assert.equal(failed.report.rolledBack, true);
    assert.equal(failed.report.current?.version, '1.0.0');
    assert.deepEqual(machine.world.trace, [
      'stop 1.0.0',
      'become 2.0.0',
      'start 2.0.0',
      'run check of 2.0.0',
      'stop 2.0.0',
      'become 1.0.0',
      'start 1.0.0',
    ]);
    assert.match((await onDisk(bench.data)).current, /^releases\/1\.0\.0-/);
  });
});
