import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { execProbe, type ExecTarget } from '../../../../src/agent/probes/exec.js';
import type { Probe } from '../../../../src/agent/probes/answer.js';
import { sleep, systemClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { CHECK_OUTPUT_BYTES_MAX } from '../../../../src/model/instance.js';
import { ask, askWithin } from '../../../support/probing.js';

async function folder(t: TestContext): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'muster-exec-')));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const PATH = '/usr/bin:/bin';

function program(command: readonly string[], more: Partial<ExecTarget> = {}): Probe {
  return execProbe({ command, directory: tmpdir(), environment: { PATH }, ...more }, systemClock);
}

const shell = (script: string, more: Partial<ExecTarget> = {}): Probe => program(['sh', '-c', script], more);

/** Whether a process runs; one that waits only to be reaped does not. */
function alive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(execFileSync('cat', [`/proc/${pid}/status`], { stdio: 'pipe' }).toString());
  } catch {
    return false;
  }
}

async function gone(pid: number): Promise<void> {
  while (alive(pid)) await sleep(systemClock, 10);
}

async function pidIn(file: string): Promise<number> {
  for (;;) {
    const pid = Number(await readFile(file, 'utf8').catch(() => ''));
    if (pid > 0) return pid;
    await sleep(systemClock, 10);
  }
}

describe('an exec check', () => {
  it('passes on exit code 0, warns on 1 and fails on others, with what was printed', async () => {
    assert.deepEqual(await ask(shell('echo fine; echo too >&2')), { verdict: 'pass', output: 'fine\ntoo' });
    assert.deepEqual(await ask(shell('echo slow; exit 1')), { verdict: 'warn', output: 'slow' });
    assert.deepEqual(await ask(shell('echo down; exit 2')), { verdict: 'fail', output: 'down' });
    assert.deepEqual(await ask(shell('exit 127')), { verdict: 'fail', output: 'exit code 127' });
    assert.deepEqual(await ask(shell('kill -9 $$')), { verdict: 'fail', output: 'ended by SIGKILL' });
  });

  it('starts no shell, in the directory and the environment given and no other', async (t) => {
    const directory = await folder(t);
    assert.equal((await ask(program(['echo', '$HOME;', '*'], { directory }))).output, '$HOME; *');
    assert.equal((await ask(program(['pwd'], { directory }))).output, directory);
    const environment = { PATH, MUSTER_SERVICE: 'orders' };
    assert.equal((await ask(program(['env'], { environment }))).output, `PATH=${PATH}\nMUSTER_SERVICE=orders`);
    await writeFile(join(directory, 'check.sh'), '#!/bin/sh\necho here\n');
    await chmod(join(directory, 'check.sh'), 0o755);
    assert.equal((await ask(program(['./check.sh'], { directory }))).output, 'here');
  });

  it('says why a program cannot be run', async (t) => {
    const directory = await folder(t);
    const missing = await ask(program(['no-such-program']));
    assert.equal(missing.verdict, 'fail');
    assert.match(missing.output, /cannot run no-such-program: there is no such program/);
    assert.match((await ask(program(['true'], { directory: join(directory, 'none') }))).output, /no directory .*none/);
    await writeFile(join(directory, 'data'), '');
    assert.match((await ask(program(['./data'], { directory }))).output, /may not execute it/);
    assert.match((await ask(program(['a\0b']))).output, /cannot run/);
  });

  it('keeps the end of long output, whole characters only, and never blocks the program', async () => {
    const { verdict, output } = await ask(shell('yes é | head -c 3000000; echo end'));
    assert.equal(verdict, 'pass');
    assert.ok(Buffer.byteLength(output) <= CHECK_OUTPUT_BYTES_MAX);
    assert.ok(output.endsWith('end'));
    assert.ok(!output.includes('\ufffd'));
  });

  it('kills the whole group when its time is over', async (t) => {
    const directory = await folder(t);
    const probe = shell('sleep 1000 & echo $! > child; echo $$ > self; trap "" TERM; wait', { directory });
    await assert.rejects(askWithin(probe, 1500), (error) => isCode(error, 'deadline'));
    await gone(await pidIn(join(directory, 'self')));
    await gone(await pidIn(join(directory, 'child')));
  });

  it('does not wait for what a program leaves behind, and kills what is left of its group', async (t) => {
    const directory = await folder(t);
    assert.deepEqual(await ask(shell('sleep 1000 & echo $! > child; echo done', { directory })), {
      verdict: 'pass',
      output: 'done',
    });
    await gone(await pidIn(join(directory, 'child')));
  });

  it('answers though a program that left its group holds its output open', async (t) => {
    const directory = await folder(t);
    const { verdict, output } = await ask(shell('setsid sleep 1000 & echo $! > child; echo done', { directory }));
    assert.deepEqual([verdict, output], ['pass', 'done']);
    process.kill(await pidIn(join(directory, 'child')), 'SIGKILL');
  });

  it("runs as the service's user, without the agent's groups", async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip('needs root');
      return;
    }
    const nobody = Number(execFileSync('id', ['-u', 'nobody']).toString());
    const group = Number(execFileSync('id', ['-g', 'nobody']).toString());
    const { output } = await ask(shell('id -u; id -g; id -G', { uid: nobody, gid: group }));
    assert.equal(output, `${nobody}\n${group}\n${group}`);
  });

  it('says so where the agent may not become that user', async (t) => {
    if (process.getuid?.() === 0) {
      t.skip('needs a user other than root');
      return;
    }
    assert.match((await ask(program(['true'], { uid: 0 }))).output, /the agent may not change its user/);
  });
});
