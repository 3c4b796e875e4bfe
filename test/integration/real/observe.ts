import { systemClock } from '../../../src/kit/clock.js';
import { muster, type Site, type TestAgent, type InstanceJson } from '../../support/site.js';
import { must, system } from '../../support/debian.js';
import { waitFor } from '../../support/waiting.js';

/** What the tests with real parts look at, always through what an operator would use. */

export interface AlertJson {
  readonly id: string;
  readonly kind: string;
  readonly machineName?: string;
  readonly service?: string;
  readonly message?: string;
  readonly raised: string;
  readonly cleared?: string;
  readonly unknownSince?: string;
}

export async function alertsOf(site: Site): Promise<AlertJson[]> {
  const { alerts } = (await site.json('alerts', '--all')) as { alerts?: AlertJson[] };
  return alerts ?? [];
}

/** Waits until an alert of this kind is raised. */
export function raised(
  site: Site,
  kind: string,
  about: { service?: string; machineName?: string } = {},
): Promise<AlertJson> {
  return waitFor(`an alert ${kind}`, async () =>
    (await alertsOf(site)).find(
      (alert) =>
        alert.kind === kind &&
        alert.cleared === undefined &&
        (about.service === undefined || alert.service === about.service) &&
        (about.machineName === undefined || alert.machineName === about.machineName),
    ),
  );
}

/** Waits until that very alert is cleared. */
export function cleared(site: Site, alert: AlertJson): Promise<AlertJson> {
  return waitFor(`alert ${alert.kind} to clear`, async () =>
    (await alertsOf(site)).find((one) => one.id === alert.id && one.cleared !== undefined),
  );
}

/** Waits until nothing is wrong any more. That a service was restarted is said for five minutes after it, and does not count. */
export async function allWell(site: Site): Promise<void> {
  await waitFor('no alert to be left', async () =>
    (await alertsOf(site)).every((alert) => alert.cleared !== undefined || alert.kind === 'service_restarting')
      ? true
      : undefined,
  );
}

/** Asks an agent over its unix socket as people do, with curl. */
export async function curl(
  agent: TestAgent,
  path: string,
  ...options: string[]
): Promise<{ status: number; body: string }> {
  const said = await must(
    ...['curl', '-s', '--max-time', '60', '--unix-socket', agent.socket, '-w', '\n%{http_code}'],
    ...options,
    `http://localhost${path}`,
  );
  const end = said.lastIndexOf('\n');
  return { status: Number(said.slice(end + 1)), body: said.slice(0, end) };
}

/** An instance as its own agent shows it. */
export async function localInstance(agent: TestAgent, service: string): Promise<InstanceJson> {
  return JSON.parse((await curl(agent, `/services/${service}`)).body) as InstanceJson;
}

export const running = (instance: InstanceJson): boolean =>
  instance.state === 'SERVICE_STATE_RUNNING' && instance.unknownSince === undefined;

export const passing = (instance: InstanceJson): boolean => running(instance) && instance.health === 'HEALTH_PASSING';

export const stopped = (instance: InstanceJson): boolean => instance.state === 'SERVICE_STATE_STOPPED';

/** The pid of an instance that must have one. */
export function pidOf(instance: InstanceJson): number {
  if (instance.pid === undefined || instance.pid <= 0) throw new Error(`${instance.service} has no pid`);
  return instance.pid;
}

/** Whether a process of this machine lives; a zombie does not. */
export async function alive(pid: number): Promise<boolean> {
  const { status, stdout } = await system('ps', '-o', 'stat=', '-p', String(pid));
  return status === 0 && !stdout.startsWith('Z');
}

/** How soon a new agent must have its services back, on a machine that has time for it. */
const ADOPTED_WITHIN_MS = 5000;
/** What the shortest command line takes there. */
const BARE_START_MS = 250;

/**
 * Starts an agent that was killed and waits until it says that it runs `service` again. Gives the instance, how long that took, and how long it may
 * take here and now: five seconds, and more only by as much as this machine is too busy to start any program in its usual time.
 */
export async function adopted(
  agent: TestAgent,
  service: string,
): Promise<{ readonly instance: InstanceJson; readonly tookMs: number; readonly boundMs: number }> {
  const bareMs = await timed(() => muster(['--version']));
  let instance: InstanceJson | undefined;
  const tookMs = await timed(async () => {
    await agent.process.start();
    instance = await waitFor(`the new agent to have ${service}`, async () => {
      const seen = await localInstance(agent, service);
      return running(seen) && seen;
    });
  });
  if (!instance) throw new Error(`${service} was not seen`);
  return { instance, tookMs, boundMs: ADOPTED_WITHIN_MS * Math.max(1, bareMs / BARE_START_MS) };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const fromMs = systemClock.monotonic();
  await work();
  return Math.round(systemClock.monotonic() - fromMs);
}

export interface CommandJson {
  readonly id: string;
  readonly machineName: string;
  readonly service: string;
  readonly outcome: string;
  readonly message?: string;
  readonly unknownSince?: string;
}

/** The commands of the site, newest first. */
export async function commandsOf(site: Site): Promise<CommandJson[]> {
  const { commands } = (await site.json('commands')) as { commands?: CommandJson[] };
  return commands ?? [];
}
