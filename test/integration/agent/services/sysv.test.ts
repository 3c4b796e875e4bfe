import assert from 'node:assert/strict';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { readProcess } from '../../../../src/kit/proc.js';
import { manifestText, Supervised } from '../../../support/supervised.js';
import { must, unless } from '../../../support/debian.js';
import { waitFor } from '../../../support/waiting.js';

/** An init script as LSB wants it, around a sleeping daemon; or around one that writes its pid file late, or lives on after it. */
type Habit = 'prompt' | 'pid file late' | 'pid file gone early';

const DAEMONS: Readonly<Record<Habit, string>> = {
  prompt: 'setsid sleep 1000 >/dev/null 2>&1 & echo $! > "$PIDFILE"',
  'pid file late': '(setsid sleep 1000 & pid=$!; sleep 0.7; echo $pid > "$PIDFILE") >/dev/null 2>&1 &',
  'pid file gone early': `setsid sh -c 'trap "rm -f $0; sleep 1.5; exit" TERM; while :; do sleep 0.1; done' "$PIDFILE" >/dev/null 2>&1 & echo $! > "$PIDFILE"`,
};

function initScript(name: string, pidFile: string, habit: Habit): string {
  return `#!/bin/sh
### BEGIN INIT INFO
# Provides: ${name}
### END INIT INFO
PIDFILE=${pidFile}
alive() { [ -f "$PIDFILE" ] && kill -0 "$(cat "$PIDFILE")" 2>/dev/null; }
case "$1" in
  start) echo "starting ${name}"; alive || {
    ${DAEMONS[habit]}
  } ;;
  stop) alive && kill "$(cat "$PIDFILE")"; while alive; do sleep 0.05; done; rm -f "$PIDFILE" ;;
  status) alive && exit 0; [ -f "$PIDFILE" ] && exit 1; exit 3 ;;
  *) exit 2 ;;
esac
`;
}

async function install(t: TestContext, habit: Habit = 'prompt'): Promise<{ name: string; pidFile: string }> {
  const name = `muster-test-${process.pid}-${Math.floor(performance.now())}`;
  const pidFile = `/tmp/${name}.pid`;
  const path = join('/etc/init.d', name);
  await writeFile(path, initScript(name, pidFile, habit));
  await chmod(path, 0o755);
  t.after(async () => {
    await must('service', name, 'stop').catch(() => '');
    await rm(path);
    await rm(pidFile, { force: true });
  });
  return { name, pidFile };
}

describe('the sysv driver', { skip: unless('root') }, () => {
  it('starts, stops and restarts through the init script, and knows the pid', async (t) => {
    const { name } = await install(t);
    const s = await Supervised.open(t, { 'daemon.yaml': manifestText({ name: 'daemon', driver: 'sysv', unit: name }) });
    const { pid } = await s.state('daemon', 'RUNNING');
    assert.equal((await readProcess(pid))?.name, 'sleep');
    assert.match(await s.log('daemon'), /starting muster-test/);
    const restarted = await s.services.restart('daemon');
    assert.notEqual(restarted.pid, pid);
    assert.equal((await s.services.stop('daemon')).state, 'STOPPED');
    assert.equal(await readProcess(restarted.pid), undefined);
    await s.services.start('daemon');
  });

  it('adopts, sees what others do, and starts again what died', async (t) => {
    const { name } = await install(t);
    await must('service', name, 'start');
    const s = await Supervised.open(t, { 'daemon.yaml': manifestText({ name: 'daemon', driver: 'sysv', unit: name }) });
    const first = await s.state('daemon', 'RUNNING');
    assert.ok(first.pid > 0);
    await s.again();
    assert.equal((await s.state('daemon', 'RUNNING')).pid, first.pid);
    process.kill(first.pid, 'SIGKILL');
    await waitFor(
      'another process',
      () => s.services.get('daemon').state === 'RUNNING' && s.services.get('daemon').pid !== first.pid,
    );
    await must('service', name, 'stop');
    const stopped = await s.state('daemon', 'STOPPED');
    assert.equal(stopped.reason, 'it was stopped outside Muster');
    assert.equal(stopped.wanted, true);
    await s.again();
    assert.equal(s.services.get('daemon').state, 'STOPPED', 'it is left alone until it is asked for');
    await must('service', name, 'start');
    await s.state('daemon', 'RUNNING');
  });

  it('waits for a daemon that writes its pid file after its script has ended', async (t) => {
    const { name } = await install(t, 'pid file late');
    const s = await Supervised.open(t, { 'daemon.yaml': manifestText({ name: 'daemon', driver: 'sysv', unit: name }) });
    const { pid, restarts } = await s.state('daemon', 'RUNNING');
    assert.equal((await readProcess(pid))?.name, 'sleep');
    assert.equal(restarts, 0);
  });

  it('does not take a daemon for ended that has only removed its pid file', async (t) => {
    const { name } = await install(t, 'pid file gone early');
    const s = await Supervised.open(t, { 'daemon.yaml': manifestText({ name: 'daemon', driver: 'sysv', unit: name }) });
    const { pid } = await s.state('daemon', 'RUNNING');
    assert.equal((await s.services.stop('daemon')).state, 'STOPPED');
    assert.equal(await readProcess(pid), undefined);
  });

  it('says that there is no such script', async (t) => {
    const s = await Supervised.open(t, {
      'no.yaml': manifestText({ name: 'no', driver: 'sysv', unit: 'no-such-script' }),
    });
    assert.match((await s.state('no', 'FATAL')).reason, /no init script \/etc\/init.d\/no-such-script: install/);
  });

  it('runs nginx of Debian', { skip: unless('nginx') }, async (t) => {
    if ((await must('pgrep', '-x', 'nginx').catch(() => '')) !== '') {
      t.skip('needs an nginx that does not run yet');
      return;
    }
    const s = await Supervised.open(t, { 'nginx.yaml': manifestText({ name: 'nginx', driver: 'sysv' }) });
    const { pid } = await s.state('nginx', 'RUNNING');
    assert.equal((await readProcess(pid))?.name, 'nginx');
    assert.equal((await s.services.stop('nginx')).state, 'STOPPED');
    assert.equal(await readProcess(pid), undefined);
  });
});
