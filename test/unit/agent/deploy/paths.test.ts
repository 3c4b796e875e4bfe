import assert from 'node:assert/strict';
import { access, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Deploys, DeploysOptions } from '../../../../src/agent/deploy/deploys.js';
import type { DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import { Held } from '../../../../src/agent/deploy/held.js';
import { systemClock, type Clock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import type { DeployOrder, DeployReport } from '../../../../src/model/release.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import {
  FakeMachine,
  newBench,
  newWorld,
  onDisk,
  openDeploys,
  plainArchives,
  type Bench,
  type ReleaseSpec,
} from '../../../support/deploying.js';

const PORT = 'ports: [{ name: http, port: 80 }]\nverify: { exec: [check], timeout: 100ms }';

function failedStep({ steps }: DeployReport): string {
  return steps.find(({ outcome, undo }) => outcome === 'FAILED' && !undo)?.step ?? '';
}

function undone({ steps }: DeployReport): string {
  return steps
    .filter(({ undo }) => undo)
    .map(({ step, outcome }) => (outcome === 'DONE' ? step : `${step}:${outcome}`))
    .join(' ');
}

/** Says this time, and goes on otherwise. */
function clockAt(ms: number): Clock {
  return {
    now: () => ms,
    monotonic: () => systemClock.monotonic(),
    after: (delayMs, run) => systemClock.after(delayMs, run),
  };
}

describe('a deploy', () => {
  let bench: Bench;
  let machine: FakeMachine;
  let store: Store;
  let deploys: Deploys;
  let commands = 0;

  const open = async (options: Partial<DeploysOptions> = {}): Promise<void> => {
    deploys = await openDeploys(bench, store, machine, options);
  };

  beforeEach(async () => {
    bench = await newBench(true);
    machine = new FakeMachine(newWorld());
    store = await openMemoryStore();
    await open();
  });

  afterEach(async () => {
    assert.equal(machine.held, 0, 'nothing is held any more');
    await bench.clean();
  });

  const order = (order: DeployOrder): Promise<DeployEnd> => {
    commands += 1;
    return deploys.deploy(`c-${commands}`, order, () => undefined);
  };
  const deploy = async (spec: ReleaseSpec): Promise<DeployEnd> => order(await bench.shelf.release(spec));
  const version = (): string => machine.world.running['orders'] ?? '';

  it('that fails as the first one leaves no service behind', async () => {
    const end = await deploy({ version: '1.0.0', behaves: 'start-fails' });
    assert.equal(
      end.message,
      '1.0.0 failed at START: orders did not start: ended with code 3 after 1ms, saying "the last words of 1.0.0"; given up after 6 tries. ' +
        'There was no such service before, and there is none now: push a mended version and deploy that',
    );
    assert.equal(end.exitCode, 3);
    assert.equal(end.output, 'the last words of 1.0.0');
    assert.equal(undone(end.report), 'STOP SWITCH START:SKIPPED VERIFY:SKIPPED');
    assert.equal(machine.world.sources['orders'], undefined);
    assert.equal(end.report.current, undefined);
    assert.deepEqual((await onDisk(bench.data)).current, '');
  });

  it('that does not start says what runs again before what was printed, which is said once, and what helps', async () => {
    await deploy({ version: '1.0.0' });
    const end = await deploy({ version: '2.0.0', behaves: 'start-fails' });
    assert.match(
      end.message,
      /^2\.0\.0 failed at START: orders did not start: ended with code 3 .*; given up after 6 tries\. 1\.0\.0 runs again, after \S+: push a mended version and deploy that$/,
    );
    const step = end.report.steps.find(({ outcome }) => outcome === 'FAILED');
    assert.match(step?.message ?? '', /given up after 6 tries$/);
    assert.deepEqual([step?.output, end.output], ['the last words of 2.0.0', 'the last words of 2.0.0']);
  });

  it('whose undo does not start what was there says how that is started by hand', async () => {
    await deploy({ version: '1.0.0' });
    machine.world.turned['1.0.0'] = 'start-fails';
    const end = await deploy({ version: '2.0.0', behaves: 'start-fails' });
    assert.match(end.message, /1\.0\.0 was put back and does not run .*: mend it, then "muster start orders"$/);
    assert.ok(!end.message.includes('It last printed'));
  });

  it('that fails puts back what ran by a manifest of the machine', async () => {
    machine.declare('orders', '0.9.0');
    const end = await deploy({ version: '1.0.0', behaves: 'unhealthy', manifest: PORT });
    assert.equal(failedStep(end.report), 'VERIFY');
    assert.match(
      end.message,
      /not healthy within 100ms: port http is CRITICAL \(refused\)\. what ran before runs again/,
    );
    assert.equal(version(), '/manifests/orders');
    assert.equal(end.report.rolledBack, true);
    assert.equal(typeof end.report.downtimeMs, 'number');
  });

  it('of the version that runs restarts and verifies it, without a download', async () => {
    await deploy({ version: '1.0.0', manifest: PORT });
    const calls = bench.shelf.calls.length;
    const again = await deploy({ version: '1.0.0', manifest: PORT });
    assert.equal(again.outcome, 'SUCCEEDED');
    assert.equal(bench.shelf.calls.length, calls);
    assert.deepEqual(machine.world.trace.slice(-5), [
      'stop 1.0.0',
      'become 1.0.0',
      'start 1.0.0',
      'run check of 1.0.0',
      'verified',
    ]);
  });

  it('fetches a release again whose directory somebody removed', async () => {
    await deploy({ version: '1.0.0' });
    await rm(version(), { recursive: true });
    const end = await deploy({ version: '1.0.0' });
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.equal(await readFile(join(version(), 'server.js'), 'utf8'), '// 1.0.0');
  });

  it('fetches a module again whose directory somebody removed, for deploys and rollbacks', async () => {
    const modules = [{ name: 'lib', version: '1.0.0' }];
    const lib = join(bench.data, 'modules', 'lib');
    const seen = (): Promise<string> => readFile(join(version(), 'modules', 'lib', 'index.js'), 'utf8');
    const first = await bench.shelf.release({ version: '1.0.0', modules });
    await order(first);
    await rm(lib, { recursive: true });
    assert.equal((await deploy({ version: '2.0.0', modules })).outcome, 'SUCCEEDED');
    assert.equal(await seen(), '// lib 1.0.0');
    await rm(lib, { recursive: true });
    const before = version();
    await deploy({ version: '2.0.0', modules });
    assert.equal(await seen(), '// lib 1.0.0');
    assert.equal(version(), before);
    await rm(lib, { recursive: true });
    await assert.rejects(deploys.rollBackHere('orders', '1.0.0'), /roll back through the center/);
    const back = await deploys.rollBack('c-back', 'orders', { version: '1.0.0', release: first }, () => undefined);
    assert.equal(back.outcome, 'SUCCEEDED', back.message);
    assert.match(version(), /1\.0\.0/);
    assert.equal(await seen(), '// lib 1.0.0');
  });

  it('goes to an older version as to any other, and a rollback from it to what ran before', async () => {
    await deploy({ version: '1.0.0' });
    await deploy({ version: '2.0.0' });
    assert.equal((await deploy({ version: '1.0.0' })).outcome, 'SUCCEEDED');
    assert.match(version(), /1\.0\.0/);
    assert.equal((await deploys.rollBackHere('orders', '')).current?.version, '2.0.0');
  });

  it('of a stopped service is gone back from to what ran before, also where that is a newer release', async () => {
    await deploy({ version: '1.0.0' });
    await deploy({ version: '1.1.0' });
    Reflect.deleteProperty(machine.world.running, 'orders');
    machine.world.wanted['orders'] = false;
    assert.equal((await deploy({ version: '1.0.0' })).outcome, 'SUCCEEDED');
    assert.equal((await deploys.rollBackHere('orders', '')).current?.version, '1.1.0');
    assert.equal((await deploys.rollBackHere('orders', '')).current?.version, '1.0.0', 'and further back');
  });

  it('of a stopped service leaves it stopped, unverified, and not the last good one', async () => {
    const first = await bench.shelf.release({ version: '1.0.0', manifest: PORT });
    await order(first);
    Reflect.deleteProperty(machine.world.running, 'orders');
    machine.world.wanted['orders'] = false;
    machine.world.trace.length = 0;
    const end = await deploy({ version: '2.0.0', manifest: PORT });
    assert.equal(end.outcome, 'SUCCEEDED');
    assert.match(end.message, /was stopped and stays so, so nothing was verified/);
    assert.deepEqual(machine.world.trace, ['become 2.0.0']);
    assert.equal(end.report.downtimeMs, undefined);
    assert.equal((await Held.open(store)).of('orders').lastGood, first.release.digest);
  });

  it('whose install hook fails does not touch the service', async () => {
    await deploy({ version: '1.0.0' });
    machine.world.trace.length = 0;
    const hook = 'hooks: { install: [hook] }';
    const end = await deploy({ version: '2.0.0', behaves: 'hook-fails', manifest: hook });
    assert.equal(
      end.message,
      '2.0.0 failed at INSTALL: the install hook hook exited with 4. The service was not touched',
    );
    assert.equal(end.output, 'hook says no');
    assert.deepEqual(machine.world.trace, ['run hook of 2.0.0']);
    assert.equal((await onDisk(bench.data)).releases.length, 1, 'what was unpacked is gone');
    const slow = await deploy({
      version: '3.0.0',
      behaves: 'hook-hangs',
      manifest: 'hooks: { install: [hook], timeout: 5s }',
    });
    assert.match(slow.message, /hook did not end within 5s/);
    const good = await deploy({ version: '4.0.0', manifest: hook });
    assert.equal(good.outcome, 'SUCCEEDED', good.message);
    await access(join(version(), 'made-by-hook'));
    machine.world.trace.length = 0;
    await deploys.rollBackHere('orders', '');
    await deploys.rollBackHere('orders', '4.0.0');
    assert.ok(!machine.world.trace.includes('run hook of 4.0.0'), 'it is not run again');
  });

  it('whose service does not stop is given up, and the service goes on', async () => {
    await deploy({ version: '1.0.0', behaves: 'stop-fails' });
    const end = await deploy({ version: '2.0.0' });
    assert.equal(
      end.message.startsWith('2.0.0 failed at STOP: its stop script did not end. 1.0.0 runs again'),
      true,
      end.message,
    );
    assert.equal(undone(end.report), 'START VERIFY');
    assert.match(version(), /1\.0\.0/);
  });

  it('is refused before anything is written where there is no room', async () => {
    await open({ space: { floorBytes: 1000, freeBytes: () => Promise.resolve(1000) } });
    const end = await deploy({ version: '1.0.0' });
    assert.equal(failedStep(end.report), 'FETCH');
    assert.match(end.message, /no room for the archive of orders 1\.0\.0: .* Make room, then deploy again/);
  });

  it('does not begin where its entry cannot be written, and the report says so', async () => {
    await deploy({ version: '1.0.0' });
    const target = await bench.shelf.release({ version: '2.0.0' });
    let full = false;
    const disk: Store = new Proxy(store, {
      get: (from, name) => {
        if (name === 'write' && full)
          return () => Promise.reject(new MusterError('exhausted', 'the disk is almost full'));
        const value: unknown = Reflect.get(from, name);
        return typeof value === 'function'
          ? (...given: unknown[]): unknown => Reflect.apply(value, from, given)
          : value;
      },
    });
    deploys = await openDeploys(bench, disk, machine);
    machine.world.trace.length = 0;
    const work = deploys.deploy('c-full', target, ({ at }) => {
      if (at.phase === 'forward' && at.step === 'STOP') full = true;
    });
    const end = await work;
    assert.equal(end.message, '2.0.0 failed at STOP: the disk is almost full. The service was not touched');
    assert.deepEqual(machine.world.trace, []);
  });

  it('waits for nobody: a second one is refused while one runs, and so is one while others hold the service', async () => {
    const target = await bench.shelf.release({ version: '1.0.0' });
    const first = order(target);
    await assert.rejects(order(target), /the deploy of 1\.0\.0 is under way on orders/);
    await first;
    const hold = await machine.hold('orders', 'a restore');
    await assert.rejects(order(target), /held by a restore/);
    hold.letGo();
  });

  it('refuses an archive of another service or version, with other pins, or without a manifest', async () => {
    const good = await bench.shelf.release({ version: '1.0.0' });
    const other = await bench.shelf.release({ version: '1.0.1' });
    const mixed = { ...good, release: { ...good.release, digest: other.release.digest }, artifact: other.artifact };
    const end = await order(mixed);
    assert.match(end.message, /the archive is of orders 1\.0\.1, not of orders 1\.0\.0/);
    const pins = {
      ...good,
      release: { ...good.release, modules: [{ name: 'x', version: '1', digest: 'a'.repeat(64) }] },
    };
    await assert.rejects(order({ ...good, release: { ...good.release, version: '../1' } }), /is no name and version/);
    assert.equal((await order({ ...pins, moduleArtifacts: [other.artifact] })).outcome, 'FAILED');
    assert.deepEqual(await onDisk(bench.data), { releases: [], current: '' });
  });

  it('refuses a signature that does not fit, and downloads nothing', async () => {
    await open({ archives: { ...plainArchives, isSignedBy: () => false } });
    const end = await deploy({ version: '1.0.0' });
    assert.match(end.message, /failed at FETCH: the signature of orders 1\.0\.0 is not that of its key/);
    assert.deepEqual(bench.shelf.calls, []);
  });

  it('keeps as many releases as its manifest says, never without the last good one, and no module that nobody pins', async () => {
    const manifest = 'releases: { keep: 2 }';
    for (const n of [1, 2, 3]) {
      const modules = [{ name: 'shared', version: `${n}.0.0` }];
      assert.equal((await deploy({ version: `${n}.0.0`, manifest, modules })).outcome, 'SUCCEEDED');
    }
    assert.deepEqual(
      (await onDisk(bench.data)).releases.map((name) => name.slice(0, 5)),
      ['2.0.0', '3.0.0'],
    );
    const modules = join(bench.data, 'modules', 'shared');
    assert.deepEqual((await readdir(modules)).map((name) => name.slice(0, 5)).sort(), ['2.0.0', '3.0.0']);
    assert.deepEqual(
      deploys.heldReleases('orders', undefined).map((one) => one.version),
      ['3.0.0', '2.0.0'],
    );
    const bad = await deploy({ version: '4.0.0', manifest: `${manifest}\n${PORT}`, behaves: 'verify-fails' });
    assert.equal(bad.report.current?.version, '3.0.0');
    await deploy({ version: '5.0.0', manifest });
    assert.deepEqual(
      deploys.heldReleases('orders', undefined).map((one) => one.version),
      ['5.0.0', '3.0.0'],
    );
  });

  it('makes the backup its manifest asks for first, and fails untouched where that fails', async () => {
    await open({ backupBefore: () => Promise.resolve({ backup: 'b-1', message: '3 files' }) });
    const end = await deploy({ version: '1.0.0' });
    assert.equal(end.report.backup, 'b-1');
    await open({
      backupBefore: () => Promise.reject(new MusterError('precondition', 'the backup before the deploy failed')),
    });
    assert.match((await deploy({ version: '2.0.0' })).message, /failed at BACKUP: .* The service was not touched/);
  });

  it('goes on with a download where it broke off, and starts one again that was damaged', async () => {
    let calls = 0;
    bench.shelf.before = () => (++calls === 1 ? 20 : Infinity);
    assert.equal((await deploy({ version: '1.0.0' })).outcome, 'SUCCEEDED');
    assert.deepEqual(
      bench.shelf.calls.map((call) => call.split('@')[1]),
      ['0', '20'],
    );
  });

  it('rolls back to what the center offers where the machine has it no more', async () => {
    const old = await bench.shelf.release({ version: '1.0.0' });
    await deploy({ version: '2.0.0' });
    await assert.rejects(deploys.rollBackHere('orders', '1.0.0'), /is not on this machine/);
    await assert.rejects(
      deploys.rollBackHere('orders', ''),
      /no release of orders was verified on this machine before/,
    );
    const same = await deploys.rollBack('c-same', 'orders', { version: '2.0.0', release: undefined }, () => undefined);
    assert.equal(same.outcome, 'SUCCEEDED');
    assert.match(same.message, /runs from 2\.0\.0 already: nothing was done/);
    assert.equal(same.report.current?.version, '2.0.0');
    const end = await deploys.rollBack('c-back', 'orders', { version: '1.0.0', release: old }, () => undefined);
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.match(version(), /1\.0\.0/);
  });

  it('does not roll back to a release whose deploy failed', async () => {
    await deploy({ version: '1.0.0', manifest: PORT });
    await deploy({ version: '2.0.0', manifest: PORT, behaves: 'verify-fails' });
    await assert.rejects(
      deploys.rollBackHere('orders', '2.0.0'),
      /the last deploy of orders 2\.0\.0 on this machine failed/,
    );
  });

  it('rolls back to what was verified before, whatever the clock said meanwhile', async () => {
    const times = [3_000_000, 2_000_000, 1_000_000];
    for (const [index, ms] of times.entries()) {
      await open({ clock: clockAt(ms) });
      assert.equal((await deploy({ version: `${index + 1}.0.0` })).outcome, 'SUCCEEDED');
    }
    assert.equal((await deploys.rollBackHere('orders', '')).current?.version, '2.0.0');
    assert.equal((await deploys.rollBackHere('orders', '')).current?.version, '1.0.0');
  });

  it('is not verified by what an undo has put back whose entries found no room', async () => {
    await deploy({ version: '1.0.0', manifest: PORT });
    const { sources, running } = structuredClone(machine.world);
    const target = await bench.shelf.release({ version: '2.0.0', manifest: PORT });
    await assert.rejects(
      deploys.deploy('c-9', target, ({ at }) => {
        if (at.phase === 'forward' && at.step === 'VERIFY') deploys.close();
      }),
      /stopping/,
    );
    Object.assign(machine.world.sources, sources);
    Object.assign(machine.world.running, running);
    await open();
    const end = await deploys.resume('c-9', () => undefined);
    assert.equal(end.outcome, 'FAILED');
    assert.match(end.message, /run from 1\.0\.0 meanwhile.*1\.0\.0 runs again/);
    assert.match((await onDisk(bench.data)).current, /1\.0\.0/);
    await assert.rejects(deploys.rollBackHere('orders', '2.0.0'), /the last deploy of orders 2\.0\.0/);
  });

  it('stops at the next entry when the agent ends, and the next process goes on', async () => {
    const target = await bench.shelf.release({ version: '1.0.0' });
    await assert.rejects(
      deploys.deploy('c-9', target, ({ at }) => {
        if (at.phase === 'forward' && at.step === 'SWITCH') deploys.close();
      }),
      /stopping/,
    );
    await open();
    const end = await deploys.resume('c-9', () => undefined);
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.deepEqual(
      await deploys.resume('c-9', () => undefined),
      end,
      'its end is answered again, nothing is done again',
    );
  });
});
