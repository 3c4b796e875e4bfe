import assert from 'node:assert/strict';
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { agentData, AgentProcess, declare } from '../../support/agent-process.js';
import { waitFor } from '../../support/waiting.js';

const SLEEPER = 'name: sleeper\ncommand: [sleep, "3600"]\nstart: { settle: 100ms }\n';

/** Lets the agent die at once, then starts the next one. */
async function killed(agent: AgentProcess, data: string): Promise<AgentProcess> {
  await agent.end('SIGKILL');
  return AgentProcess.start(data);
}

/** Long enough that two looks at the services directory have passed: what is to be retired would be by then. */
async function twoLooks(t: TestContext, agent: AgentProcess, data: string): Promise<void> {
  const name = `witness-${t.name.length}`;
  const file = join(data, 'manifests', `${name}.yaml`);
  await declare(data, name, SLEEPER.replace('sleeper', name));
  await waitFor('the witness', async () => (await agent.ask('GET', `/services/${name}`)).status === 200);
  await rm(file);
  await waitFor('its end', async () => (await agent.ask('GET', `/services/${name}`)).status === 404);
}

describe('a service whose manifest cannot be used when its agent starts', () => {
  it('goes on while the file is broken, and ends when the file is gone', async (t) => {
    const data = await agentData(t);
    let agent = await AgentProcess.start(data);
    const { pid } = await agent.instance('sleeper', 'RUNNING');
    await declare(data, 'sleeper', 'name: [broken\n');
    for (let agents = 0; agents < 2; agents += 1) {
      agent = await killed(agent, data);
      assert.equal((await agent.instance('sleeper', 'RUNNING')).pid, pid);
    }
    await twoLooks(t, agent, data);
    assert.equal((await agent.instance('sleeper', 'RUNNING')).pid, pid);
    await agent.end('SIGKILL');
    await rm(join(data, 'manifests', 'sleeper.yaml'));
    agent = await AgentProcess.start(data);
    await waitFor('its end', async () => (await agent.ask('GET', '/services/sleeper')).status === 404);
    await agent.end();
  });

  it('goes on while the services directory is not there', async (t) => {
    const data = await agentData(t);
    const manifests = join(data, 'manifests');
    let agent = await AgentProcess.start(data);
    const { pid } = await agent.instance('sleeper', 'RUNNING');
    await rename(manifests, `${manifests}-away`);
    for (let agents = 0; agents < 2; agents += 1) {
      agent = await killed(agent, data);
      assert.equal((await agent.instance('sleeper', 'RUNNING')).pid, pid);
    }
    await rename(`${manifests}-away`, manifests);
    await twoLooks(t, agent, data);
    assert.equal((await agent.instance('sleeper', 'RUNNING')).pid, pid);
    assert.match((await agent.end()).log, /the services directory cannot be read, and its services go on/);
  });

  it('goes on while its folder leads nowhere', async (t) => {
    const data = await agentData(t);
    const folder = join(data, 'elsewhere');
    await mkdir(folder);
    await writeFile(join(folder, 'muster.yaml'), SLEEPER.replace('sleeper', 'linked'));
    await symlink(folder, join(data, 'manifests', 'linked'));
    let agent = await AgentProcess.start(data);
    const { pid } = await agent.instance('linked', 'RUNNING');
    await rename(folder, `${folder}-away`);
    agent = await killed(agent, data);
    await twoLooks(t, agent, data);
    assert.equal((await agent.instance('linked', 'RUNNING')).pid, pid);
    await agent.end();
  });
});
