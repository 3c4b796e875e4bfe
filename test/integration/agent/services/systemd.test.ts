import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
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
});
