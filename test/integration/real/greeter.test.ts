import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort, must, system, unless } from '../../support/debian.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { curl, passing } from './observe.js';

const GREETER = fileURLToPath(new URL('../../../examples/greeter', import.meta.url));

describe('counters and configuration of the sample, through kills', { skip: unless('curl') }, () => {
  let site: Site;
  let agent: TestAgent;
  let port: number;

  // A restart has ended when the process runs; it listens when it is loaded, and what is refused before has not been asked.
  const patient = ['--retry', '30', '--retry-delay', '1', '--retry-connrefused'];
  const greet = (): Promise<string> =>
    must('curl', '-sf', '--max-time', '60', ...patient, `http://127.0.0.1:${port}/?name=you`);
  const total = async (): Promise<number> => {
    const answer = (await site.json('counters', 'show', 'greetings')) as { counter?: { value?: number } };
    return answer.counter?.value ?? 0;
  };

  before(async () => {
    site = await Site.start();
    agent = await site.addAgent('hall');
    port = await freePort();
    const sample = await readFile(join(GREETER, 'muster.yaml'), 'utf8');
    const moved = sample.replaceAll('8090', String(port)).replaceAll('8091', String(await freePort()));
    await agent.declare('greeter', `${moved.trimEnd()}\ndirectory: ${GREETER}\n`);
    await site.instance('greeter', 'PASSING', passing);
  });

  after(() => site.close());

  it('counts every request once over kill -9 of the agent and of the center', async () => {
    let asked = 0;
    const ask = async (count: number): Promise<void> => {
      for (let one = 0; one < count; one += 1) {
        await greet();
        asked += 1;
      }
    };
    await ask(20);
    await agent.process.end('SIGKILL');
    await ask(20);
    await agent.process.start();
    await ask(20);
    await site.center.end('SIGKILL');
    await ask(20);
    await site.center.start();
    await ask(20);
    await waitFor(`${asked} greetings to be counted`, async () => (await total()) === asked);
    assert.equal((await curl(agent, '/services/greeter/restart', '-X', 'POST')).status, 200);
    await ask(5);
    await waitFor(`${asked} greetings to be counted`, async () => (await total()) === asked);
    await agent.process.end('SIGKILL');
    await site.center.end('SIGKILL');
    await site.center.start();
    await agent.process.start();
    await ask(1);
    await waitFor(`${asked} greetings to be counted`, async () => (await total()) === asked);

    // What it counted while the agent was away is not lost when it is told to end as soon as the agent is back.
    await agent.process.end('SIGKILL');
    await ask(50);
    await agent.process.start();
    assert.equal((await curl(agent, '/services/greeter/restart', '-X', 'POST')).status, 200);
    await ask(5);
    await waitFor(`${asked} greetings to be counted`, async () => (await total()) === asked);
  });

  it('has its configuration when it is restarted while the center is down', async () => {
    assert.equal((await site.cli('config', 'set', 'greeter', 'greeting=Moin')).status, 0);
    await waitFor('the new greeting', async () => (await greet()).includes('Moin'));
    await site.center.end('SIGKILL');
    assert.equal((await curl(agent, '/services/greeter/restart', '-X', 'POST')).status, 200);
    await waitFor(
      'greeter to answer',
      async () => (await system('curl', '-sf', `http://127.0.0.1:${port}/`)).status === 0,
    );
    await waitFor('its configuration', async () => (await greet()).includes('Moin'));
    await agent.process.end('SIGKILL');
    await agent.process.start();
    assert.equal((await curl(agent, '/services/greeter/restart', '-X', 'POST')).status, 200);
    await waitFor('its configuration', async () => (await greet()).includes('Moin'));
    await site.center.start();
    assert.equal((await site.cli('config', 'set', 'greeter', 'greeting=Hej')).status, 0);
    await waitFor('the next greeting', async () => (await greet()).includes('Hej'));
  });
});
