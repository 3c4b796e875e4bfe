import assert from 'node:assert/strict';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { freePort, must, nginxConfiguration, system } from '../../support/debian.js';
import type { Site, TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { allWell, cleared, curl, passing, pidOf, raised, running, stopped } from './observe.js';

/** Where nginx of a test runs, and how people there would handle it without us. */
export interface NginxPlace {
  readonly driver: 'sysv' | 'systemd';
  /** Runs a program where nginx is. */
  readonly run: (...command: string[]) => Promise<string>;
  readonly prefix: readonly string[];
  /** What starts or stops it by hand. */
  readonly byHand: (action: 'start' | 'stop' | 'restart') => readonly string[];
}

export interface Nginx {
  readonly site: Site;
  readonly agent: TestAgent;
  readonly place: NginxPlace;
  readonly port: number;
  /** Writes its configuration anew, for this port. */
  readonly configure: (port: number) => Promise<void>;
}

/** Puts a configuration of our own in the place of the system's and declares the service. */
export async function placeNginx(site: Site, agent: TestAgent, place: NginxPlace): Promise<Nginx> {
  const directory = join(site.directory, 'nginx');
  await mkdir(directory);
  await chmod(directory, 0o755);
  const port = await freePort();
  const file = join(directory, 'nginx.conf');
  const configure = (at: number): Promise<void> =>
    writeFile(file, nginxConfiguration({ directory, port: at, pidFile: '/run/nginx.pid' }));
  await configure(port);
  await place.run('mount', '--bind', file, '/etc/nginx/nginx.conf');
  await agent.declare(
    'nginx',
    [
      'name: nginx',
      `driver: ${place.driver}`,
      `ports: [{ name: http, port: ${port} }]`,
      'ping: { http: /, port: http, every: 300ms, timeout: 1s, failures: 2 }',
      'start: { settle: 300ms, retries: 2 }',
    ].join('\n'),
  );
  return { site, agent, place, port, configure };
}

async function answers(port: number): Promise<boolean> {
  return (await system('curl', '-s', '--max-time', '5', `http://127.0.0.1:${port}/`)).stdout === 'well\n';
}

async function masterPid({ place }: Nginx): Promise<number> {
  return Number((await place.run('cat', '/run/nginx.pid')).trim());
}

/** An order from the center that must succeed. */
async function steer({ site }: Nginx, action: 'start' | 'stop' | 'restart'): Promise<void> {
  const { status, stdout, stderr } = await site.cli(action, 'nginx');
  assert.equal(status, 0, `${action}: ${stdout}${stderr}`);
}

/** The tests that are the same whoever runs nginx. */
export function steersNginx(nginx: () => Nginx): void {
  it('is started because it is wanted, and passes its checks', async () => {
    const here = nginx();
    const instance = await here.site.instance('nginx', 'RUNNING and PASSING', passing);
    assert.equal(await answers(here.port), true);
    assert.equal(instance.pid, await masterPid(here));
  });

  it('is restarted, stopped and started from the center', async () => {
    const here = nginx();
    const before = await masterPid(here);
    await steer(here, 'restart');
    assert.notEqual(await masterPid(here), before);

    await steer(here, 'stop');
    await here.site.instance('nginx', 'STOPPED', stopped);
    assert.equal(await answers(here.port), false);

    await steer(here, 'start');
    await here.site.instance('nginx', 'RUNNING and PASSING', passing);
    assert.equal(await answers(here.port), true);
  });

  it("is stopped and started with curl on the agent's socket", async () => {
    const here = nginx();
    const stop = await curl(here.agent, '/services/nginx/stop', '-X', 'POST');
    assert.equal(stop.status, 200, stop.body);
    assert.equal(await answers(here.port), false);
    const start = await curl(here.agent, '/services/nginx/start', '-X', 'POST');
    assert.equal(start.status, 200, start.body);
    await here.site.instance('nginx', 'PASSING', passing);
  });

  it('is seen to stop and start when people do it without us, and is left as they want it', async () => {
    const here = nginx();
    await allWell(here.site);
    await must(...here.place.prefix, ...here.place.byHand('stop'));
    const resting = await here.site.instance('nginx', 'not RUNNING', (instance) => !running(instance));
    assert.notEqual(resting.reason ?? '', '', 'why it stands is said');
    const alert = await raised(here.site, 'service_stopped', { service: 'nginx' });
    await must(...here.place.prefix, ...here.place.byHand('start'));
    const back = await here.site.instance('nginx', 'RUNNING and PASSING', passing);
    assert.equal(back.pid, await masterPid(here));
    await cleared(here.site, alert);
    await allWell(here.site);
  });

  it('is restarted when people have stopped and started it behind our back', async () => {
    const here = nginx();
    await must(...here.place.prefix, ...here.place.byHand('stop'));
    await here.site.instance('nginx', 'not RUNNING', (instance) => !running(instance));
    await must(...here.place.prefix, ...here.place.byHand('start'));
    const theirs = await waitFor('nginx of others', () => masterPid(here));
    await steer(here, 'restart');
    assert.notEqual(await masterPid(here), theirs);
    await here.site.instance('nginx', 'PASSING', passing);
    await allWell(here.site);
  });

  it('raises a port and a ping alert when it listens elsewhere, and clears them after repair', async () => {
    const here = nginx();
    const elsewhere = await freePort();
    await here.configure(elsewhere);
    await must(...here.place.prefix, ...here.place.byHand('restart'));
    await waitFor('nginx to listen elsewhere', () => answers(elsewhere));
    const port = await raised(here.site, 'port_down', { service: 'nginx' });
    assert.match(String(port.message), new RegExp(String(here.port)));
    const ping = await raised(here.site, 'ping_failing', { service: 'nginx' });
    await here.configure(here.port);
    await steer(here, 'restart');
    assert.equal(await answers(elsewhere), false, 'what others started is stopped by a restart');
    await cleared(here.site, port);
    await cleared(here.site, ping);
    await here.site.instance('nginx', 'PASSING', passing);
  });

  it('cannot be started with a broken configuration: that is said, and repaired', async () => {
    const here = nginx();
    await steer(here, 'stop');
    await here.configure(-1);
    const start = await here.site.cli('start', 'nginx');
    assert.equal(start.status, 1, start.stdout);
    assert.match(start.stdout, /FAILED/);
    await here.configure(here.port);
    await steer(here, 'start');
    await here.site.instance('nginx', 'PASSING', passing);
  });

  it('can be restarted as often as people want', async () => {
    const here = nginx();
    for (let count = 0; count < 7; count += 1) await steer(here, 'restart');
    await here.site.instance('nginx', 'PASSING', passing);
  });

  it('is not touched when its agent is killed, and is known again at once', async () => {
    const here = nginx();
    const before = pidOf(await here.site.instance('nginx', 'PASSING', passing));
    await here.agent.process.end('SIGKILL');
    assert.equal(await answers(here.port), true);
    await here.agent.process.start();
    const back = await here.site.instance('nginx', 'PASSING', passing);
    assert.equal(back.pid, before);
    assert.equal(await masterPid(here), before);
  });
}
