import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { groupMembers } from '../../../src/agent/services/proc.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freshSeed, seededRandom } from '../../../src/kit/random.js';
import { carriers, endAll, isSignalled, ServicesHost } from '../../support/killed-services.js';
import { openDirectory, script } from '../../support/supervised.js';
import { waitFor } from '../../support/waiting.js';

const KILLS = 30;
/** A slow disk makes the time between the intent, the process and its record long enough to be hit often. */
const SLOW_MS = 80;
/** About as long as a restart takes then. */
const RESTART_MS = 250;

describe('an agent that is killed', () => {
  it('leaves its services running; the next one adopts them within 5 s and loses no log byte', async (t) => {
    const run = `adopt-${freshSeed()}`;
    const hosts: ServicesHost[] = [];
    const data = await openDirectory(t, async () => {
      for (const host of hosts) await host.kill();
      await endAll(run);
    });
    await mkdir(join(data, 'manifests'));
    await chmod(join(data, 'manifests'), 0o755);
    const count = 'i=0; while :; do i=$((i+1)); echo "line $i"; done';
    await writeFile(join(data, 'manifests/loud.yaml'), script('loud', count, { env: { TEST_RUN: run } }));
    const first = new ServicesHost(data);
    hosts.push(first);
    const pid = await first.runs('loud');
    await first.kill();
    const alone = (await readFile(join(data, 'logs/loud/loud.log'))).length;
    await waitFor(
      'output without an agent',
      async () => (await readFile(join(data, 'logs/loud/loud.log'))).length > alone + 100_000,
    );
    const second = new ServicesHost(data);
    hosts.push(second);
    assert.deepEqual(await second.ready(), [{ service: 'loud', pid }]);
    second.tell('stop loud');
    await waitFor('its end', async () => (await groupMembers(pid)).length === 0);
    const lines = (await readFile(join(data, 'logs/loud/loud.log'), 'latin1')).split('\n');
    const wrong = lines.slice(0, -1).findIndex((line, index) => line !== `line ${index + 1}`);
    assert.equal(wrong, -1, `line ${wrong + 1} is "${lines[wrong] ?? ''}"`);
  });

  it(
    `starts nothing twice and loses nothing, killed at ${KILLS} moments around a start`,
    { timeout: 280_000 },
    async (t) => {
      const seed = freshSeed();
      t.diagnostic(`seed ${seed}`);
      const random = seededRandom(seed);
      const run = `kill-${seed}`;
      let host: ServicesHost | undefined;
      const data = await openDirectory(t, async () => {
        await host?.kill();
        await endAll(run);
      });
      await mkdir(join(data, 'manifests'));
      await writeFile(
        join(data, 'manifests/one.yaml'),
        script('one', 'echo up; exec sleep 1000', {
          env: { TEST_RUN: run },
          start: { settle: '50ms' },
          stop: { grace: '1s' },
        }),
      );
      let wanted: number | undefined;
      for (let kill = 1; kill <= KILLS; kill += 1) {
        host = new ServicesHost(data, SLOW_MS);
        const adopted = await host.ready();
        const before = adopted.find(({ service }) => service === 'one')?.pid ?? 0;
        if (wanted !== undefined)
          assert.equal(before, wanted, `after kill ${kill - 1}, seed ${seed}: another process was adopted`);
        const pid = await host.runs('one');
        assert.deepEqual(
          await carriers('TEST_RUN', run),
          [pid],
          `after kill ${kill - 1}, seed ${seed}: one process, no more`,
        );
        // Killed somewhere in a restart: before the stop, between, around the spawn, or after it.
        host.tell('restart one');
        await sleep(systemClock, random.next() * RESTART_MS);
        await host.kill();
        // One that the agent had told to end has not ended before it gets a processor to do so.
        await waitFor('signals to arrive', async () =>
          (await Promise.all((await carriers('TEST_RUN', run)).map(isSignalled))).every((signalled) => !signalled),
        );
        const alive = await carriers('TEST_RUN', run);
        assert.ok(alive.length <= 1, `after kill ${kill}, seed ${seed}: ${alive.length} processes`);
        // What has an identity of its own already must be adopted as it is; a child still on its way to exec may appear later.
        wanted = alive[0];
      }
    },
  );
});
