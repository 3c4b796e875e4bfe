import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Archives } from '../../../../src/agent/deploy/archives.js';
import type { Deploys } from '../../../../src/agent/deploy/deploys.js';
import type { DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import type { DeployOrder, DeployReport } from '../../../../src/model/release.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import {
  FakeMachine,
  newBench,
  newWorld,
  onDisk,
  openDeploys,
  realArchives,
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

  it('reads a download back only where another process began it', async () => {
    const read: string[] = [];
    const counting: Archives = {
      ...realArchives,
      digest: (path) => {
        if (existsSync(path)) read.push(basename(path));
        return realArchives.digest(path);
      },
    };
    deploys = await openDeploys(bench, await openMemoryStore(), machine, { archives: counting });
    const first = await deploy({ version: '1.0.0', manifest: VERIFIED });
    assert.equal(first.outcome, 'SUCCEEDED', first.message);
    assert.deepEqual(read, [], 'its digest was taken as it came');

    const order = await bench.shelf.release({ version: '1.1.0', manifest: VERIFIED });
    const { digest, sizeBytes } = order.artifact;
    const parts = join(bench.data, 'cache/artifacts');
    const begun = (await readFile(join(bench.shelf.directory, digest))).subarray(0, Math.floor(sizeBytes / 2));
    begun[0] = 0;
    await mkdir(parts, { recursive: true });
    await writeFile(join(parts, `${digest}.part`), begun);
    const second = await deploys.deploy('c-2', order, () => undefined);
    assert.equal(second.outcome, 'SUCCEEDED', second.message);
    assert.deepEqual(read, [`${digest}.part`], 'and what was damaged came once more, from its beginning');
  });

  it('refuses bytes that are not those of the digest, also where they come in one piece', async () => {
    const order = await bench.shelf.release({ version: '1.0.0', manifest: VERIFIED });
    const path = join(bench.shelf.directory, order.artifact.digest);
    const bytes = await readFile(path);
    bytes[bytes.length - 9] = (bytes[bytes.length - 9] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const { outcome, message } = await deploys.deploy('c-1', order, () => undefined);
    assert.equal(outcome, 'FAILED');
    assert.match(message, /failed at FETCH: what the center sent for orders 1.0.0 is not the archive ordered/);
  });

  it('looks for the room that the order says before it unpacks, and leaves nothing of what is refused', async () => {
    let free = 1e12;
    const space = { floorBytes: 0, freeBytes: () => Promise.resolve(free) };
    deploys = await openDeploys(bench, await openMemoryStore(), machine, { space });
    const order = await bench.shelf.release({ version: '1.0.0', manifest: VERIFIED });
    const saying = (bytes: number): DeployOrder => ({
      ...order,
      artifact: { ...order.artifact, unpacked: { files: 9, bytes } },
    });
    free = 1e9;
    const full = await deploys.deploy('c-1', saying(2e9), () => undefined);
    assert.match(full.message, /failed at UNPACK: there is no room for orders 1.0.0/);
    const more = await deploys.deploy('c-2', saying(1), () => undefined);
    assert.match(more.message, /failed at UNPACK: .*holds more than the 9 files of 1 bytes/);
    assert.deepEqual((await onDisk(bench.data)).releases, []);
    const fits = await deploys.deploy('c-3', saying(1e6), () => undefined);
    assert.equal(fits.outcome, 'SUCCEEDED', fits.message);
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
