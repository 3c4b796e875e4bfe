import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { ProcessDriver } from '../../../../src/agent/services/process-driver.js';
import { InstanceRecords } from '../../../../src/agent/services/records.js';
import { groupMembers } from '../../../../src/agent/services/proc.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { createLogger } from '../../../../src/kit/logger.js';
import { readBootId, readProcess } from '../../../../src/kit/proc.js';
import { isCode, messageOf } from '../../../../src/kit/errors.js';
import { parseManifest } from '../../../../src/model/manifest.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { script, manifestText, openDirectory, Supervised, freePort } from '../../../support/supervised.js';
import { waitFor } from '../../../support/waiting.js';

const isRoot = process.getuid?.() === 0;

/** The failure of a call that must fail. */
async function failure(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => assert.fail('it should have failed'),
    (error: unknown) => error,
  );
}

async function linesOf(t: Supervised, service: string): Promise<string[]> {
  return (await t.log(service)).split('\n').filter((line) => line !== '');
}

describe('the process driver', () => {
  it('starts what is declared, in its own group, with an environment of its own', async (t) => {
    process.env['SECRET_OF_THE_AGENT'] = 'x';
    t.after(() => delete process.env['SECRET_OF_THE_AGENT']);
    const s = await Supervised.open(t, {
      'echo.yaml': script('echo', 'env; id; pwd; echo to-stderr >&2; exec sleep 1000', {
        env: { PORT: '80' },
        version: '1.2',
      }),
    });
    const report = await s.state('echo', 'RUNNING');
    assert.equal(report.wanted, true);
    assert.equal(report.exitCode, undefined);
    const facts = await readProcess(report.pid);
    assert.equal(facts?.group, report.pid);
    assert.equal(facts.session, report.pid);
    const lines = await linesOf(s, 'echo');
    assert.ok(lines.includes('PORT=80') && lines.includes('to-stderr'));
    assert.ok(lines.includes('MUSTER_SERVICE=echo') && lines.includes('MUSTER_RELEASE=1.2'));
    assert.ok(lines.includes(`MUSTER_LOG_DIR=${s.directory}/logs/echo`));
    assert.ok(lines.includes('MUSTER_AGENT=/nowhere/echo.sock'));
    assert.ok(lines.includes(`${s.directory}/services/echo/shared`));
    assert.ok(!lines.some((line) => line.includes('SECRET_OF_THE_AGENT')));
    if (isRoot)
      assert.ok(
        lines.some((line) => /^uid=\d+\(nobody\)/.test(line)),
        'root starts nothing as root unless told to',
      );
  });

  it('gives a user all of its groups', async (t) => {
    if (!isRoot) {
      t.skip('needs root');
      return;
    }
    const groups = await readFile('/etc/group', 'utf8');
    const member = /^[^:]+:[^:]*:(\d+):(?:[^:\n]*,)?(www-data|irc|man|games|daemon)/m.exec(groups)?.[2];
    const s = await Supervised.open(t, {
      'who.yaml': script('who', 'id; exec sleep 1000', { user: member ?? 'daemon' }),
    });
    await s.state('who', 'RUNNING');
    assert.match(await s.log('who'), new RegExp(`uid=\\d+\\(${member ?? 'daemon'}\\)`));
  });

  it('becomes root only when told to', async (t) => {
    if (!isRoot) {
      t.skip('needs root');
      return;
    }
    const s = await Supervised.open(t, { 'who.yaml': script('who', 'id -u; exec sleep 1000', { user: 'root' }) });
    await s.state('who', 'RUNNING');
    assert.deepEqual(await linesOf(s, 'who'), ['0']);
  });

  it('tries again after a quick end, then gives up and says why', async (t) => {
    const s = await Supervised.open(t, { 'bad.yaml': script('bad', 'echo "cannot open the database"; exit 3') });
    const seen: string[] = [];
    s.services.onChange(({ report }) => {
      if (report && seen.at(-1) !== report.state) seen.push(report.state);
    });
    const report = await s.state('bad', 'FATAL');
    assert.match(
      report.reason,
      /ended with code 3 after .*saying "cannot open the database"; given up after 2 tries: mend it, then "muster start bad"$/,
    );
    assert.equal(report.exitCode, 3);
    assert.deepEqual((await linesOf(s, 'bad')).length, 2);
    const error = await failure(s.services.start('bad'));
    assert.ok(isCode(error, 'precondition'));
    assert.match(
      messageOf(error),
      /bad did not start: ended with code 3[^]*It last printed:\n {2}cannot open the database/,
    );
    assert.ok(seen.includes('BACKOFF') && seen.includes('STARTING'));
  });

  it('stops the whole group, by force when it must, and says so', async (t) => {
    const s = await Supervised.open(t, {
      'deaf.yaml': script('deaf', 'trap "" TERM; sleep 1000 & sleep 1000 & wait; wait', { stop: { grace: '300ms' } }),
    });
    const { pid } = await s.state('deaf', 'RUNNING');
    await waitFor('the children', async () => (await groupMembers(pid)).length === 3);
    const report = await s.services.stop('deaf');
    assert.equal(report.state, 'STOPPED');
    assert.equal(report.wanted, false);
    assert.match(report.reason, /did not end in its grace time and was killed/);
    assert.equal(report.exitSignal, 'SIGKILL');
    assert.deepEqual(await groupMembers(pid), []);
  });

  it('ends gracefully with the signal of the manifest', async (t) => {
    const s = await Supervised.open(t, {
      'int.yaml': script('int', 'trap "echo bye; exit 0" INT; while :; do sleep 0.05; done', {
        stop: { signal: 'SIGINT' },
      }),
    });
    await s.state('int', 'RUNNING');
    const report = await s.services.stop('int');
    assert.deepEqual([report.state, report.reason, report.exitCode], ['STOPPED', '', 0]);
    assert.deepEqual(await linesOf(s, 'int'), ['bye']);
    assert.equal((await s.services.start('int')).state, 'RUNNING');
  });

  it('starts again what is killed by hand, and ends what that left behind', async (t) => {
    const s = await Supervised.open(t, { 'tough.yaml': script('tough', 'sleep 1000 & wait') });
    const first = await s.state('tough', 'RUNNING');
    await waitFor('the child', async () => (await groupMembers(first.pid)).length === 2);
    process.kill(first.pid, 'SIGKILL');
    const second = await waitFor('another process', () => {
      const report = s.services.get('tough');
      return report.state === 'RUNNING' && report.pid !== first.pid && report;
    });
    assert.equal(second.restarts, 1);
    assert.deepEqual(await groupMembers(first.pid), []);
  });

  it('leaves alone what is not wanted, across agents, until it is asked for', async (t) => {
    const s = await Supervised.open(t, { 'off.yaml': script('off', 'exec sleep 1000') });
    await s.state('off', 'RUNNING');
    await s.services.stop('off');
    await s.again();
    assert.deepEqual([s.services.get('off').state, s.services.get('off').wanted], ['STOPPED', false]);
    assert.equal((await s.services.start('off')).wanted, true);
  });

  it('a stop overtakes a start that is waiting', async (t) => {
    const s = await Supervised.open(t, { 'slow.yaml': script('slow', 'exec sleep 1000', { start: { settle: '1h' } }) });
    await s.state('slow', 'STARTING');
    const starting = failure(s.services.start('slow'));
    await s.services.stop('slow');
    assert.ok(isCode(await starting, 'conflict'));
    assert.equal(s.services.get('slow').state, 'STOPPED');
  });

  it('follows restart policies', async (t) => {
    const s = await Supervised.open(t, {
      'once.yaml': script('once', 'echo done', { restart: 'on-failure', start: { settle: '1h' } }),
      'never.yaml': script('never', 'exit 4', { restart: 'never' }),
    });
    const once = await s.state('once', 'EXITED');
    assert.equal(once.exitCode, 0);
    assert.match((await s.state('never', 'FATAL')).reason, /ended with code 4.*restart: never/);
    await s.again();
    assert.equal(s.services.get('once').state, 'EXITED', 'it is not run again by the next agent');
    assert.deepEqual(await linesOf(s, 'once'), ['done']);
    assert.equal((await s.services.start('once')).state, 'EXITED');
    assert.deepEqual(await linesOf(s, 'once'), ['done', 'done']);
    await s.again('another-boot');
    await waitFor('its run after a boot', async () => (await linesOf(s, 'once')).length === 3);
  });

  it('tells the end of a process to everyone who asks, also to who asked before it was known as started', async (t) => {
    const directory = await openDirectory(t);
    const store = await openMemoryStore();
    t.after(() => store.close());
    const records = new InstanceRecords(store);
    const driver = new ProcessDriver({
      records,
      clock: systemClock,
      logger: createLogger('silent'),
      bootId: await readBootId(),
      defaultUser: 'nobody',
      environmentOf: () => ({}),
    });
    const text = script('brief', 'exit 3');
    const places = { logDirectory: join(directory, 'logs'), sharedDirectory: join(directory, 'shared') };
    const unit = driver.unit(
      { manifest: parseManifest(text), ...places, workingDirectory: directory },
      () => undefined,
    );
    await records.update('brief', () => ({ wanted: true, manifestText: text, folder: '' }));
    await unit.start();
    const seen = await waitFor('its end', async () => {
      const now = await unit.observe();
      return now.kind === 'ended' && now;
    });
    assert.equal(seen.exit.code, 3);
    assert.deepEqual(await unit.observe(), seen);
  });

  it('says what is wrong with a manifest that cannot be run, without trying again', async (t) => {
    const s = await Supervised.open(t, {
      'command.yaml': manifestText({ name: 'command', command: ['no-such-program'] }),
      'path.yaml': manifestText({ name: 'path', command: ['/no/such/program'] }),
      'text.yaml': manifestText({ name: 'text', command: ['/etc/passwd'] }),
      'directory.yaml': manifestText({ name: 'directory', command: ['true'], directory: '/no/such/place' }),
      'user.yaml': manifestText({ name: 'user', command: ['true'], user: 'nobody-of-that-name' }),
    });
    const reason = async (service: string): Promise<string> => {
      const report = await s.state(service, 'FATAL');
      assert.equal(report.restarts, 0);
      return report.reason;
    };
    assert.match(await reason('command'), /"no-such-program" is in no directory of PATH .*: install it, or/);
    assert.match(await reason('path'), /\/no\/such\/program does not exist: correct "command"/);
    assert.match(await reason('text'), /\/etc\/passwd is not a program: make it executable/);
    assert.match(await reason('directory'), /working directory \/no\/such\/place cannot be used/);
    if (isRoot) assert.match(await reason('user'), /no user "nobody-of-that-name" on this machine: create it/);
    else assert.match(await reason('user'), /cannot run a service as nobody-of-that-name/);
  });

  it('names the user who may not execute a program, and says what to do', async (t) => {
    if (!isRoot) {
      t.skip('needs root');
      return;
    }
    const s = await Supervised.open(
      t,
      {},
      {
        prepare: async (directory) => {
          const program = join(directory, 'own');
          await writeFile(program, '#!/bin/sh\nexec sleep 1000\n', { mode: 0o700 });
          await writeFile(
            join(directory, 'manifests', 'own.yaml'),
            manifestText({ name: 'own', command: [program], start: { settle: '100ms' } }),
          );
        },
      },
    );
    assert.match(
      (await s.state('own', 'FATAL')).reason,
      /\/own cannot be run: user nobody may not execute it.*"user" in its manifest, or give nobody the permissions, then "muster start own"$/,
    );
  });

  it('runs the first program of PATH that its user may execute', async (t) => {
    if (!isRoot) {
      t.skip('needs root');
      return;
    }
    const places = async (directory: string): Promise<void> => {
      for (const [place, mode] of [
        ['first', 0o700],
        ['second', 0o755],
      ] as const) {
        await mkdir(join(directory, place));
        await writeFile(join(directory, place, 'tool'), '#!/bin/sh\nexec sleep 1000\n', { mode });
      }
    };
    const s = await Supervised.open(t, {}, { prepare: places });
    const PATH = `${s.directory}/first:${s.directory}/second:/usr/bin:/bin`;
    const more = { user: 'nobody', env: { PATH }, start: { settle: '100ms', retries: 0 } };
    await s.write('tool.yaml', manifestText({ name: 'tool', command: ['tool'], ...more }));
    await waitFor('the service', () => s.services.list().length === 1);
    await s.state('tool', 'RUNNING');
  });

  it('says that an interpreter is missing', async (t) => {
    const s = await Supervised.open(
      t,
      { 'odd.yaml': manifestText({ name: 'odd', command: ['./odd.sh'], directory: '/tmp/none' }) },
      {
        prepare: async (directory) => {
          await mkdir(join(directory, 'manifests', 'she'));
          await writeFile(join(directory, 'manifests', 'she', 'run'), '#!/no/interpreter\n', { mode: 0o755 });
          await writeFile(
            join(directory, 'manifests', 'she', 'muster.yaml'),
            manifestText({ name: 'she', command: ['./run'] }),
          );
        },
      },
    );
    assert.match((await s.state('she', 'FATAL')).reason, /the interpreter its first line names does not exist/);
  });

  it('names who holds a port, tries again, and starts once it is free', async (t) => {
    const port = await freePort();
    const holder = createServer();
    await new Promise<void>((done) => holder.listen(port, '127.0.0.1', done));
    t.after(() => holder.close());
    const s = await Supervised.open(t, {
      'web.yaml': script('web', 'exec sleep 1000', {
        ports: [{ name: 'http', port }],
        start: { settle: '100ms', retries: 50 },
      }),
    });
    const report = await s.state('web', 'BACKOFF');
    assert.match(
      report.reason,
      new RegExp(`port http \\(${port}\\) is taken by .*\\(pid ${process.pid}\\): stop what holds it`),
    );
    await new Promise((done) => holder.close(done));
    await s.state('web', 'RUNNING');
  });
});

describe('the services directory', () => {
  it('takes up, changes and drops services as files come and go', async (t) => {
    const s = await Supervised.open(t, { 'one.yaml': script('one', 'exec sleep 1000') });
    const one = await s.state('one', 'RUNNING');
    await s.write('two.yaml', script('two', 'exec sleep 1000'));
    const two = await waitFor('the second service', () =>
      s.services.list().find((report) => report.service === 'two' && report.pid > 0),
    );
    await s.write('two.yaml', script('two', 'exec sleep 1001'));
    await waitFor(
      'a restart',
      () => s.services.get('two').state === 'RUNNING' && s.services.get('two').pid !== two.pid,
    );
    await s.write('one.yaml', script('one', 'exec sleep 1000', { stop: { grace: '3s' } }));
    await waitFor('the change', () => s.services.manifest('one').stop.graceMs === 3000);
    assert.equal(s.services.get('one').pid, one.pid, 'a grace time is no reason to restart');
    const changes: unknown[] = [];
    s.services.onChange((change) => changes.push(change));
    await s.remove('one.yaml');
    await waitFor('its end', async () => (await readProcess(one.pid)) === undefined && s.services.list().length === 1);
    assert.deepEqual(changes.at(-1), { service: 'one', report: undefined });
  });

  it('keeps a service as it is while its file is broken, and says what is wrong', async (t) => {
    const s = await Supervised.open(t, { 'one.yaml': script('one', 'exec sleep 1000'), 'bad.yaml': 'name: [\n' });
    const { pid } = await s.state('one', 'RUNNING');
    assert.equal(s.services.broken().length, 1);
    await s.write('one.yaml', 'name: one\ncomand: [x]\n');
    await waitFor('the mistakes', () => s.services.broken().length === 2);
    assert.match(
      s.services
        .broken()
        .flatMap(({ errors }) => errors)
        .join('\n'),
      /one\.yaml:2:1: comand: there is no such field/,
    );
    assert.equal(s.services.get('one').pid, pid);
    await s.write('other.yaml', script('three', 'exec sleep 1000'));
    await s.write('three.yaml', script('three', 'exec sleep 1000'));
    await waitFor('the clash', () =>
      s.services.broken().some(({ errors }) => /declared in .*other.yaml already/.test(errors[0] ?? '')),
    );
  });

  it('stops what lost its manifest while no agent ran', async (t) => {
    const s = await Supervised.open(t, { 'one.yaml': script('one', 'exec sleep 1000') });
    const { pid } = await s.state('one', 'RUNNING');
    await s.letGo();
    await s.remove('one.yaml');
    await s.again();
    await waitFor('its end', async () => (await readProcess(pid)) === undefined);
    await waitFor('it to be forgotten', () => s.services.list().length === 0);
  });

  it('names the nearest service', async (t) => {
    const s = await Supervised.open(t, { 'orders.yaml': script('orders', 'exec sleep 1000') });
    assert.throws(
      () => s.services.get('order'),
      (error: unknown) => isCode(error, 'not_found') && /Did you mean "orders"/.test(messageOf(error)),
    );
  });
});

describe('assignments', () => {
  async function assign(s: Supervised, name: string, seconds: number, generation: number): Promise<void> {
    const text = script(name, `exec sleep ${seconds}`);
    await s.services.assign({ manifest: parseManifest(text), manifestText: text, generation }, () => undefined);
  }

  it('are taken over durably, newest generation last, and dropped with a stop', async (t) => {
    const s = await Supervised.open(t, {});
    await assign(s, 'given', 1000, 4);
    const first = await s.state('given', 'RUNNING');
    assert.deepEqual([...s.services.generations()], [['given', 4]]);
    assert.equal(first.generation, 4);
    await assign(s, 'given', 2000, 3);
    assert.equal(s.services.get('given').pid, first.pid, 'an older generation changes nothing');
    await s.again();
    assert.equal((await s.state('given', 'RUNNING')).pid, first.pid);
    await assign(s, 'given', 2000, 5);
    await waitFor(
      'a restart',
      () => s.services.get('given').state === 'RUNNING' && s.services.get('given').pid !== first.pid,
    );
    const { pid } = s.services.get('given');
    const heard: (string | undefined)[] = [];
    for (const service of ['given', 'unknown']) await s.services.unassign(service, 5, (problem) => heard.push(problem));
    await waitFor('its end', async () => (await readProcess(pid)) === undefined && s.services.list().length === 0);
    assert.deepEqual([...s.services.generations()], []);
    assert.deepEqual(heard, [undefined, undefined]);
  });
});

describe('adoption', () => {
  it('takes over what runs, with the same pid, and sees it end', async (t: TestContext) => {
    const s = await Supervised.open(t, { 'long.yaml': script('long', 'exec sleep 1000') });
    const before = await s.state('long', 'RUNNING');
    await s.again();
    const after = s.services.get('long');
    assert.deepEqual([after.state, after.pid, after.startedMs], ['RUNNING', before.pid, before.startedMs]);
    process.kill(before.pid, 'SIGKILL');
    await waitFor(
      'another process',
      () => s.services.get('long').state === 'RUNNING' && s.services.get('long').pid !== before.pid,
    );
  });

  it('after a boot, starts anew and touches no process of that number', async (t) => {
    const s = await Supervised.open(t, { 'long.yaml': script('long', 'exec sleep 1000') });
    const before = await s.state('long', 'RUNNING');
    await s.again('another-boot');
    const after = await s.state('long', 'RUNNING');
    assert.notEqual(after.pid, before.pid);
    assert.ok(await readProcess(before.pid), 'what has the old number now is not ours');
    process.kill(-before.pid, 'SIGKILL');
  });
});

describe('its own log file', () => {
  it('refuses a link in its place', async (t) => {
    const s = await Supervised.open(t, {
      'sly.yaml': script(
        'sly',
        'rm "$MUSTER_LOG_DIR/sly.log"; ln -s "$MUSTER_SHARED_DIR/x" "$MUSTER_LOG_DIR/sly.log"; exit 1',
      ),
    });
    assert.match((await s.state('sly', 'FATAL')).reason, /log file "sly.log" is a symbolic link/);
    assert.deepEqual(await readdir(join(s.directory, 'services/sly/shared')), []);
    assert.equal((await stat(join(s.directory, 'logs/sly'))).mode & 0o777, 0o750);
  });
});
