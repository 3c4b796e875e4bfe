import assert from 'node:assert/strict';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Hold, ServiceSource } from '../../../../src/agent/ports.js';
import { parseManifest } from '../../../../src/model/manifest.js';
import { unless } from '../../../support/debian.js';
import { manifestText, Supervised } from '../../../support/supervised.js';
import { Systemd } from '../../../support/systemd.js';
import { waitFor } from '../../../support/waiting.js';

const TOY = `[Unit]
Description=A toy
DefaultDependencies=no
[Service]
ExecStart=/bin/sleep 1000
`;
const BROKEN = `[Unit]
Description=Ends at once
DefaultDependencies=no
[Service]
ExecStart=/bin/sh -c "exit 7"
`;

describe('the systemd driver', { skip: unless('root', 'systemd', 'unshare', 'nsenter') }, () => {
  it('starts, adopts, sees what others do, and says what failed', async (t) => {
    const systemd = await Systemd.start({ 'toy.service': TOY, 'broken.service': BROKEN });
    t.after(() => systemd.close());
    const systemctl = [...systemd.prefix, 'systemctl'];
    const s = await Supervised.open(
      t,
      {
        'toy.yaml': manifestText({ name: 'toy', driver: 'systemd' }),
        'broken.yaml': manifestText({ name: 'broken', driver: 'systemd', start: { settle: '6s', retries: 1 } }),
        'none.yaml': manifestText({ name: 'none', driver: 'systemd', unit: 'no-such' }),
      },
      { systemctl },
    );
    assert.match((await s.state('none', 'FATAL')).reason, /systemd knows no unit no-such.service: install it/);
    const first = await s.state('toy', 'RUNNING');
    assert.ok(first.pid > 0);
    await s.again();
    assert.equal((await s.state('toy', 'RUNNING')).pid, first.pid);
    assert.notEqual((await s.services.restart('toy')).pid, first.pid);
    await systemd.run('systemctl', 'stop', 'toy.service');
    assert.equal((await s.state('toy', 'STOPPED')).reason, 'it was stopped outside Muster');
    await systemd.run('systemctl', 'start', 'toy.service');
    const again = await s.state('toy', 'RUNNING');
    await systemd.run('systemctl', 'kill', '--signal=SIGKILL', 'toy.service');
    await waitFor(
      'another process',
      () => s.services.get('toy').state === 'RUNNING' && s.services.get('toy').pid !== again.pid,
    );
    assert.equal((await s.services.stop('toy')).state, 'STOPPED');
    assert.equal(
      (await systemd.run('systemctl', 'show', '-p', 'ActiveState', '--value', 'toy.service')).trim(),
      'inactive',
    );
    assert.match((await s.state('broken', 'FATAL')).reason, /ended with code 7 \(systemd: exit-code\)/);
  });

  it('installs the unit files of releases, and puts back what was there before', async (t) => {
    const systemd = await Systemd.start({ 'known.service': TOY });
    t.after(() => systemd.close());
    const systemctl = [...systemd.prefix, 'systemctl'];
    const s = await Supervised.open(t, {}, { systemctl, units: systemd.units });
    const file = join(systemd.units, 'web.service');
    const hold = await s.services.hold('web', 'the deploy of 1.0.0');
    const one = await release(s.directory, '1.0.0');
    const two = await release(s.directory, '2.0.0');
    await run(hold, one);
    assert.match(await readFile(file, 'utf8'), /ExecStart=\/.*1\.0\.0\/run/);
    assert.equal(await said(s.directory), 'daemon in 1.0.0');
    await hold.stop();
    await run(hold, two);
    assert.equal(await said(s.directory), 'daemon in 2.0.0');
    await hold.stop();
    await run(hold, one);
    assert.equal(await said(s.directory), 'daemon in 1.0.0');
    const { pid } = s.services.get('web');
    hold.letGo();
    await s.again();
    assert.equal((await s.state('web', 'RUNNING')).pid, pid, 'the next agent takes it over');
    const last = await s.services.hold('web', 'the undo of it');
    await last.stop();
    await last.become(undefined);
    last.letGo();
    assert.deepEqual((await readdir(systemd.units)).sort(), ['known.service', 'muster-test.target']);
    assert.equal(
      (await systemd.run('systemctl', 'show', '-p', 'LoadState', '--value', 'web.service')).trim(),
      'not-found',
    );
    const other = await s.services.hold('known', 'a first deploy');
    await assert.rejects(
      other.become(await release(s.directory, '3.0.0', 'known')),
      /is there, Muster did not install it/,
    );
    other.letGo();
  });
});

const UNIT = `[Unit]
DefaultDependencies=no
[Service]
User=@USER@
WorkingDirectory=@RELEASE@
ExecStart=@RELEASE@/run @SHARED@
`;
const RUN = `#!/bin/sh
echo "$(id -un) in $(basename $(pwd))" > $1/said
exec sleep 1000
`;

/** A release of a service that runs as daemon and says in its shared directory who and where it is. */
async function release(data: string, version: string, service = 'web'): Promise<ServiceSource> {
  const folder = join(data, 'services', service, 'releases', version);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, `${service}.service`), UNIT);
  await writeFile(join(folder, 'run'), RUN, { mode: 0o755 });
  const text = manifestText({ name: service, version, driver: 'systemd', user: 'daemon', start: { settle: '0s' } });
  const ref = { service, version, digest: version.padEnd(64, '0'), modules: [], configRevision: 0 };
  return {
    manifest: parseManifest(text, { file: service }),
    manifestText: text,
    folder,
    release: { ref, deployedMs: 0, verified: false },
  };
}

async function run(hold: Hold, source: ServiceSource): Promise<void> {
  await hold.become(source);
  await hold.start();
}

/** What the last start said, which is told once. */
async function said(data: string): Promise<string> {
  const path = join(data, 'services/web/shared/said');
  const text = await waitFor('it to say who it is', async () => (await readFile(path, 'utf8')).trim() || undefined);
  await writeFile(path, '');
  return text;
}
