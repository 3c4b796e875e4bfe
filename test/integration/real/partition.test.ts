import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { unless } from '../../support/debian.js';
import { Network } from '../../support/namespaces.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { alive, allWell, cleared, commandsOf, localInstance, pidOf, raised, running } from './observe.js';

const NOTED = fileURLToPath(new URL('programs/noted.mjs', import.meta.url));

interface MachineJson {
  readonly name: string;
  readonly online?: boolean;
  readonly lastContact: string;
  readonly address?: string;
}

describe('a center and two machines on three hosts', { skip: unless('root', 'ip', 'curl') }, () => {
  let network: Network;
  let site: Site;
  const agents = new Map<string, TestAgent>();

  const agentOf = (name: string): TestAgent => {
    const agent = agents.get(name);
    assert.ok(agent);
    return agent;
  };

  const machine = async (name: string): Promise<MachineJson> => (await site.json('machines', name)) as MachineJson;

  const becomes = (name: string, online: boolean): Promise<MachineJson> =>
    waitFor(`${name} to be ${online ? 'online' : 'offline'}`, async () => {
      const seen = await machine(name);
      return (seen.online ?? false) === online && seen;
    });

  const starts = async (name: string): Promise<number> =>
    (await readFile(join(agentOf(name).data, 'starts'), 'utf8')).trim().split('\n').length;

  before(async () => {
    network = await Network.create('center', 'east', 'west');
    const { address, prefix } = network.host('center');
    site = await Site.start({ prefix, listen: `${address}:7400` });
    for (const name of ['east', 'west']) {
      const agent = await site.addAgent(name, { side: name }, network.host(name));
      agents.set(name, agent);
      await agent.declare(
        'toy',
        [
          'name: toy',
          `command: [${process.execPath}, ${NOTED}, ${join(agent.data, 'starts')}]`,
          'start: { settle: 200ms }',
        ].join('\n'),
      );
    }
  });

  after(async () => {
    try {
      await site.close();
    } finally {
      await network.close();
    }
  });

  it('shows both machines where they are', async () => {
    for (const name of ['east', 'west']) {
      const seen = await becomes(name, true);
      assert.match(String(seen.address), new RegExp(network.host(name).address));
      const instance = await site.instance('toy', 'RUNNING', running, name);
      assert.equal(instance.pid, (await localInstance(agentOf(name), 'toy')).pid);
    }
    await allWell(site);
    const table = await site.cli('machines');
    assert.match(table.stdout, /east .*online/);
    assert.match(table.stdout, /west .*online/);
  });

  it('says what is known and since when while the link to one is down, and the truth when it is up again', async () => {
    const [east, west] = [agentOf('east'), agentOf('west')];
    const pids = { east: pidOf(await localInstance(east, 'toy')), west: pidOf(await localInstance(west, 'toy')) };
    const downAtMs = Date.parse((await machine('west')).lastContact);
    await network.linkDown('west');

    const away = await becomes('west', false);
    assert.ok(Date.parse(away.lastContact) >= downAtMs);
    const unknown = await site.instance('toy', 'unknown', (one) => one.unknownSince !== undefined, 'west');
    assert.equal(unknown.pid, pids.west, 'what was known last is still shown');
    const table = (await site.cli('services')).stdout;
    assert.match(table, /toy +west .*UNKNOWN since .* \(was RUNNING\)/);
    assert.match(table, /toy +east .*RUNNING/);
    assert.match((await site.cli('machines')).stdout, /west .*offline/);
    const alert = await raised(site, 'machine_offline', { machineName: 'west' });
    assert.equal((await site.cli('status')).status, 1);
    assert.equal(await alive(pids.west), true, 'on the machine all goes on');

    const expired = await site.cli('restart', 'toy', '--on', 'side=west', '--expires-in', '2s');
    assert.equal(expired.status, 1);
    assert.match(expired.stdout, /EXPIRED/);
    const waiting = site.cli('restart', 'toy', '--on', 'side=west', '--expires-in', '10m');
    await waitFor('the second one to be queued', async () =>
      (await commandsOf(site)).some((one) => one.machineName === 'west' && one.outcome === 'OUTCOME_QUEUED'),
    );
    assert.equal(await alive(pids.west), true, 'neither has run');
    const local = await curlRunning(west);
    assert.equal(local, pids.west, 'on the machine itself all is known');

    await network.linkUp('west');
    const done = await waiting;
    assert.equal(done.status, 0, done.stdout + done.stderr);
    assert.match(done.stdout, /west +toy +SUCCEEDED/);
    await becomes('west', true);
    const over = await cleared(site, alert);
    assert.equal(over.message, alert.message, 'what was said of the time without contact stays true');
    assert.equal(alert.message, 'machine west is not connected');
    const seen = await site.instance('toy', 'RUNNING', running, 'west');
    assert.equal(seen.pid, (await localInstance(west, 'toy')).pid);
    assert.notEqual(seen.pid, pids.west);
    // It runs before its own code has come to note that.
    await waitFor('its start to be noted', async () => (await starts('west')) >= 2);
    assert.equal(await starts('west'), 2, 'the one that expired did not run, the other ran once');
    assert.equal((await site.instance('toy', 'RUNNING', running, 'east')).pid, pids.east);
    await allWell(site);
  });

  it('comes back with the same processes when nothing was ordered meanwhile', async () => {
    const before = pidOf(await localInstance(agentOf('east'), 'toy'));
    await network.linkDown('east');
    await becomes('east', false);
    await network.linkUp('east');
    await becomes('east', true);
    const seen = await site.instance('toy', 'RUNNING', running, 'east');
    assert.equal(seen.pid, before);
    assert.equal(await starts('east'), 1);
  });

  it('notices when the center itself is cut off: every agent comes back', async () => {
    await network.linkDown('center');
    await becomes('east', false);
    await becomes('west', false);
    await network.linkUp('center');
    await becomes('east', true);
    await becomes('west', true);
    await allWell(site);
    assert.equal(await starts('east'), 1);
    assert.equal(await starts('west'), 2);
  });
});

async function curlRunning(agent: TestAgent): Promise<number> {
  const seen = await localInstance(agent, 'toy');
  assert.equal(running(seen), true);
  return pidOf(seen);
}
