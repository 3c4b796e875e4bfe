import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { unless } from '../../support/debian.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { alive, commandsOf, localInstance, pidOf, running } from './observe.js';

const NOTED = fileURLToPath(new URL('programs/noted.mjs', import.meta.url));
const LINGER_MS = 4000;

describe('kill -9 of the center', { skip: unless('curl') }, () => {
  let site: Site;
  const agents: TestAgent[] = [];

  const starts = async (agent: TestAgent, service: string): Promise<number> => {
    const file = join(agent.data, `${service}.starts`);
    return existsSync(file) ? (await readFile(file, 'utf8')).trim().split('\n').length : 0;
  };

  const declare = (agent: TestAgent, service: string, lingerMs: number): Promise<void> =>
    agent.declare(
      service,
      [
        `name: ${service}`,
        `command: [${process.execPath}, ${NOTED}, ${join(agent.data, `${service}.starts`)}, "${lingerMs}"]`,
        'start: { settle: 200ms }',
        'stop: { grace: 30s }',
      ].join('\n'),
    );

  before(async () => {
    site = await Site.start();
    for (const name of ['one', 'two']) {
      const agent = await site.addAgent(name);
      agents.push(agent);
      await declare(agent, 'quick', 0);
      await declare(agent, 'slow', LINGER_MS);
    }
    for (const { name } of agents) {
      await site.instance('quick', 'RUNNING', running, name);
      await site.instance('slow', 'RUNNING', running, name);
    }
  });

  after(() => site.close());

  const online = (): Promise<true> =>
    waitFor('both agents to be connected', async () => {
      const { machines } = (await site.json('machines')) as { machines: { online?: boolean }[] };
      return machines.filter((machine) => machine.online === true).length === agents.length;
    });

  it('agents come back, services keep their processes and nothing is run again', async () => {
    const before = await Promise.all(agents.map((agent) => localInstance(agent, 'quick')));
    for (let kill = 0; kill < 3; kill += 1) {
      await site.center.end('SIGKILL');
      const refused = await site.cli('services');
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, /muster:/);
      await site.center.start();
      await online();
    }
    for (const [index, agent] of agents.entries()) {
      const seen = await site.instance('quick', 'known again', running, agent.name);
      assert.equal(seen.pid, before[index]?.pid);
      assert.equal(seen.restarts ?? 0, 0);
      assert.equal(await starts(agent, 'quick'), 1);
    }
  });

  it('a command that runs meanwhile is neither lost nor run again, and its outcome becomes known', async () => {
    const [agent] = agents;
    assert.ok(agent);
    const before = pidOf(await localInstance(agent, 'slow'));
    const asked = site.cli('restart', 'slow', '--on', `machine=${agent.name}`);
    await waitFor('the command to be started', async () =>
      (await commandsOf(site)).some((one) => one.service === 'slow' && one.outcome === 'OUTCOME_STARTED'),
    );
    await site.center.end('SIGKILL');
    await site.center.start();
    const answer = await asked;
    assert.equal(answer.status, 0, 'the operator follows the command over the restart of the center');
    assert.match(answer.stdout, /SUCCEEDED/);
    assert.doesNotMatch(answer.stdout + answer.stderr, /UNKNOWN|unknown|not ordered/);
    const ended = await waitFor('the outcome', async () =>
      (await commandsOf(site)).find((one) => one.service === 'slow' && one.outcome === 'OUTCOME_SUCCEEDED'),
    );
    assert.equal(ended.machineName, agent.name);
    await online();
    const seen = await site.instance('slow', 'RUNNING', running, agent.name);
    assert.notEqual(seen.pid, before);
    assert.equal(await alive(before), false);
    // It runs before its own code has come to note that.
    await waitFor('its start to be noted', async () => (await starts(agent, 'slow')) >= 2);
    assert.equal(await starts(agent, 'slow'), 2);
  });

  it('commands for a machine that is away wait over it, run once when it is back, or expire', async () => {
    const [, agent] = agents;
    assert.ok(agent);
    await agent.process.end('SIGKILL');
    await site.instance('quick', 'unknown', (one) => one.unknownSince !== undefined, agent.name);
    const kept = site.cli('restart', 'quick', '--on', `machine=${agent.name}`, '--expires-in', '10m');
    const short = await site.cli('restart', 'slow', '--on', `machine=${agent.name}`, '--expires-in', '1s');
    assert.equal(short.status, 1);
    assert.match(short.stdout, /EXPIRED/);
    await waitFor('the command to be queued', async () =>
      (await commandsOf(site)).some((one) => one.machineName === agent.name && one.outcome === 'OUTCOME_QUEUED'),
    );
    await site.center.end('SIGKILL');
    await site.center.start();
    const queued = (await commandsOf(site)).find((one) => one.outcome === 'OUTCOME_QUEUED');
    assert.ok(queued);
    assert.equal(queued.service, 'quick');
    await agent.process.start();
    await waitFor('the command to be done', async () =>
      (await commandsOf(site)).some((one) => one.id === queued.id && one.outcome === 'OUTCOME_SUCCEEDED'),
    );
    const told = await kept;
    assert.equal(told.status, 0, told.stdout);
    assert.match(told.stdout, /SUCCEEDED/);
    await waitFor('its start to be noted', async () => (await starts(agent, 'quick')) >= 2);
    assert.equal(await starts(agent, 'quick'), 2);
    assert.equal(await starts(agent, 'slow'), 1, 'what expired was not run');
  });
});
