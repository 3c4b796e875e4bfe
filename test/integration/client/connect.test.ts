import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { clientsAt, MACHINE, relay, startAgentHost, startCenterHost } from '../../support/hops.js';
import { waitFor } from '../../support/waiting.js';
import { programArgs } from '../../support/program.js';

const HOST = fileURLToPath(new URL('../../support/library-host', import.meta.url));

interface Program {
  readonly said: Record<string, unknown>[];
  readonly complained: () => string;
  /** Ends its input. */
  end(): void;
  /** Its exit code. */
  readonly ended: Promise<number | null>;
}

function run(t: TestContext, mode: 'end' | 'follow' | 'follow refuse', agent: string): Program {
  const env = { ...process.env, MUSTER_AGENT: agent };
  const child = spawn(process.execPath, programArgs(HOST, ...mode.split(' ')), {
    env,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  const said: Record<string, unknown>[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => said.push(JSON.parse(line) as Record<string, unknown>));
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  const end = (): void => {
    child.stdin.end();
  };
  return { said, complained: () => errors, end, ended };
}

async function startSite(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'muster-library-'));
  const center = await startCenterHost(join(directory, 'center'), ['orders']);
  const options = { center: `unix:${join(directory, 'center', 'agent.sock')}`, services: ['orders'] };
  const start = () => startAgentHost(join(directory, 'agent'), options);
  const site = { center, agent: await start(), socket: join(directory, 'agent', 'orders.sock') };
  relay(center, site.agent);
  const operator = clientsAt(join(directory, 'center', 'operator.sock'));
  t.after(async () => {
    operator.close();
    await site.agent.close();
    await center.close();
    await rm(directory, { recursive: true, force: true });
  });
  const restartAgent = async (whileAway: () => Promise<void>): Promise<void> => {
    await site.agent.close();
    await whileAway();
    site.agent = await start();
    relay(center, site.agent);
    const revision = center.configs.revisionOf('orders', MACHINE.id);
    site.agent.config.refresh('orders', revision);
  };
  const publish = (text: string) =>
    operator.config.publish({ scope: { service: 'orders', machine: '' }, text, etag: '', comment: '', requestId: '' });
  return { site, operator, publish, restartAgent };
}

describe('a program that links the library', () => {
  it('works with its defaults without an agent, says so once, and ends by itself', async (t) => {
    const program = run(t, 'end', '');
    program.end();
    assert.equal(await program.ended, 0);
    assert.deepEqual(program.said[0], { config: { greeting: 'default' }, revision: 0 });
    assert.match(String(program.said[1]?.['certificate']), /MUSTER_AGENT is not set/);
    assert.equal(program.complained().match(/MusterWarning/g)?.length, 1, program.complained());
    assert.match(program.complained(), /MUSTER_AGENT is not set/);
  });

  it('goes on with its defaults when the agent does not answer', async (t) => {
    const program = run(t, 'end', join(tmpdir(), 'no-such-agent.sock'));
    program.end();
    assert.equal(await program.ended, 0);
    assert.deepEqual(program.said[0], { config: { greeting: 'default' }, revision: 0 });
    assert.match(program.complained(), /no contact with the agent/);
    assert.match(program.complained(), /counts of this process may be lost/);
  });

  it('is not kept alive by the library, and its last counts arrive', async (t) => {
    const { site, operator, publish } = await startSite(t);
    await publish('greeting: Hello');
    await waitFor('the agent to hold it', () => site.agent.config.of('orders').held === 1);
    const program = run(t, 'end', site.socket);
    program.end();
    assert.equal(await program.ended, 0);
    assert.deepEqual(program.said[0], { config: { greeting: 'Hello' }, revision: 1 });
    assert.equal(program.complained(), '');
    await waitFor('the count to arrive', async () => {
      const { counter } = await operator.counter.query({ service: 'orders', name: 'runs' });
      return counter?.value === 1;
    });
    await waitFor('the revision to be reported', () => site.agent.config.of('orders').applied === 1);
  });

  it('follows changes, refuses bad ones, keeps the last good one, over a restart of the agent', async (t) => {
    const { site, operator, publish, restartAgent } = await startSite(t);
    const program = run(t, 'follow', site.socket);
    const saw = (what: string, wanted: Record<string, unknown>) =>
      waitFor(what, () =>
        program.said.find((one) => JSON.stringify(one).includes(JSON.stringify(wanted).slice(1, -1))),
      );
    await saw('the start', { config: { greeting: 'default' }, revision: 0 });
    await publish('greeting: Hello');
    await saw('the first change', { changed: { greeting: 'Hello' }, revision: 1, still: { greeting: 'default' } });
    await waitFor('the first to be applied', () => site.agent.config.of('orders').applied === 1);

    await publish('greeting: 7');
    const fact = { machine: MACHINE, service: 'orders', configHeld: 2, configApplied: 1 };
    site.center.fleet.facts.push(fact);
    await waitFor('the refusal to be reported', async () => {
      const { machines } = await operator.config.getAdoption({ service: 'orders' });
      return machines[0]?.error === 'greeting must be text' && machines[0].applied === 1;
    });
    await publish('greeting: Servus');
    await saw('the third change', { changed: { greeting: 'Servus' }, revision: 3, still: { greeting: 'Hello' } });
    assert.ok(!program.said.some(({ revision }) => revision === 2));

    await restartAgent(async () => {
      await publish('greeting: Moin');
    });
    await saw('the change after the restart', { changed: { greeting: 'Moin' }, revision: 4 });
    await waitFor('it to be applied', () => site.agent.config.of('orders').applied === 4);
    program.end();
    assert.equal(await program.ended, 0, program.complained());
  });

  it('may take back that it uses the first configuration', async (t) => {
    const { site, publish } = await startSite(t);
    await publish('greeting: Hello');
    await waitFor('the agent to hold it', () => site.agent.config.of('orders').held === 1);
    site.center.fleet.facts.push({ machine: MACHINE, service: 'orders', configHeld: 1, configApplied: 0 });
    const program = run(t, 'follow refuse', site.socket);
    const { applied } = await waitFor('the refusal to arrive', () =>
      site.center.configs.adoption('orders').find(({ error }) => error === 'not this one'),
    );
    assert.equal(applied, 0);
    program.end();
    assert.equal(await program.ended, 0, program.complained());
  });
});
