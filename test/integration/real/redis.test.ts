import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { freePort, must, system, unless } from '../../support/debian.js';
import { Site, type TestAgent } from '../../support/site.js';
import {
  adopted,
  alertsOf,
  alive,
  allWell,
  cleared,
  curl,
  localInstance,
  passing,
  pidOf,
  raised,
  running,
  stopped,
} from './observe.js';

describe("Debian's redis-server under driver process", { skip: unless('redis-server', 'curl') }, () => {
  let site: Site;
  let agent: TestAgent;
  let port: number;
  let unixSocket: string;

  const redis = async (...command: string[]): Promise<string> =>
    (await must('redis-cli', '-s', unixSocket, ...command)).trim();

  before(async () => {
    site = await Site.start();
    agent = await site.addAgent('cellar');
    port = await freePort();
    const directory = join(site.directory, 'redis');
    await mkdir(directory);
    unixSocket = join(directory, 'redis.sock');
    await agent.declare(
      'redis',
      [
        'name: redis',
        `command: [redis-server, --port, "${port}", --unixsocket, ${unixSocket}, --save, "", --dir, ${directory}]`,
        `ports: [{ name: redis, port: ${port} }]`,
        `ping: { exec: [redis-cli, -p, "${port}", ping], every: 300ms, timeout: 1s, failures: 2 }`,
        'start: { settle: 500ms }',
      ].join('\n'),
    );
  });

  after(() => site.close());

  it('runs and passes its checks', async () => {
    const instance = await site.instance('redis', 'RUNNING and PASSING', passing);
    assert.equal(await redis('ping'), 'PONG');
    assert.match(await redis('info', 'server'), new RegExp(`process_id:${pidOf(instance)}\r`));
    assert.deepEqual(
      instance.checks?.map((check) => check.name),
      ['port redis', 'ping'],
    );
  });

  it('is restarted, stopped and started from the center', async () => {
    const first = await redis('config', 'get', 'pidfile').then(() => redis('info', 'server'));
    const restarted = await site.cli('restart', 'redis');
    assert.equal(restarted.status, 0, restarted.stderr);
    assert.match(restarted.stdout, /cellar +redis +SUCCEEDED/);
    assert.notEqual(runId(await redis('info', 'server')), runId(first));

    const { pid } = await site.instance('redis', 'RUNNING', running);
    assert.equal((await site.cli('stop', 'redis')).status, 0);
    const resting = await site.instance('redis', 'STOPPED', stopped);
    assert.equal(resting.wanted ?? false, false);
    assert.equal(await alive(pid ?? 0), false);

    assert.equal((await site.cli('start', 'redis')).status, 0);
    await site.instance('redis', 'RUNNING and PASSING', passing);
    assert.equal(await redis('ping'), 'PONG');
  });

  it("is stopped, started and restarted on the machine with curl on the agent's socket", async () => {
    const before = pidOf(await localInstance(agent, 'redis'));
    const stop = await curl(agent, '/services/redis/stop', '-X', 'POST');
    assert.equal(stop.status, 200, stop.body);
    assert.match(stop.body, /SERVICE_STATE_STOPPED/);
    assert.equal(await alive(before), false);
    const start = await curl(agent, '/services/redis/start', '-X', 'POST');
    assert.equal(start.status, 200, start.body);
    const started = pidOf(await localInstance(agent, 'redis'));
    const restart = await curl(agent, '/services/redis/restart', '-X', 'POST');
    assert.equal(restart.status, 200, restart.body);
    assert.notEqual(pidOf(await localInstance(agent, 'redis')), started);
    await site.instance('redis', 'RUNNING and PASSING', passing);
  });

  it('raises a ping alert when it hangs, and clears it when it goes on', async () => {
    await allWell(site);
    const pid = pidOf(await site.instance('redis', 'PASSING', passing));
    process.kill(pid, 'SIGSTOP');
    try {
      const alert = await raised(site, 'ping_failing', { service: 'redis' });
      assert.equal(alert.machineName, 'cellar');
      assert.equal((await site.cli('status')).status, 1);
      const critical = await site.instance('redis', 'CRITICAL', (one) => one.health === 'HEALTH_CRITICAL');
      assert.equal(critical.pid, pid);
      process.kill(pid, 'SIGCONT');
      await cleared(site, alert);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    const well = await site.instance('redis', 'PASSING', passing);
    assert.equal(well.pid, pid);
    await allWell(site);
    assert.equal((await site.cli('status')).status, 0);
  });

  it('raises a port alert when nobody listens there any more, and clears it after repair', async () => {
    assert.equal(await redis('config', 'set', 'port', '0'), 'OK');
    const alert = await raised(site, 'port_down', { service: 'redis' });
    assert.match(String(alert.message), new RegExp(String(port)));
    assert.equal(await redis('config', 'set', 'port', String(port)), 'OK');
    await cleared(site, alert);
    await allWell(site);
  });

  it('is started again when somebody kills it', async () => {
    const before = await site.instance('redis', 'PASSING', passing);
    process.kill(pidOf(before), 'SIGKILL');
    const back = await site.instance(
      'redis',
      'RUNNING again',
      (instance) => running(instance) && instance.pid !== before.pid,
    );
    assert.equal(back.exitSignal, 'SIGKILL');
    assert.equal((back.restarts ?? 0) > 0, true);
    await allWell(site);
  });

  it('keeps its process over kill -9 of the agent, which has it back within 5 seconds', async () => {
    const before = await site.instance('redis', 'PASSING', passing);
    const id = runId(await redis('info', 'server'));
    await agent.process.end('SIGKILL');
    assert.equal(await redis('ping'), 'PONG');
    const { instance, tookMs, boundMs } = await adopted(agent, 'redis');
    assert.ok(tookMs < boundMs, `adopted after ${tookMs} ms of ${boundMs}`);
    assert.equal(instance.pid, before.pid);
    assert.equal(runId(await redis('info', 'server')), id);
    const seen = await site.instance('redis', 'PASSING', passing);
    assert.equal(seen.pid, before.pid);
    assert.ok((seen.restarts ?? 0) <= (before.restarts ?? 0), 'it was not started again');
    const offline = (await alertsOf(site)).filter((alert) => alert.kind === 'machine_offline');
    assert.deepEqual(offline, [], 'a machine that is back within its grace was never called offline');
  });

  it('is stopped for good: it stays so over a restart of the agent', async () => {
    assert.equal((await site.cli('stop', 'redis')).status, 0);
    await agent.process.end('SIGTERM');
    await agent.process.start();
    await site.instance('redis', 'STOPPED', stopped);
    assert.equal((await system('redis-cli', '-p', String(port), 'ping')).status, 1);
  });
});

function runId(info: string): string {
  return /run_id:(\w+)/.exec(info)?.[1] ?? '';
}
