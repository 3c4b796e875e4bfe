import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { unless } from '../../support/debian.js';
import { PrivateMounts } from '../../support/namespaces.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { alive, localInstance, pidOf, running, stopped } from './observe.js';

const NOTED = fileURLToPath(new URL('programs/noted.mjs', import.meta.url));
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

describe('a reboot of the machine', { skip: unless('root', 'unshare', 'nsenter', 'curl') }, () => {
  let mounts: PrivateMounts;
  let site: Site;
  let agent: TestAgent;

  const starts = async (service: string): Promise<number> =>
    (await readFile(join(agent.data, `${service}.starts`), 'utf8')).trim().split('\n').length;

  before(async () => {
    mounts = await PrivateMounts.create();
    await mounts.replace(BOOT_ID, `${randomUUID()}\n`);
    site = await Site.start();
    agent = await site.addAgent('box', {}, mounts);
    for (const service of ['wanted', 'resting']) {
      await agent.declare(
        service,
        [
          `name: ${service}`,
          `command: [${process.execPath}, ${NOTED}, ${join(agent.data, `${service}.starts`)}]`,
          'start: { settle: 200ms }',
        ].join('\n'),
      );
    }
    await agent.declare(
      'once',
      [
        'name: once',
        `command: [sh, -c, "echo . >> ${join(agent.data, 'once.starts')}"]`,
        'restart: on-failure',
        'start: { settle: 0s }',
      ].join('\n'),
    );
  });

  after(async () => {
    await site.close();
    await mounts.close();
  });

  it('starts what is wanted and leaves stopped what was stopped', async () => {
    const wanted = await site.instance('wanted', 'RUNNING', running);
    await site.instance('resting', 'RUNNING', running);
    // They run before their own code has come to note that.
    for (const name of ['wanted', 'resting']) {
      await waitFor(`the start of ${name} to be noted`, async () => (await starts(name)) >= 1);
    }
    assert.equal((await site.cli('stop', 'resting')).status, 0);
    await site.instance('once', 'EXITED', (one) => one.state === 'SERVICE_STATE_EXITED');

    await agent.process.end('SIGKILL');
    await agent.process.start();
    assert.equal((await site.instance('wanted', 'RUNNING', running)).pid, wanted.pid);
    assert.equal(await starts('once'), 1, 'the same boot: what has ended is not run again');

    await agent.process.end('SIGKILL');
    process.kill(-pidOf(wanted), 'SIGKILL');
    await mounts.replace(BOOT_ID, `${randomUUID()}\n`);
    await agent.process.start();
    const back = await site.instance('wanted', 'RUNNING again', (one) => running(one) && one.pid !== wanted.pid);
    assert.equal(await alive(pidOf(back)), true);
    await waitFor('its start to be noted', async () => (await starts('wanted')) >= 2);
    assert.equal(await starts('wanted'), 2);
    await site.instance('resting', 'STOPPED', stopped);
    assert.equal(await starts('resting'), 1);
    await waitFor('another boot to run it once more', async () => (await starts('once')) === 2);
    await site.instance('once', 'EXITED', (one) => one.state === 'SERVICE_STATE_EXITED');
    assert.equal(await starts('once'), 2, 'once more, not twice');
  });

  it('does not take a stranger with an old pid for the service', async () => {
    const before = pidOf(await localInstance(agent, 'wanted'));
    await agent.process.end('SIGKILL');
    // The process of before lives on here, but with another boot id it can only be a stranger that got its pid.
    await mounts.replace(BOOT_ID, `${randomUUID()}\n`);
    await agent.process.start();
    const back = await site.instance('wanted', 'RUNNING anew', (one) => running(one) && one.pid !== before);
    assert.equal(await alive(before), true, 'a stranger is not killed');
    process.kill(-before, 'SIGKILL');
    assert.equal(await alive(pidOf(back)), true);
  });
});
