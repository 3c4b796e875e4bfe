import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, chown, lstat, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import type { DeployEnd } from '../../../../src/agent/deploy/deploy.js';
import { inodeOf, removeTheirs, takeOver } from '../../../../src/agent/deploy/takeover.js';
import { endWriters } from '../../../../src/agent/deploy/writers.js';
import type { Hold, ServiceSource } from '../../../../src/agent/ports.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { FakeMachine, newBench, newWorld, openDeploys, type Bench } from '../../../support/deploying.js';

const run = promisify(execFile);
const NOBODY = { uid: 65_534, gid: 65_534 };
const root = process.getuid?.() === 0;
const python = existsSync('/usr/bin/python3') ? false : 'needs python3';
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

describe('a directory of another user', { skip }, () => {
  it('is removed, and nothing that it leads to', async (t) => {
    const { home, theirs } = await written(
      t,
      'mkdir -p a/b; echo x > a/b/c; ln -s ../../outside a/l; ln -s ../outside b',
    );
    await mkdir(join(home, 'outside'));
    await writeFile(join(home, 'outside', 'kept'), 'x');
    await removeTheirs(theirs);
    await assert.rejects(lstat(theirs), { code: 'ENOENT' });
    assert.equal(await readFile(join(home, 'outside', 'kept'), 'utf8'), 'x');
    await removeTheirs(theirs);
    await symlink('outside', theirs);
    await removeTheirs(theirs);
    await assert.rejects(lstat(theirs), { code: 'ENOENT' });
    assert.equal(await readFile(join(home, 'outside', 'kept'), 'utf8'), 'x');
  });
});

describe('who still writes a file', { skip }, () => {
  const appending = async (t: TestContext, options: { readonly uid?: number }): Promise<Appending> => {
    const home = await homeOf(t);
    const file = join(home, 'file');
    await writeFile(file, '');
    await chmod(file, 0o666);
    const child = spawn('/bin/sh', ['-c', `exec 9>>${file}; echo open; exec sleep 1000`], { ...options, env: {} });
    t.after(() => child.kill('SIGKILL'));
    await once(child.stdout, 'data');
    return { child, inodes: new Set([inodeOf(await lstat(file))]) };
  };

  it('is ended where it is of the user who made it', async (t) => {
    const { child, inodes } = await appending(t, NOBODY);
    const ended = once(child, 'exit');
    await endWriters(new Set(), NOBODY.uid, systemClock);
    assert.equal(child.signalCode, null, 'it writes something else');
    await endWriters(inodes, NOBODY.uid, systemClock);
    await ended;
    assert.equal(child.signalCode, 'SIGKILL');
  });

  it('is not ended where it is of another', async (t) => {
    const { child, inodes } = await appending(t, {});
    await assert.rejects(endWriters(inodes, NOBODY.uid, systemClock), /still open for writing by process \d+/);
    assert.equal(child.signalCode, null);
  });
});

interface Appending {
  readonly child: ChildProcess;
  readonly inodes: ReadonlySet<string>;
}

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

  const writers = {
    'has it open': 'exec 9>>server.js; while :; do echo evil >&9; /bin/sleep 0.05; done',
    'has it in memory':
      'exec /usr/bin/python3 -c "import ctypes,os,time; c=ctypes.CDLL(None); c.mmap.restype=ctypes.c_void_p; f=os.open(\\"server.js\\",2); p=c.mmap(None,4,3,1,f,0); os.close(f); time.sleep(0.4); ctypes.memset(p,69,1); time.sleep(1000)"',
  };
  for (const [what, writer] of Object.entries(writers)) {
    it(`ends what hides from it and still ${what}`, { skip: python }, async (t) => {
      const script = `/usr/bin/env -i /usr/bin/setsid /bin/sh -c '${writer}' </dev/null >/dev/null 2>&1 & echo $! > pid; sleep 0.3`;
      const { end, folder } = await deployed(t, script);
      assert.equal(end.outcome, 'SUCCEEDED', end.message);
      const pid = Number(await readFile(join(folder, 'pid'), 'utf8'));
      t.after(() => {
        if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
      });
      assert.equal(existsSync(`/proc/${pid}/exe`), false, 'it still runs');
    });
  }

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
