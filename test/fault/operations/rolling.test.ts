import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { at, begin, CountedService, ended, outcomesOf, shown, until } from '../../support/operations-site.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';

const MUSTER = fileURLToPath(new URL('../../../bin/muster.js', import.meta.url));
const LINES = 30_000;
const NAMES = ['web-1', 'web-2', 'web-3', 'web-4'] as const;

describe('operations over agents that are real processes', () => {
  let site: Site;
  const agents: TestAgent[] = [];
  let slow: CountedService[] = [];
  let quick: CountedService[] = [];

  const counts = (services: readonly CountedService[]): Promise<number[]> =>
    Promise.all(services.map((service) => service.starts()));

  const agent = (name: string): TestAgent => {
    const found = agents.find((one) => one.name === name);
    assert.ok(found, name);
    return found;
  };

  before(async () => {
    site = await Site.start();
    for (const name of NAMES) agents.push(await site.addAgent(name, { role: 'web' }));
    slow = agents.map((one) => new CountedService(one, 'slow'));
    quick = agents.map((one) => new CountedService(one, 'quick'));
    for (const service of slow) await service.declare(3);
    for (const service of quick) await service.declare();
    for (const name of NAMES) {
      await site.instance('slow', 'RUNNING', ({ state }) => state === 'SERVICE_STATE_RUNNING', name);
      await site.instance('quick', 'RUNNING', ({ state }) => state === 'SERVICE_STATE_RUNNING', name);
    }
  });

  after(() => site.close());

  it('restart each once, though the center is killed half way and an agent during its command', async () => {
    const earlier = await counts(slow);
    const id = await begin(site, 'restart', 'slow', '--batch', '1');
    await until(site, id, 'on web-1', at('web-1', 'STARTED'));
    await site.center.end('SIGKILL');
    await site.center.start();
    await until(site, id, 'on web-3', at('web-3', 'STARTED'));
    await agent('web-3').process.end('SIGKILL');
    await agent('web-3').process.start();
    const over = await ended(site, id);
    assert.deepEqual(outcomesOf(over), ['web-1 SUCCEEDED', 'web-2 SUCCEEDED', 'web-3 UNKNOWN', 'web-4 SUCCEEDED']);
    assert.equal(over.operation.state, 'OPERATION_STATE_PARTIAL');
    const more = (await counts(slow)).map((count, index) => count - (earlier[index] ?? 0));
    assert.deepEqual([more[0], more[1], more[3]], [1, 1, 1]);
    assert.ok((more[2] ?? 9) <= 1, `web-3 was started ${more[2]} times`);
  });

  it('is refused while another has the service, naming it; waits its turn on wish; pauses, goes on, and can be cancelled', async () => {
    const first = await begin(site, 'restart', 'slow', '--batch', '1');
    const refused = await site.cli('restart', 'slow');
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, new RegExp(`operation ${first}.*--wait`));
    const second = await begin(site, 'restart', 'slow', '--wait');
    assert.equal((await shown(site, second)).operation.state, 'OPERATION_STATE_WAITING');

    assert.equal((await site.cli('ops', 'pause', first)).status, 0);
    const paused = await until(site, first, 'at rest in its pause', (found) =>
      outcomesOf(found).every((one) => !/STARTED|DELIVERED/.test(one)),
    );
    assert.equal(paused.operation.state, 'OPERATION_STATE_PAUSED');
    const waiting = outcomesOf(paused).filter((one) => one.endsWith('PENDING')).length;
    assert.ok(waiting > 0, 'nothing was left for after the pause');
    assert.equal((await site.cli('ops', 'resume', first)).status, 0);
    await until(site, first, 'on its way again', (found) => outcomesOf(found).some((one) => one.endsWith('STARTED')));
    assert.equal((await site.cli('ops', 'cancel', first)).status, 0);
    const over = await ended(site, first);
    assert.equal(over.operation.state, 'OPERATION_STATE_CANCELLED');
    const spared = over.targets.filter(({ outcome }) => outcome === 'OUTCOME_CANCELLED');
    assert.ok(spared.length > 0, 'the cancel came too late');
    for (const { outcome } of over.targets) assert.match(outcome, /SUCCEEDED|CANCELLED/, 'what had started ended');

    const behind = await ended(site, second);
    assert.equal(behind.operation.state, 'OPERATION_STATE_SUCCEEDED', behind.operation.message);
    const nothing = await site.cli('ops', 'retry', first);
    assert.notEqual(nothing.status, 0);
    assert.match(nothing.stderr, /--include-cancelled/);
    const retried = await site.cli('ops', 'retry', first, '--include-cancelled');
    assert.equal(retried.status, 0, retried.stdout + retried.stderr);
    for (const { machineName, outcome } of over.targets) {
      // Of a single target the service is said too.
      const again = new RegExp(`${machineName} {2}(?:slow {2})?SUCCEEDED`).test(retried.stdout);
      assert.equal(again, outcome === 'OUTCOME_CANCELLED', `${machineName}: ${retried.stdout}`);
    }
  });

  it('a machine that is away waits its time and then expires; one that comes back in time is served', async () => {
    const earlier = await counts(quick);
    await agent('web-2').process.end('SIGKILL');
    await waitFor('web-2 to be seen away', async () => /web-2.*offline/.test((await site.cli('machines')).stdout));
    const late = await ended(site, await begin(site, 'restart', 'quick', '--queue-for', '1s', '--on', 'machine=web-2'));
    assert.deepEqual(outcomesOf(late), ['web-2 EXPIRED']);
    const id = await begin(site, 'restart', 'quick', '--queue-for', '5m');
    await until(site, id, 'waiting for web-2 alone', (found) =>
      outcomesOf(found).every((one) => one === 'web-2 QUEUED' || one.endsWith('SUCCEEDED')),
    );
    await agent('web-2').process.start();
    const over = await ended(site, id);
    assert.equal(over.operation.state, 'OPERATION_STATE_SUCCEEDED', JSON.stringify(outcomesOf(over)));
    assert.deepEqual(
      await counts(quick),
      earlier.map((count) => count + 1),
    );
  });

  it('a search whose reader is killed ends, on its agents too', async () => {
    for (const one of agents) {
      const print = `for (let i = 0; i < ${LINES}; i += 1) console.log('line ' + i + '.'.repeat(80))`;
      const command = `[${process.execPath}, -e, "${print}; console.log('that was all'); setInterval(() => {}, 1000)"]`;
      await one.declare('wordy', `name: wordy\ncommand: ${command}\n`);
    }
    await waitFor('all lines to be there', async () => {
      const { stdout } = await site.cli('logs', 'grep', 'wordy', 'that was all');
      return stdout.trimEnd().split('\n').length === NAMES.length;
    });
    // Nobody reads what is found: the search cannot get to its end.
    const reader = spawn(process.execPath, [
      ...[MUSTER, '--socket', site.socket, 'logs', 'grep', 'wordy', 'line ', '--max-lines', '100000'],
    ]);
    const search = await waitFor('the search to have begun everywhere', async () => {
      const { operations } = (await site.json('ops')) as { operations: { id: string; action: string }[] };
      const newest = operations[0];
      if (newest?.action !== 'ACTION_SEARCH') return false;
      const { targets } = await shown(site, newest.id);
      return targets.every(({ outcome }) => outcome === 'OUTCOME_STARTED') && newest.id;
    });
    reader.kill('SIGKILL');
    await once(reader, 'exit');
    const over = await ended(site, search);
    assert.equal(over.operation.state, 'OPERATION_STATE_CANCELLED');
    for (const { outcome, machineName } of over.targets) assert.notEqual(outcome, 'OUTCOME_STARTED', machineName);
  });

  it('a canary that cannot start stops the rest', async () => {
    const earlier = await counts(quick);
    await quick[0]?.spoil();
    const over = await ended(site, await begin(site, 'restart', 'quick', '--canary', '1', '--budget', '100%'));
    assert.equal(over.operation.state, 'OPERATION_STATE_FAILED');
    assert.match(over.operation.message ?? '', /canary web-1 did not succeed: the others were not touched/);
    assert.deepEqual(outcomesOf(over), ['web-1 FAILED', 'web-2 CANCELLED', 'web-3 CANCELLED', 'web-4 CANCELLED']);
    assert.deepEqual((await counts(quick)).slice(1), earlier.slice(1));
  });

  it('a machine that is removed while it is a target does not hold the operation up', async () => {
    await agent('web-4').process.end('SIGKILL');
    await waitFor('web-4 to be seen away', async () => /web-4.*offline/.test((await site.cli('machines')).stdout));
    const id = await begin(site, 'restart', 'slow', '--queue-for', '1h', '--on', 'machine in (web-2,web-4)');
    await until(site, id, 'waiting for web-4', at('web-4', 'QUEUED'));
    const removed = await site.cli('machines', 'rm', 'web-4');
    assert.equal(removed.status, 0, removed.stderr);
    const over = await ended(site, id);
    assert.deepEqual(outcomesOf(over), ['web-2 SUCCEEDED', 'web-4 CANCELLED']);
    assert.match(over.targets[1]?.message ?? '', /removed/);
  });
});
