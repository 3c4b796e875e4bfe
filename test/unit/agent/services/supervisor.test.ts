import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { InstanceRecords } from '../../../../src/agent/services/records.js';
import { Supervisor } from '../../../../src/agent/services/supervisor.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { parseManifest } from '../../../../src/model/manifest.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { FakeDriver, type FakeUnit } from '../../../support/fake-driver.js';
import { failureOf } from '../../../support/rpc.js';
import { noChecks } from '../../../support/supervised.js';

interface Bench {
  readonly clock: ManualClock;
  readonly unit: FakeUnit;
  readonly supervisor: Supervisor;
}

/** A service that was told to start, with 5 s to end. */
async function bench(prepare: (unit: FakeUnit) => void, driver = new FakeDriver()): Promise<Bench> {
  const manifestText = 'name: slow\ncommand: [slow]\nstart: { settle: 0s }\nstop: { grace: 5s }\n';
  const manifest = parseManifest(manifestText, { file: 'slow' });
  const clock = new ManualClock();
  const records = new InstanceRecords(await openMemoryStore());
  await records.load();
  await records.update('slow', () => ({ wanted: true, manifestText, folder: '' }));
  const unit = driver.of('slow');
  prepare(unit);
  const supervisor = new Supervisor(
    { manifest, manifestText, folder: '', generation: 0 },
    {
      clock,
      random: seededRandom(1),
      logger: silentLogger,
      bootId: 'boot',
      checks: noChecks,
      records,
      drivers: { process: driver, systemd: driver, sysv: driver },
      subjectOf: () => ({ manifest, logDirectory: '/logs', sharedDirectory: '/shared', workingDirectory: '/' }),
      onChange: () => undefined,
    },
  );
  await supervisor.adopt();
  return { clock, unit, supervisor };
}

/** A launch that is over when `end` is called. */
function slowLaunch(unit: FakeUnit): { end: () => void } {
  const launch = { end: (): void => undefined };
  const over = new Promise<void>((resolve) => {
    launch.end = resolve;
  });
  unit.launch = () => over;
  return launch;
}

describe('a stop', () => {
  it('of one that is still being launched waits for that, says so, and counts its time to end from then', async () => {
    let launch = { end: (): void => undefined };
    const { clock, unit, supervisor } = await bench((slow) => {
      launch = slowLaunch(slow);
      slow.endsOnTerminate = false;
    });
    let answered = false;
    const stopping = supervisor.stop().finally(() => {
      answered = true;
    });
    await clock.advance(120_000);
    assert.equal(answered, false, 'a start script may take two minutes');
    const { state, reason } = supervisor.report();
    assert.deepEqual([state, reason], ['STOPPING', 'its start is still under way']);
    launch.end();
    await clock.advance(4999);
    assert.deepEqual([answered, unit.calls], [false, ['start', 'terminate']]);
    await clock.advance(2);
    await stopping;
    assert.deepEqual(unit.calls, ['start', 'terminate', 'kill']);
    assert.match(supervisor.report().reason, /was killed/);
  });

  it('of a launch without end is answered in the end, and done when the launch is over', async () => {
    let launch = { end: (): void => undefined };
    const { clock, supervisor } = await bench((slow) => {
      launch = slowLaunch(slow);
    });
    const stopping = failureOf(supervisor.stop());
    await clock.advance(10 * 60_000);
    const { code, message } = await stopping;
    assert.equal(code, 'deadline');
    assert.match(message, /its start is still under way/);
    launch.end();
    await clock.advance(1);
    assert.equal(supervisor.report().state, 'STOPPED');
  });

  it('of one that even a kill does not end is answered, and the kill is repeated until it does', async () => {
    const { clock, unit, supervisor } = await bench((hung) => {
      hung.endsOnTerminate = false;
      hung.endsOnKill = false;
    });
    await clock.advance(10);
    const stopping = failureOf(supervisor.stop());
    await clock.advance(15_001);
    const { code, message } = await stopping;
    assert.equal(code, 'deadline');
    assert.match(message, /not even by SIGKILL: look at pid 1001/);
    unit.endsOnKill = true;
    await clock.advance(5000);
    assert.equal(supervisor.report().state, 'STOPPED');
  });
});

describe('a restart', () => {
  it('of one that others stopped, and started again before anybody looked, stops it first', async () => {
    const { clock, unit, supervisor } = await bench(() => undefined, new FakeDriver({ idleMs: 10_000 }));
    await clock.advance(10);
    unit.stoppedByOthers = true;
    unit.end();
    await clock.advance(1);
    assert.equal(supervisor.report().state, 'STOPPED');
    unit.running = { pid: 7, startedMs: 0 };
    const restarting = supervisor.restart();
    await clock.advance(1);
    await restarting;
    assert.deepEqual(unit.calls, ['start', 'terminate', 'start']);
    assert.notEqual(supervisor.report().pid, 7);
  });

  it('of one that rests starts it', async () => {
    const { clock, unit, supervisor } = await bench(() => undefined, new FakeDriver({ idleMs: 10_000 }));
    await clock.advance(10);
    const stopping = supervisor.stop();
    await clock.advance(1);
    await stopping;
    const restarting = supervisor.restart();
    await clock.advance(1);
    await restarting;
    assert.deepEqual(unit.calls, ['start', 'terminate', 'start']);
    assert.equal(supervisor.report().state, 'RUNNING');
  });
});
