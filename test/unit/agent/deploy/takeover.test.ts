import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, chown, lstat, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import { takeOver } from '../../../../src/agent/deploy/takeover.js';
import type { Hold, ServiceSource } from '../../../../src/agent/ports.js';
import { isCode } from '../../../../src/kit/errors.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { FakeMachine, newBench, newWorld, openDeploys, type Bench } from '../../../support/deploying.js';

const run = promisify(execFile);
const NOBODY = { uid: 65_534, gid: 65_534 };
const root = process.getuid?.() === 0;
const skip = root ? false : 'needs root, to be another user';

async function asNobody(script: string, cwd: string): Promise<string> {
  return (await run('sh', ['-c', script], { cwd, ...NOBODY })).stdout;
}

async function homeOf(t: TestContext): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'muster-takeover-'));
  t.after(() => rm(home, { recursive: true, force: true }));
  await chmod(home, 0o755);
  return home;
}

async function modeOf(path: string): Promise<string> {
  const { uid, mode } = await lstat(path);
  return `${uid} ${(mode & 0o7777).toString(8)}`;
}

/** A directory that nobody may write, and what is beside it. */
async function written(t: TestContext, script: string): Promise<{ readonly home: string; readonly theirs: string }> {
  const home = await homeOf(t);
  const theirs = join(home, 'theirs');
  await mkdir(theirs);
  await chown(theirs, NOBODY.uid, NOBODY.gid);
  await asNobody(script, theirs);
  return { home, theirs };
}

describe('what an install hook wrote', { skip }, () => {
  it('becomes that of the agent, without special bits and without what is no file', async (t) => {
    const script = `mkdir -m 7777 d; echo 12345 > d/f; chmod 6777 d/f; echo x > plain; chmod 0666 plain; mkfifo pipe; mkdir -m 700 own; echo y > own/secret; chmod 600 own/secret`;
    const { theirs } = await written(t, script);
    const { bytes } = await takeOver(theirs, NOBODY.uid);
    assert.equal(bytes, 10);
    const expected = { '.': 755, d: 755, 'd/f': 755, plain: 644, own: 755, 'own/secret': 644 };
    for (const [path, mode] of Object.entries(expected)) assert.equal(await modeOf(join(theirs, path)), `0 ${mode}`);
    await assert.rejects(lstat(join(theirs, 'pipe')), { code: 'ENOENT' });
    await assert.rejects(asNobody('echo z >> d/f', theirs));
    await assert.rejects(asNobody('mv plain d/', theirs));
  });

  it('does not reach through links', async (t) => {
    const { home, theirs } = await written(t, 'ln -s ../secret l; ln -s ../folder d; ln -s / all');
    await writeFile(join(home, 'secret'), 'x', { mode: 0o600 });
    await mkdir(join(home, 'folder'), { mode: 0o700 });
    await chown(join(home, 'secret'), 1, 1);
    await takeOver(theirs, NOBODY.uid);
    assert.equal(await modeOf(join(home, 'secret')), '1 600');
    assert.equal(await modeOf(join(home, 'folder')), '0 700');
    assert.equal(await readlink(join(theirs, 'all')), '/');
    assert.equal((await lstat(join(theirs, 'l'))).uid, 0);
  });

  it('leaves the other names of a file to their owner', async (t) => {
    const { home, theirs } = await written(t, 'true');
    const shared = join(home, 'shared');
    await mkdir(shared);
    await chown(shared, NOBODY.uid, NOBODY.gid);
    await asNobody('echo data > ../shared/data; chmod 600 ../shared/data; ln ../shared/data copy', theirs);
    await takeOver(theirs, NOBODY.uid);
    assert.equal(await modeOf(join(shared, 'data')), `${NOBODY.uid} 600`);
    assert.equal(await modeOf(join(theirs, 'copy')), '0 644');
    await asNobody('echo more >> data', shared);
    assert.equal(await readFile(join(theirs, 'copy'), 'utf8'), 'data\n', 'and changes there do not come here');
  });

  it('is refused when it holds a file of another user, whose content is shown to nobody', async (t) => {
    const { home, theirs } = await written(t, 'true');
    const shared = join(home, 'shared');
    await mkdir(shared);
    await writeFile(join(shared, 'secret'), 'x', { mode: 0o600 });
    await chown(shared, NOBODY.uid, NOBODY.gid);
    await asNobody('mv ../shared/secret moved', theirs);
    await assert.rejects(takeOver(theirs, NOBODY.uid), (error: unknown) => isCode(error, 'precondition'));
    assert.equal(await modeOf(join(theirs, 'moved')), '0 600');
  });
});

/** Hooks are run for real, as nobody. */
class HookedMachine extends FakeMachine {
  readonly #script: string;

  constructor(script: string) {
    super(newWorld());
    this.#script = script;
  }

  override userOf(): Promise<{ uid: number; gid: number }> {
    return Promise.resolve(NOBODY);
  }

  override async hold(service: string, why: string): Promise<Hold> {
    const hold = await super.hold(service, why);
    return Object.assign(hold, {
      run: async (_: ServiceSource, { directory }: { readonly directory: string }) => ({
        code: 0,
        output: await asNobody(this.#script, directory),
        timedOut: false,
      }),
    });
  }
}

describe('a deploy with an install hook of another user', { skip }, () => {
  const deployed = async (
    t: TestContext,
    script: string,
  ): Promise<{ end: DeployEnd; bench: Bench; folder: string }> => {
    const bench = await newBench();
    t.after(() => bench.clean());
    await chmod(dirname(bench.data), 0o755);
    const machine = new HookedMachine(script);
    const deploys = await openDeploys(bench, await openMemoryStore(), machine);
    const order = await bench.shelf.release({
      version: '1.0.0',
      manifest: 'driver: systemd\nhooks: { install: [hook] }',
      files: { 'orders.service': '[Service]\nUser=@USER@\n' },
    });
    const end = await deploys.deploy('c-1', order, () => undefined);
    return { end, bench, folder: machine.world.sources['orders']?.folder ?? '' };
  };

  it('gives them the directory while it runs, and takes it after', async (t) => {
    const { end, folder } = await deployed(
      t,
      'touch made; echo more >> server.js; stat -c %u . server.js made > owners',
    );
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    const own = String(NOBODY.uid);
    assert.equal(await readFile(join(folder, 'owners'), 'utf8'), `${own}\n${own}\n${own}\n`);
    assert.equal(await modeOf(folder), '0 755');
    for (const file of ['made', 'server.js', 'owners', 'orders.service', 'muster.yaml']) {
      assert.equal(await modeOf(join(folder, file)), '0 644');
    }
  });

  const touched = {
    'changes the unit file': ['echo User=root >> orders.service', 'orders.service'],
    'puts a link in place of the unit file': ['ln -sf /etc/passwd orders.service', 'orders.service'],
    'removes the unit file': ['rm orders.service', 'orders.service'],
    'changes the manifest': ['echo "user: root" >> muster.yaml', 'muster.yaml'],
  };
  for (const [what, [script = '', file = '']] of Object.entries(touched)) {
    it(`fails when the hook ${what}`, async (t) => {
      const { end, bench } = await deployed(t, script);
      assert.equal(end.outcome, 'FAILED');
      assert.match(end.message, new RegExp(`1.0.0 failed at INSTALL: the install hook changed ${file}, `));
      await assert.rejects(
        lstat(join(bench.data, 'services/orders/releases', `1.0.0-${end.report.to?.digest.slice(0, 12) ?? ''}`)),
        {
          code: 'ENOENT',
        },
      );
    });
  }
});
