import type { Clock } from '../../kit/clock.js';
import { LaunchRefused } from './driver.js';
import { runExternal } from '../system/external.js';

/** Who a service runs as. */
export interface ServiceUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups, `gid` among them. */
  readonly groups: readonly number[];
  readonly home: string;
  readonly shell: string;
}

const LOOKUP_TIMEOUT_MS = 10_000;

/** The user of a line of passwd(5). */
export function parsePasswd(line: string): Omit<ServiceUser, 'groups'> | undefined {
  const [name, , uid, gid, , home, shell] = line.trim().split(':');
  if (!name || !uid || !gid || !/^\d+$/.test(uid) || !/^\d+$/.test(gid)) return undefined;
  return {
    name,
    uid: Number(uid),
    gid: Number(gid),
    home: home === '' ? '/' : (home ?? '/'),
    shell: shell ?? '/bin/sh',
  };
}

/**
 * Looks a user up where the machine does (files, LDAP, ...), by getent and id.
 * @throws LaunchRefused when there is no such user, or it cannot be looked up now
 */
export async function lookUpUser(clock: Clock, nameOrId: string): Promise<ServiceUser> {
  const entry = await runExternal(clock, { command: ['getent', 'passwd', nameOrId], timeoutMs: LOOKUP_TIMEOUT_MS });
  if (entry.code === 2) {
    throw new LaunchRefused(
      `there is no user "${nameOrId}" on this machine: create it, or name another in its manifest`,
      false,
    );
  }
  const user = entry.code === 0 ? parsePasswd(entry.output) : undefined;
  const groups = user && (await runExternal(clock, { command: ['id', '-G', user.name], timeoutMs: LOOKUP_TIMEOUT_MS }));
  if (!user || groups?.code !== 0) {
    throw new LaunchRefused(`user "${nameOrId}" cannot be looked up: ${groups?.output ?? entry.output}`, true);
  }
  return { ...user, groups: groups.output.split(/\s+/).map(Number) };
}

/** The user to run as: root may become anyone, but becomes root only when told to; anyone else stays who they are. */
export async function chooseUser(
  clock: Clock,
  asked: string | undefined,
  defaultUser: string,
  ownUid: number,
): Promise<ServiceUser> {
  if (ownUid === 0) return lookUpUser(clock, asked ?? defaultUser);
  const own = await lookUpUser(clock, String(ownUid));
  if (asked !== undefined && asked !== own.name) {
    throw new LaunchRefused(
      `the agent runs as ${own.name} and cannot run a service as ${asked}: run the agent as root, or leave "user" out`,
      false,
    );
  }
  return own;
}
