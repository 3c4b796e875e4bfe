import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { TailLogRequest } from '../../../generated/muster/v1/center.js';
import { joinAgent } from '../../../src/agent/main.js';
import { errnoOf } from '../../../src/kit/errors.js';
import { agentData, AgentProcess, declare } from '../../support/agent-process.js';
import { http } from '../../support/local-agent.js';
import { realCenter } from '../../support/real-center.js';
import { waitFor } from '../../support/waiting.js';

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('without a center: services run, are moved over HTTP, and outlive the agent ended by SIGTERM and by SIGKILL', async (t) => {
  const data = await agentData(t);
  const first = await AgentProcess.start(data, { loopbackGrpc: 0, loopbackHttp: 0 });
  assert.equal(first.ready.machine, '');
  const { pid } = await first.instance('sleeper', 'RUNNING');
  assert.equal((await first.ask('POST', '/services/sleeper/stop')).status, 200);
  assert.equal(alive(pid), false);
  assert.equal((await first.ask('POST', '/services/sleeper/start')).status, 200);
  const started = await first.instance('sleeper', 'RUNNING');
  const own = join(data, 'run', 'services', 'sleeper.sock');
  assert.equal((await http({ socketPath: own, path: '/services/sleeper' })).status, 200);

  const { code, log } = await first.end('SIGTERM');
  assert.equal(code, 0, log);
  assert.equal(existsSync(first.ready.socket), false);
  assert.ok(alive(started.pid));

  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const next = await AgentProcess.start(data);
    assert.equal((await next.instance('sleeper', 'RUNNING')).pid, started.pid);
    await waitFor('its socket', async () => (await http({ socketPath: own, path: '/healthz' })).status === 200);
    await next.end(signal);
  }
  assert.ok(alive(started.pid));
});

test('a second agent on the same data directory is refused by name', async (t) => {
  const data = await agentData(t);
  const first = await AgentProcess.start(data);
  await assert.rejects(AgentProcess.start(data), new RegExp(`pid ${first.pid}`));
  await first.end();
});

test('a service that leaves takes its socket with it', async (t) => {
  const data = await agentData(t);
  await declare(data, 'extra', 'name: extra\ncommand: [sleep, "3600"]\nstart: { settle: 100ms }\n');
  const agent = await AgentProcess.start(data);
  await agent.instance('extra', 'RUNNING');
  const socket = join(data, 'run', 'services', 'extra.sock');
  assert.ok(existsSync(socket));
  await rm(join(data, 'manifests', 'extra.yaml'));
  await waitFor('the socket to go', () => !existsSync(socket));
  assert.equal((await agent.ask('GET', '/services/extra')).status, 404);
  await agent.end();
});

test('a store that cannot write ends the agent with the reason, and the service runs on', async (t) => {
  const data = await agentData(t);
  const agent = await AgentProcess.start(data);
  const { pid } = await agent.instance('sleeper', 'RUNNING');
  try {
    await promisify(execFile)('prlimit', ['--pid', String(agent.pid), '--fsize=1']);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    await agent.end();
    t.skip('needs prlimit');
    return;
  }
  await agent.ask('POST', '/services/sleeper/stop').catch(() => undefined);
  const { code, log } = await agent.exit;
  assert.equal(code, 1, log);
  assert.match(log, /FAILED the agent's data could not be written/);
  assert.doesNotMatch(log, /UNHANDLED/);
  t.diagnostic(`the service ${alive(pid) ? 'runs on' : 'was stopped by the order under way'}`);
});

test('with a center that is killed and comes back, and an agent that is killed: commands work, the pid stays', async (t) => {
  const data = await agentData(t);
  const center = await realCenter(t, { heartbeatMs: 500 });
  await joinAgent({ data, center: center.ready.address, token: await center.token(), name: 'web-1', labels: {} });
  const first = await AgentProcess.start(data);
  assert.equal(first.ready.machineName, 'web-1');
  const run = async (action: 'ACTION_RESTART' | 'ACTION_STOP', requestId: string): Promise<string> => {
    const { id } = await center.operator.runCommand({
      machine: 'web-1',
      service: 'sleeper',
      action,
      expiresIn: undefined,
      requestId,
      reason: '',
    });
    let outcome = '';
    for await (const command of center.operator.watchCommand({ id })) outcome = command.outcome;
    return outcome;
  };
  const online = (): Promise<boolean> =>
    waitFor('the machine online', async () => (await center.operator.getMachine({ machine: 'web-1' })).online);
  await online();
  await first.instance('sleeper', 'RUNNING');
  assert.equal(await run('ACTION_RESTART', 'r-1'), 'OUTCOME_SUCCEEDED');
  const { pid } = await first.instance('sleeper', 'RUNNING');
  await first.end('SIGKILL');
  const second = await AgentProcess.start(data);
  await online();
  assert.equal((await second.instance('sleeper', 'RUNNING')).pid, pid);
  assert.equal(await run('ACTION_STOP', 'r-2'), 'OUTCOME_SUCCEEDED');
  const lines: string[] = [];
  for await (const line of center.operator.tailLog(
    TailLogRequest.fromPartial({ machine: 'web-1', service: 'sleeper', lines: 5 }),
  ))
    lines.push(line.text);
  await second.end();
  await waitFor('the machine offline', async () => !(await center.operator.getMachine({ machine: 'web-1' })).online);
});
