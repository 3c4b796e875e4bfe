import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { freePort, unless } from '../../support/debian.js';
import { muster, ServerProcess, Site, type CliResult, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { alive, pidOf, raised, running, stopped } from './observe.js';

describe('bad input has a clear outcome', { skip: unless('curl') }, () => {
  let site: Site;
  let agent: TestAgent;

  before(async () => {
    site = await Site.start();
    agent = await site.addAgent('web-1', { role: 'web' });
    await agent.declare('toy', 'name: toy\ncommand: [sleep, infinity]\nstart: { settle: 100ms }\n');
    await site.instance('toy', 'RUNNING', running);
  });

  after(() => site.close());

  const add = async (manifest: string, ...options: string[]): Promise<CliResult> => {
    const file = join(site.directory, 'given.yaml');
    await writeFile(file, manifest);
    return site.cli('services', 'add', file, ...options);
  };

  it('a malformed manifest: every mistake with its line, column and what was expected', async () => {
    const result = await add(
      'name: shop\ncomand: [node]\nports:\n  - { name: http, port: 99999 }\nstop: { grace: ten }\n',
    );
    assert.equal(result.status, 1);
    assert.match(result.stderr, /:2:1: .*command/);
    assert.match(result.stderr, /:4:\d+: .*99999.*65535/s);
    assert.match(result.stderr, /:5:\d+: .*ten.*10s/);
    const noYaml = await add('name: [\n');
    assert.equal(noYaml.status, 1);
    assert.match(noYaml.stderr, /:\d+:\d+: /);
  });

  it("a malformed manifest in the machine's own directory: said by the agent, the service of before goes on", async () => {
    await agent.declare('broken', 'name: broken\ncommand: sleep 1\n');
    const said = await waitFor('the agent to say so', async () => {
      const result = await muster(['--agent-socket', agent.socket, 'services']);
      return result.stderr.includes('broken') && result.stderr;
    });
    assert.match(said, /:2:10: .*list/s);
    assert.equal((await site.cli('services', 'toy')).status, 0);
    await agent.declare('broken', 'name: broken\ncommand: [sleep, infinity]\nstart: { settle: 100ms }\n');
    await site.instance('broken', 'RUNNING', running);
  });

  it('unknown names: the nearest one is named', async () => {
    const service = await site.cli('restart', 'tiy');
    assert.equal(service.status, 1);
    assert.match(service.stderr, /tiy.*Did you mean.*toy/s);
    const machine = await site.cli('machines', 'web-2');
    assert.equal(machine.status, 1);
    assert.match(machine.stderr, /web-2.*web-1/s);
    const selector = await site.cli('restart', 'toy', '--on', 'role=wib');
    assert.equal(selector.status, 1);
    assert.match(selector.stderr, /web-1/);
    const wrong = await site.cli('restart', 'toy', '--on', 'role==');
    assert.notEqual(wrong.status, 0);
    const local = await muster(['--agent-socket', agent.socket, 'stop', 'tiy']);
    assert.match(local.stderr, /Did you mean.*toy/s);
    const command = await muster(['machnes']);
    assert.equal(command.status, 2);
    assert.match(command.stderr, /Did you mean.*machines/s);
  });

  it('an occupied port: said with who holds it, and over when it is free', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const address = holder.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    await agent.declare(
      'late',
      [
        'name: late',
        `command: [${process.execPath}, -e, "require('net').createServer().listen(${port}, '127.0.0.1')"]`,
        `ports: [{ name: http, port: ${port} }]`,
        'start: { settle: 100ms, retries: 1000 }',
      ].join('\n'),
    );
    const waiting = await site.instance('late', 'in BACKOFF', (one) => one.state === 'SERVICE_STATE_BACKOFF');
    assert.match(String(waiting.reason), new RegExp(`${port}.*${process.pid}`, 's'));
    holder.close();
    await once(holder, 'close');
    await site.instance('late', 'RUNNING', running);
  });

  it('a command that does not exist: FATAL at once, saying so', async () => {
    await agent.declare('ghost', 'name: ghost\ncommand: [/usr/bin/no-such-program]\n');
    const ghost = await site.instance('ghost', 'FATAL', (one) => one.state === 'SERVICE_STATE_FATAL');
    assert.match(String(ghost.reason), /no-such-program/);
    assert.equal(ghost.restarts ?? 0, 0);
    await raised(site, 'service_fatal', { service: 'ghost' });
    const start = await site.cli('start', 'ghost');
    assert.equal(start.status, 1);
    assert.match(start.stdout, /FAILED.*no-such-program/s);
  });

  it('a service that exits at once: tried again, then FATAL with its exit code and last words', async () => {
    await agent.declare(
      'brief',
      'name: brief\ncommand: [sh, -c, "echo out of coffee; exit 3"]\nstart: { settle: 200ms, retries: 1 }\n',
    );
    const brief = await site.instance('brief', 'FATAL', (one) => one.state === 'SERVICE_STATE_FATAL');
    assert.equal(brief.exitCode, 3);
    assert.match(String(brief.reason), /3.*out of coffee/s);
  });

  it('a stop that hangs: ended by force, and said', async () => {
    await agent.declare(
      'deaf',
      [
        'name: deaf',
        `command: [sh, -c, "trap '' TERM; while :; do sleep 1; done"]`,
        'start: { settle: 200ms }',
        'stop: { grace: 1s }',
      ].join('\n'),
    );
    const pid = pidOf(await site.instance('deaf', 'RUNNING', running));
    const stop = await site.cli('stop', 'deaf');
    assert.equal(stop.status, 0, stop.stdout);
    const resting = await site.instance('deaf', 'STOPPED', stopped);
    assert.match(String(resting.reason), /killed/);
    assert.match(stop.stdout, /killed/, 'the one who stopped it is told');
    assert.equal(await alive(pid), false);
  });

  it('a token that is used, expired, guessed or of another center', async () => {
    const address = String(site.center.ready['address']);
    const join_ = (token: string, name: string): Promise<CliResult> =>
      muster(['agent', 'join', address, '--token', token, '--name', name, '--data', join(site.directory, name)]);
    const { token } = (await site.json('token', 'create')) as { token: string };
    assert.equal((await join_(token, 'second')).status, 0);
    const used = await join_(token, 'third');
    assert.equal(used.status, 1);
    assert.match(used.stderr, /used.*muster token create/s);

    const { token: short, id } = (await site.json('token', 'create', '--lifetime', '1s')) as {
      token: string;
      id: string;
    };
    await waitFor('the token to be gone', async () => {
      const { tokens } = (await site.json('token', 'ls')) as { tokens?: { id: string }[] };
      return (tokens ?? []).every((one) => one.id !== id);
    });
    const expired = await join_(short, 'fourth');
    assert.equal(expired.status, 1);
    assert.match(expired.stderr, /expired.*muster token create/s);

    const guessed = await join_(
      token.replace(/^./, (first) => (first === 'a' ? 'b' : 'a')),
      'fifth',
    );
    assert.equal(guessed.status, 1);
    assert.match(guessed.stderr, /does not know the token.*muster token create/s);
    assert.match((await join_('nonsense', 'sixth')).stderr, /token/);
    const taken = (await site.json('token', 'create')) as { token: string };
    const again = await join_(taken.token, 'web-1');
    assert.equal(again.status, 1);
    assert.match(again.stderr, /web-1/);

    const other = await Site.start();
    try {
      const { token: foreign } = (await other.json('token', 'create')) as { token: string };
      const wrong = await join_(foreign, 'seventh');
      assert.equal(wrong.status, 1);
      assert.match(wrong.stderr, /CA/);
      const { tokens } = (await other.json('token', 'ls')) as { tokens?: unknown[] };
      assert.ok((tokens ?? []).length > 0, 'the foreign center does not hear of it: its token is not used up');
    } finally {
      await other.close();
    }
  });

  it('a data directory of a newer version, or in use: refused, and left as it is', async () => {
    const twice = new ServerProcess('a second agent', ['agent', '--data', agent.data, '--no-loopback'], {
      log: join(site.directory, 'twice.log'),
    });
    await assert.rejects(twice.start(), new RegExp(`running.*${agent.process.pid}`, 's'));
    const data = join(site.directory, 'newer');
    const center = new ServerProcess('a center', ['center', '--data', data, '--listen', '127.0.0.1:0'], {
      log: join(site.directory, 'newer.log'),
    });
    await center.start();
    await center.end('SIGTERM');
    const schema = { name: 'center', migrations: [() => Promise.resolve([])] };
    await (await openLevelStore({ path: join(data, 'state'), schema })).close();
    await assert.rejects(center.start(), /newer/);
    const ofAgent = join(site.directory, 'of-an-agent');
    await (await openLevelStore({ path: join(ofAgent, 'state'), schema: { name: 'agent', migrations: [] } })).close();
    const stranger = new ServerProcess('a center', ['center', '--data', ofAgent, '--listen', '127.0.0.1:0'], {
      log: join(site.directory, 'of-an-agent.log'),
    });
    await assert.rejects(stranger.start(), /data of .*agent.*, not of .*center/);
  });

  it('no center, wrong address: said with what to do', async () => {
    const gone = await muster(['--socket', join(site.directory, 'nothing.sock'), 'machines']);
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /nothing\.sock.*running/s);
    const port = await freePort();
    const { token } = (await site.json('token', 'create')) as { token: string };
    const refused = await muster([
      ...['agent', 'join', `127.0.0.1:${port}`, '--token', token, '--data', join(site.directory, 'lost')],
    ]);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, new RegExp(`127\\.0\\.0\\.1:${port}`));
  });
});
