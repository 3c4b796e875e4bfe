import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freshSeed, seededRandom } from '../../../src/kit/random.js';
import { carriers, endAll, isSignalled, ServicesHost } from '../../support/killed-services.js';
import { openDirectory, script } from '../../support/supervised.js';
import { waitFor } from '../../support/waiting.js';

const KILLS = Number(process.env['MUSTER_DEPLOYED_KILLS'] ?? 6);
/** A slow disk makes the times between what is written and what is done long enough to be hit often. */
const SLOW_MS = 60;
/** About as long as a deploy takes then. */
const DEPLOY_MS = 500;

class Site {
  readonly data: string;
  readonly run: string;
  host: ServicesHost | undefined;

  private constructor(data: string, run: string) {
    this.data = data;
    this.run = run;
  }

  static async open(t: TestContext, run: string): Promise<Site> {
    const opened: Site[] = [];
    const data = await openDirectory(t, async () => {
      for (const site of opened) await site.host?.kill();
      await endAll(run);
    });
    await mkdir(join(data, 'manifests'));
    const site = new Site(data, run);
    opened.push(site);
    return site;
  }

  /** A folder with a release of that version. */
  async release(version: string): Promise<string> {
    const folder = join(this.data, 'services/web/releases', version);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'muster.yaml'), this.manifest(version));
    return folder;
  }

  manifest(version: string): string {
    const settings = { version, env: { TEST_RUN: this.run }, start: { settle: '50ms' }, stop: { grace: '1s' } };
    return script('web', 'exec sleep 1000', settings);
  }

  start(slowMs = 0): ServicesHost {
    this.host = new ServicesHost(this.data, slowMs);
    return this.host;
  }

  processes(): Promise<number[]> {
    return carriers('TEST_RUN', this.run);
  }
}

/** What a process sees of its release: version and working directory. */
async function seenBy(pid: number): Promise<Readonly<Record<string, string>>> {
  const text = await readFile(`/proc/${pid}/environ`, 'utf8');
  return Object.fromEntries(
    text.split('\0').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

describe('an agent that is killed', () => {
  it('finds a deployed service on the same pid, run from its release, not by the manifest on the machine', async (t) => {
    const site = await Site.open(t, `deployed-${freshSeed()}`);
    await writeFile(join(site.data, 'manifests/web.yaml'), site.manifest('0.1.0'));
    const first = site.start();
    await first.runs('web');
    assert.equal(await first.does(`deploy web ${await site.release('1.0.0')}`), undefined);
    const [pid = 0, ...others] = await site.processes();
    assert.deepEqual(others, []);
    const { MUSTER_RELEASE, MUSTER_MODULES } = await seenBy(pid);
    assert.deepEqual(
      [MUSTER_RELEASE, MUSTER_MODULES],
      ['1.0.0', join(site.data, 'services/web/releases/1.0.0/modules')],
    );
    await first.does('hold web');
    assert.match((await first.does('restart web')) ?? '', /web is held by a deploy that hangs/);
    await first.kill();
    const second = site.start();
    assert.deepEqual(await second.ready(), [{ service: 'web', pid }]);
    assert.deepEqual(second.said.find(({ ready }) => ready)?.deployed, { web: '1.0.0' });
    assert.equal(await second.does('restart web'), undefined, 'nobody holds it any more');
    const [next = 0] = await site.processes();
    assert.notEqual(next, pid);
    assert.equal((await seenBy(next))['MUSTER_RELEASE'], '1.0.0');
  });

  it(
    `leaves one release, whole, in one process, killed at ${KILLS} moments around a change of it`,
    { timeout: 60_000 + KILLS * 10_000 },
    async (t) => {
      const seed = freshSeed();
      t.diagnostic(`seed ${seed}`);
      const random = seededRandom(seed);
      const site = await Site.open(t, `deployed-kill-${seed}`);
      const releases = [await site.release('1.0.0'), await site.release('2.0.0')];
      assert.equal(await site.start().does(`deploy web ${releases[0] ?? ''}`), undefined);
      await site.host?.kill();
      for (let kill = 1; kill <= KILLS; kill += 1) {
        const host = site.start(SLOW_MS);
        await host.ready();
        const pid = await host.runs('web');
        const label = `after kill ${kill - 1}, seed ${seed}`;
        assert.deepEqual(await site.processes(), [pid], `${label}: one process, no more`);
        const version = host.said.find(({ ready }) => ready)?.deployed?.['web'] ?? '';
        assert.ok(version === '1.0.0' || version === '2.0.0', `${label}: "${version}" is no whole release`);
        assert.equal((await seenBy(pid))['MUSTER_RELEASE'], version, `${label}: what runs is what is said`);
        host.tell(`deploy web ${releases[kill % 2] ?? ''}`);
        await sleep(systemClock, random.next() * DEPLOY_MS);
        await host.kill();
        await waitFor('signals to arrive', async () =>
          (await Promise.all((await site.processes()).map(isSignalled))).every((signalled) => !signalled),
        );
      }
    },
  );
});
