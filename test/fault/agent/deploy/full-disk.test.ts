import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { statfsSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { Deploy, DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import type { Deploys, DeploysOptions } from '../../../../src/agent/deploy/deploys.js';
import { directoryName } from '../../../../src/agent/deploy/places.js';
import { freeBytesOf, SPACE_FLOOR_BYTES } from '../../../../src/agent/deploy/space.js';
import type { DeployOrder } from '../../../../src/model/release.js';
import { openLevelStore } from '../../../../src/store/leveldb.js';
import type { Store } from '../../../../src/store/port.js';
import { CHECKED } from '../../../support/deploy-kills.js';
import { FakeMachine, newWorld, onDisk, openDeploys, Shelf, type ReleaseSpec } from '../../../support/deploying.js';
import { waitFor } from '../../../support/waiting.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;

/** The agent's part in deploys, all that it writes on a file system of its own that is small. */
class SmallMachine {
  readonly disk: string;
  readonly shelf: Shelf;
  readonly world = newWorld();
  /** What to do at a change of the world. */
  readonly at = new Map<string, () => void>();
  #store: Store | undefined;
  #deploys: Deploys | undefined;

  constructor(disk: string, shelf: Shelf) {
    this.disk = disk;
    this.shelf = shelf;
  }

  /** Undefined, and the test skipped, where nothing may be mounted. */
  static async open(t: TestContext, options: Partial<DeploysOptions> = {}): Promise<SmallMachine | undefined> {
    const home = await mkdtemp(join(tmpdir(), 'muster-full-'));
    const disk = join(home, 'disk');
    await mkdir(disk);
    await mkdir(join(home, 'shelf'));
    try {
      await run('mount', ['-t', 'tmpfs', '-o', `size=${96 * MIB}`, 'muster-test', disk]);
    } catch {
      await rm(home, { recursive: true, force: true });
      t.skip('needs the right to mount a tmpfs');
      return undefined;
    }
    const machine = new SmallMachine(disk, new Shelf(join(home, 'shelf')));
    t.after(async () => {
      await machine.close();
      await run('umount', [disk]);
      await rm(home, { recursive: true, force: true });
    });
    await mkdir(join(disk, 'data/services'), { recursive: true });
    await machine.begin(options);
    return machine;
  }

  /** The agent's next process. */
  async begin(options: Partial<DeploysOptions> = {}): Promise<void> {
    await this.close();
    this.#store = await openLevelStore({ path: join(this.disk, 'state') });
    const machine = new FakeMachine(this.world, (what) => {
      const todo = this.at.get(what);
      this.at.delete(what);
      todo?.();
      return Promise.resolve();
    });
    this.#deploys = await openDeploys(
      { data: join(this.disk, 'data'), shelf: this.shelf },
      this.#store,
      machine,
      options,
    );
  }

  get deploys(): Deploys {
    assert.ok(this.#deploys);
    return this.#deploys;
  }

  async close(): Promise<void> {
    await this.#store?.close();
    this.#store = undefined;
  }

  /** Others fill the disk. */
  fill(leaveBytes = 0): void {
    const { bavail, bsize } = statfsSync(this.disk);
    writeFileSync(join(this.disk, 'ballast'), Buffer.alloc(bavail * bsize - leaveBytes));
  }

  async clear(): Promise<void> {
    await rm(join(this.disk, 'ballast'), { force: true });
  }

  deploy(id: string, order: DeployOrder, heard: (deploy: Deploy) => void = () => undefined): Promise<DeployEnd> {
    return this.deploys.deploy(id, order, heard);
  }

  async deployWell(id: string, order: DeployOrder): Promise<void> {
    const { outcome, message } = await this.deploy(id, order);
    assert.equal(outcome, 'SUCCEEDED', message);
  }

  release(spec: ReleaseSpec): Promise<DeployOrder> {
    return this.shelf.release({ manifest: CHECKED, ...spec });
  }

  /** The service runs from that release, and it is whole. */
  async assertRuns({ release }: DeployOrder): Promise<void> {
    const source = this.world.sources['orders'];
    assert.equal(source?.release?.ref.version, release.version, 'it runs from it by its record');
    assert.equal(this.world.running['orders'], source.folder, 'and that runs');
    assert.equal(await readFile(join(source.folder, 'server.js'), 'utf8'), `// ${release.version}`, 'and is whole');
    const { current } = await onDisk(join(this.disk, 'data'));
    assert.equal(current, `releases/${directoryName(release)}`, 'and is where people look');
  }

  /** Nothing of it is left but what it runs from. */
  async assertOnly({ release }: DeployOrder): Promise<void> {
    const { releases } = await onDisk(join(this.disk, 'data'));
    assert.deepEqual(releases, [directoryName(release)]);
    assert.deepEqual(await readdir(join(this.disk, 'data/cache/artifacts')), []);
  }
}

/** Text of that size that halves when it is packed. */
function halving(bytes: number): string {
  return randomBytes(bytes / 2).toString('hex');
}

describe('a deploy on a disk that is full', () => {
  it('is refused beforehand where there is no room, saying how much it needs, and goes once there is', async (t) => {
    const space = { floorBytes: 0, freeBytes: freeBytesOf };
    const b = await SmallMachine.open(t, { space });
    if (!b) return;
    const first = await b.release({ version: '1.0.0' });
    await b.deployWell('c-1', first);
    await b.begin({ space: { ...space, floorBytes: SPACE_FLOOR_BYTES } });
    const second = await b.release({ version: '2.0.0', files: { blob: halving(2 * MIB) } });
    const end = await b.deploy('c-2', second);
    assert.equal(end.outcome, 'FAILED');
    assert.match(
      end.message,
      /2\.0\.0 failed at FETCH: there is no room for the archive of orders 2\.0\.0: it needs 1\.\d MB, .* are free .* 268 MB are kept free\. Make room/,
    );
    await b.assertRuns(first);
    await b.assertOnly(first);
    await run('mount', ['-o', `remount,size=${300 * MIB}`, b.disk]);
    await b.deployWell('c-3', second);
    await b.assertRuns(second);
  });

  /** Others take the room when the step has begun. */
  for (const step of ['FETCH', 'UNPACK']) {
    it(`fails at ${step} when the disk fills up there, leaves nothing, and goes once there is room`, async (t) => {
      const b = await SmallMachine.open(t);
      if (!b) return;
      const first = await b.release({ version: '1.0.0' });
      await b.deployWell('c-1', first);
      const second = await b.release({ version: '2.0.0', files: { blob: halving(6 * MIB) } });
      const end = await b.deploy('c-2', second, ({ steps }) => {
        const last = steps.at(-1);
        if (last?.step === step && last.outcome === 'RUNNING') b.fill(MIB);
      });
      assert.equal(end.outcome, 'FAILED');
      assert.match(
        end.message,
        new RegExp(`^2\\.0\\.0 failed at ${step}: .*(disk is full: make room|no space left .* free some space)`),
      );
      assert.match(end.message, /The service was not touched$/);
      assert.equal(end.report.current?.version, '1.0.0');
      assert.ok(!b.world.trace.includes('stop 1.0.0'), 'the service was not touched');
      await b.assertRuns(first);
      await b.assertOnly(first);
      await b.clear();
      await b.deployWell('c-3', second);
      await b.assertRuns(second);
    });
  }

  it('starts the old release again when the entry of the switch cannot be written', async (t) => {
    const b = await SmallMachine.open(t);
    if (!b) return;
    const first = await b.release({ version: '1.0.0' });
    const second = await b.release({ version: '2.0.0' });
    await b.deployWell('c-1', first);
    b.at.set('after stop 1.0.0', () => {
      b.fill();
    });
    const deploying = b.deploy('c-2', second);
    await waitFor(
      'the old release to run again',
      () => b.world.trace.filter((what) => what === 'start 1.0.0').length === 2 || undefined,
    );
    await b.assertRuns(first);
    assert.equal(b.deploys.find('c-2')?.end, undefined, 'the end waits for room');
    await b.clear();
    const end = await deploying;
    assert.equal(end.outcome, 'FAILED');
    assert.match(end.message, /^2\.0\.0 failed at SWITCH: .* free some space, .*1\.0\.0 runs again/);
    await b.begin();
    assert.equal(b.deploys.isDeploying('orders'), false, 'nothing is left to go on with');
    assert.equal(b.deploys.find('c-2')?.end?.outcome, 'FAILED');
    await b.deployWell('c-3', second);
    await b.assertRuns(second);
  });

  it('starts the new release when only what comes behind the switch cannot be written', async (t) => {
    const b = await SmallMachine.open(t);
    if (!b) return;
    const first = await b.release({ version: '1.0.0' });
    const second = await b.release({ version: '2.0.0' });
    await b.deployWell('c-1', first);
    b.at.set('after become 2.0.0', () => {
      b.fill();
    });
    const steps: string[] = [];
    const deploying = b.deploy('c-2', second, ({ steps: all }) => void steps.push(all.at(-1)?.step ?? ''));
    // A release that is verified waits for the room to say so.
    await waitFor(
      'the verify to end',
      () => steps.includes('PRUNE') || b.world.trace.includes('run check of 2.0.0') || undefined,
    );
    await b.assertRuns(second);
    await b.clear();
    const end = await deploying;
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    await b.begin();
    if (b.deploys.find('c-2')) assert.equal((await b.deploys.resume('c-2', () => undefined)).outcome, 'SUCCEEDED');
    await b.assertRuns(second);
    assert.deepEqual(
      b.deploys.heldReleases('orders', second.release.digest).map(({ version }) => version),
      ['1.0.0'],
    );
  });

  it('waits for room with an undo that has to write, then puts the old release back', async (t) => {
    const b = await SmallMachine.open(t);
    if (!b) return;
    const first = await b.release({ version: '1.0.0' });
    const bad = await b.release({ version: '2.0.0', behaves: 'verify-fails' });
    await b.deployWell('c-1', first);
    b.at.set('after run check of 2.0.0', () => {
      b.fill();
    });
    const steps: string[] = [];
    const deploying = b.deploy('c-2', bad, ({ at }) => void steps.push(at.phase === 'undo' ? at.step : ''));
    await waitFor('the undo to begin', () => steps.includes('STOP') || undefined);
    await b.clear();
    const end = await deploying;
    assert.equal(end.outcome, 'FAILED');
    assert.equal(end.report.rolledBack, true);
    assert.match(end.message, /2\.0\.0 failed at VERIFY: .*1\.0\.0 runs again/);
    await b.assertRuns(first);
  });
});
