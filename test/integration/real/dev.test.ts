import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freePort, must, unless } from '../../support/debian.js';
import { muster, type CliResult, type InstanceJson } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { passing } from './observe.js';

const PROGRAM = fileURLToPath(new URL('../../../bin/muster.js', import.meta.url));
const GREETER = fileURLToPath(new URL('../../../examples/greeter', import.meta.url));
/** "Within a second" for people; more where a busy machine measures it. */
const CONFIG_SEEN_WITHIN_MS = 3000;

describe('muster dev, as somebody runs it who has just got it', { skip: unless('curl') }, () => {
  let data: string;
  let httpPort: number;
  let dev: ChildProcess;

  const cli = (...args: string[]): Promise<CliResult> =>
    muster(['--socket', join(data, 'center', 'admin.sock'), ...args]);

  const json = async (...args: string[]): Promise<unknown> => {
    const result = await cli(...args, '--json');
    assert.equal(result.status, 0, result.stderr);
    return JSON.parse(result.stdout) as unknown;
  };

  /** Everything this `muster dev` started carries this in its environment or its command line. */
  const leftovers = async (): Promise<string[]> => {
    const found: string[] = [];
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      const text = await Promise.all(
        ['cmdline', 'environ'].map((file) => readFile(join('/proc', pid, file), 'latin1').catch(() => '')),
      );
      if (pid !== String(process.pid) && text.some((one) => one.includes(data))) found.push(`${pid} ${text[0] ?? ''}`);
    }
    return found;
  };

  const begin = async (): Promise<void> => {
    dev = spawn(process.execPath, [PROGRAM, 'dev', '--data', data, '--json'], { stdio: 'ignore' });
    await greeter('RUNNING and PASSING', passing);
  };

  const end = async (): Promise<void> => {
    if (dev.exitCode !== null || dev.signalCode !== null) return;
    dev.kill('SIGINT');
    await once(dev, 'exit');
  };

  const greeter = (what: string, test: (instance: InstanceJson) => boolean): Promise<InstanceJson> =>
    waitFor(`greeter to be ${what}`, async () => {
      const { instances } = (await json('services')) as { instances?: InstanceJson[] };
      return instances?.find((one) => one.service === 'greeter' && test(one));
    });

  let asked = 0;
  const greet = async (): Promise<string> => {
    const answer = await must('curl', '-sf', '--max-time', '20', `http://127.0.0.1:${httpPort}/?name=you`);
    asked += 1;
    return answer;
  };

  const total = async (): Promise<number> => {
    const answer = (await json('counters', 'show', 'greetings')) as { counter?: { value?: number } };
    return answer.counter?.value ?? 0;
  };

  const pidOfPart = async (part: 'center' | 'queue' | 'agent'): Promise<number> => {
    const children = (await readFile(`/proc/${String(dev.pid)}/task/${String(dev.pid)}/children`, 'utf8')).split(' ');
    for (const child of children.filter(Boolean)) {
      const args = (await readFile(`/proc/${child}/cmdline`, 'utf8')).split('\0');
      if (args[2] === part) return Number(child);
    }
    throw new Error(`muster dev has no ${part}`);
  };

  before(async () => {
    data = await mkdtemp(join(tmpdir(), 'muster-dev-'));
    httpPort = await freePort();
    // The sample's own ports may be taken on a machine that runs several tests at once.
    const sample = await readFile(join(GREETER, 'muster.yaml'), 'utf8');
    const moved = sample.replaceAll('8090', String(httpPort)).replaceAll('8091', String(await freePort()));
    await mkdir(join(data, 'manifests'), { recursive: true });
    await writeFile(join(data, 'manifests', 'greeter.yaml'), `${moved.trimEnd()}\ndirectory: ${GREETER}\n`);
  });

  after(async () => {
    await end();
    await rm(data, { recursive: true, force: true });
  });

  it('has the sample RUNNING and PASSING', async () => {
    await begin();
    assert.match(await greet(), /you/);
    assert.equal((await cli('status')).status, 0);
  });

  it('has a queue that joined like any other, and that the center knows', async () => {
    const { queues } = await waitFor('the queue to be known', async () => {
      const answer = (await json('queues')) as { queues?: { name: string; address?: string; lastSeen?: string }[] };
      return answer.queues?.some((queue) => queue.address !== undefined) === true && answer;
    });
    assert.deepEqual(
      queues?.map(({ name }) => name),
      ['dev'],
    );
    assert.match(await readFile(join(data, 'queue.log'), 'utf8'), /the queue serves the network/);
  });

  it('counts exactly as many greetings as were asked for', async () => {
    const GREETINGS = 60;
    for (let count = 0; count < GREETINGS; count += 1) await greet();
    await waitFor(`${asked} greetings to be counted`, async () => (await total()) === asked);
  });

  it('changes its greeting within a moment, without a restart', async () => {
    const { pid } = await greeter('RUNNING', passing);
    assert.equal((await cli('config', 'set', 'greeter', 'greeting=Servus')).status, 0);
    await waitFor('the new greeting', async () => (await greet()).includes('Servus'), CONFIG_SEEN_WITHIN_MS);
    assert.equal((await greeter('RUNNING', passing)).pid, pid);
    await waitFor('the adoption to be known', async () => {
      const { machines } = (await json('config', 'adoption', 'greeter')) as { machines?: { applied?: string }[] };
      return machines?.every((machine) => Number(machine.applied) > 0);
    });
  });

  it('leaves nothing running after Ctrl-C, and knows all again at the next start', async () => {
    const { machines } = (await json('machines')) as { machines: { id: string }[] };
    await waitFor(`${asked} greetings to be counted`, async () => (await total()) === asked);
    const { revision } = (await json('config', 'get', 'greeter')) as { revision: string };
    await end();
    assert.equal(dev.exitCode, 0);
    assert.deepEqual(await leftovers(), []);
    await begin();
    const { machines: again } = (await json('machines')) as { machines: { id: string }[] };
    assert.deepEqual(
      again.map((machine) => machine.id),
      machines.map((machine) => machine.id),
    );
    assert.equal(await total(), asked, 'what was counted stays counted');
    assert.equal(((await json('config', 'get', 'greeter')) as { revision: string }).revision, revision);
    assert.match(await greet(), /Servus/);
  });

  it('starts a part again that is killed, and the sample keeps its process', async () => {
    const { pid } = await greeter('RUNNING', passing);
    const queue = await pidOfPart('queue');
    process.kill(queue, 'SIGKILL');
    await waitFor('another queue', async () => (await pidOfPart('queue')) !== queue);
    const health = ['call', '--agent-socket', join(data, 'queue', 'queue.sock'), 'grpc.health.v1.Health/Check'];
    await waitFor('the queue to answer', async () => (await muster(health)).status === 0);
    for (const part of ['center', 'agent'] as const) {
      const killed = await pidOfPart(part);
      process.kill(killed, 'SIGKILL');
      await waitFor(`another ${part}`, async () => (await pidOfPart(part)) !== killed);
      await waitFor('the machine to be online', async () => {
        const { machines } = (await json('machines')) as { machines: { online?: boolean }[] };
        return machines.every((machine) => machine.online === true);
      });
    }
    assert.equal((await greeter('RUNNING again', passing)).pid, pid);
    await end();
    assert.equal(dev.exitCode, 0);
    assert.deepEqual(await leftovers(), []);
  });

  it('leaves nothing running when Ctrl-C comes at any moment of its start', async () => {
    for (const afterMs of [150, 600, 1200, 1800]) {
      dev = spawn(process.execPath, [PROGRAM, 'dev', '--data', data, '--json'], { stdio: 'ignore' });
      await sleep(systemClock, afterMs);
      await end();
      assert.deepEqual(await leftovers(), [], `after ${afterMs} ms`);
    }
  });

  it('leaves nothing running when it is killed itself', async () => {
    await begin();
    dev.kill('SIGKILL');
    await once(dev, 'exit');
    await waitFor('nothing to be left', async () => (await leftovers()).length === 0);
  });
});
