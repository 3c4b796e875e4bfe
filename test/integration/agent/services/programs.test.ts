import assert from 'node:assert/strict';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { listPids, hasVariable } from '../../../../src/agent/services/proc.js';
import { PROGRAM_OF, Programs, type Program, type ProgramEnd } from '../../../../src/agent/services/programs.js';
import { subjectOf } from '../../../../src/agent/services/sources.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { parseManifest } from '../../../../src/model/manifest.js';
import { unless } from '../../../support/debian.js';
import { openDirectory } from '../../../support/supervised.js';

interface Bench {
  readonly data: string;
  readonly release: string;
  readonly programs: Programs;
  readonly offers: string[];
  run(text: string, options?: { timeoutMs?: number; offered?: boolean; deployed?: boolean }): Promise<ProgramEnd>;
  call(program: Partial<Program>): Promise<ProgramEnd>;
  /** Pids of what programs of the service started and that still lives. */
  left(): Promise<number[]>;
}

async function bench(t: TestContext, more = ''): Promise<Bench> {
  const data = await openDirectory(t);
  await chmod(data, 0o755);
  const release = join(data, 'services/web/releases/1');
  for (const directory of ['services', 'services/web', 'services/web/releases', 'services/web/releases/1', 'logs'])
    await mkdir(join(data, directory), { mode: 0o755 });
  const offers: string[] = [];
  const environmentOf = ({ service, uid }: { service: string; uid: number }): Record<string, string> => {
    offers.push(`${service} ${uid}`);
    return { MUSTER_AGENT: '/run/web.sock' };
  };
  const programs = new Programs({ clock: systemClock, defaultUser: 'nobody', environmentOf });
  const manifest = parseManifest(`name: web\nversion: 3.1.4\ncommand: [web]\nenv: { GREETING: hello }\n${more}`, {
    file: 'web',
  });
  const subject = (deployed: boolean) =>
    subjectOf(data, { manifest, folder: release, ...(deployed ? { release: true } : {}) });
  const call: Bench['call'] = (program) =>
    programs.run(
      subject(true),
      { argv: ['true'], directory: release, timeoutMs: 20_000, ...program },
      { offered: true },
    );
  return {
    data,
    release,
    programs,
    offers,
    call,
    run: (text, { timeoutMs = 20_000, offered = true, deployed = true } = {}) =>
      programs.run(subject(deployed), { argv: ['/bin/sh', '-c', text], directory: release, timeoutMs }, { offered }),
    left: async () => {
      const found: number[] = [];
      const { sharedDirectory } = subject(true);
      for (const pid of await listPids()) if (await hasVariable(pid, PROGRAM_OF, sharedDirectory)) found.push(pid);
      return found;
    },
  };
}

describe('a program of a release', () => {
  it('sees what its service sees, in the directory it is run in', async (t) => {
    const b = await bench(t);
    const { code, output, timedOut } = await b.run('pwd; env');
    assert.deepEqual([code, timedOut], [0, false]);
    const lines = output.split('\n');
    assert.equal(lines[0], b.release);
    for (const line of [
      'GREETING=hello',
      'MUSTER_SERVICE=web',
      'MUSTER_RELEASE=3.1.4',
      `MUSTER_MODULES=${b.release}/modules`,
      `MUSTER_SHARED_DIR=${b.data}/services/web/shared`,
      'MUSTER_AGENT=/run/web.sock',
    ])
      assert.ok(lines.includes(line), `${line} in\n${output}`);
    assert.doesNotMatch((await b.run('env', { deployed: false })).output, /MUSTER_MODULES/);
    assert.doesNotMatch((await b.run('env', { offered: false })).output, /MUSTER_AGENT/);
    assert.equal(b.offers.length, 2);
  });

  it('is run as the user of the service, never as root unless said', { skip: unless('root') }, async (t) => {
    const b = await bench(t);
    assert.match((await b.run('id -un; touch "$MUSTER_SHARED_DIR/mine" && echo made')).output, /^nobody\nmade$/);
    const named = await bench(t, 'user: daemon\n');
    assert.equal((await named.run('id -un')).output, 'daemon');
    const nowhere = await bench(t, 'user: no-such-user-here\n');
    const { code, output } = await nowhere.run('id -un');
    assert.equal(code, undefined);
    assert.match(output, /there is no user "no-such-user-here"/);
  });

  it('is told by its exit code and the end of what it printed, 4 KiB of it', async (t) => {
    const b = await bench(t);
    const { code, output } = await b.run('i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo "line $i"; done; exit 7');
    assert.equal(code, 7);
    assert.ok(output.endsWith('line 3000') && Buffer.byteLength(output) <= 4096);
    const killed = await b.run('kill -9 $$');
    assert.deepEqual([killed.code, killed.timedOut], [undefined, false]);
  });

  it('that cannot be run says why', async (t) => {
    const b = await bench(t);
    await writeFile(join(b.release, 'plain.sh'), 'exit 0\n');
    for (const [program, why] of [
      [{ argv: ['./gone.sh'] }, /gone\.sh does not exist/],
      [{ argv: ['./plain.sh'] }, /is not a program: make it executable/],
      [{ argv: ['no-such-program-anywhere'] }, /is in no directory of PATH/],
      [{ directory: join(b.release, 'gone') }, /working directory .*gone cannot be used/],
    ] as const) {
      const { code, output } = await b.call(program);
      assert.equal(code, undefined);
      assert.match(output, why);
    }
  });

  it('is killed whole when its time is over, also what left its process group', async (t) => {
    const b = await bench(t);
    const text = `echo begun; sleep 1000 & setsid sleep 1001 & (setsid sh -c 'setsid sleep 1002 & sleep 1003') & wait`;
    const { code, output, timedOut } = await b.run(text, { timeoutMs: 700 });
    assert.deepEqual([code, output, timedOut], [undefined, 'begun', true]);
    assert.deepEqual(await b.left(), []);
  });

  it('leaves nothing behind when it ends by itself', async (t) => {
    const b = await bench(t);
    const { code, output } = await b.run('setsid sleep 1000 & sleep 1001 & echo done');
    assert.deepEqual([code, output], [0, 'done']);
    assert.deepEqual(await b.left(), []);
  });

  it('of an earlier agent is found and killed', async (t) => {
    const b = await bench(t);
    const file = join(b.data, 'services/web/shared/pid');
    void b.run(`echo $$ > ${file}; sleep 1000`);
    const pid = await (async () => {
      for (;;) {
        const text = await readFile(file, 'utf8').catch(() => '');
        if (text.endsWith('\n')) return Number(text);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    assert.ok((await b.left()).includes(pid));
    const next = new Programs({ clock: systemClock, defaultUser: 'nobody', environmentOf: () => ({}) });
    await next.sweep({ sharedDirectory: join(b.data, 'services/web/shared') });
    assert.deepEqual(await b.left(), []);
  });
});
