import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { errnoOf, messageOf } from '../../kit/errors.js';
import { LaunchRefused, type Subject } from './driver.js';
import { SYSTEM_ENVIRONMENT } from '../system/external.js';
import type { ServiceUser } from './users.js';
import { modulesDirectory } from './workplace.js';

/** Turning a manifest into a process. */

/** Carries the id of a start into the process, where a later agent finds it. */
export const START_ID = 'MUSTER_START_ID';

export interface Launch {
  readonly subject: Subject;
  /** Absolute path of the command, as findProgram gives it. */
  readonly program: string;
  readonly user: ServiceUser;
  /** What the agent adds, for example MUSTER_AGENT. */
  readonly extra: Readonly<Record<string, string>>;
  readonly startId: string;
  /** Takes standard output and error. */
  readonly outputFd: number;
}

/** The whole environment of a service: nothing of the agent's own but PATH, LANG and TZ. */
export function serviceEnvironment(launch: Omit<Launch, 'outputFd' | 'program'>): Record<string, string> {
  const { subject, user, extra, startId } = launch;
  const { manifest } = subject;
  const base: Record<string, string> = {
    PATH: agentPath(),
    LANG: process.env['LANG'] ?? 'C.UTF-8',
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: user.shell,
  };
  const zone = process.env['TZ'];
  // A check that carried the id of a start could be taken for the service itself.
  const identity = startId === '' ? {} : { [START_ID]: startId };
  return {
    ...base,
    ...(zone === undefined ? {} : { TZ: zone }),
    ...manifest.env,
    ...extra,
    MUSTER_SERVICE: manifest.name,
    MUSTER_LOG_DIR: subject.logDirectory,
    MUSTER_SHARED_DIR: subject.sharedDirectory,
    MUSTER_RELEASE: manifest.version,
    ...(subject.releaseDirectory === undefined ? {} : { MUSTER_MODULES: modulesDirectory(subject.releaseDirectory) }),
    ...identity,
  };
}

function agentPath(): string {
  return process.env['PATH'] ?? SYSTEM_ENVIRONMENT['PATH'] ?? '';
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** Whether its permission bits let this user execute it. */
async function mayExecute(program: string, { uid, groups }: Pick<ServiceUser, 'uid' | 'groups'>): Promise<boolean> {
  const facts = await stat(program).catch(() => undefined);
  if (!facts) return false;
  if (uid === 0) return true;
  if (facts.uid === uid) return (facts.mode & 0o100) !== 0;
  return (facts.mode & (groups.includes(facts.gid) ? 0o010 : 0o001)) !== 0;
}

/** The first that the user may execute; without one, the first that somebody may, and the start will say who may not. */
async function findOnPath(
  path: string,
  command: string,
  user: Pick<ServiceUser, 'uid' | 'groups'>,
): Promise<string | undefined> {
  let other: string | undefined;
  for (const place of path.split(':').filter((one) => isAbsolute(one))) {
    const program = join(place, command);
    if (!(await isProgram(program))) continue;
    if (await mayExecute(program, user)) return program;
    other ??= program;
  }
  return other;
}

/**
 * The absolute path of a service's command: as said, relative to the working directory when it has a slash, else by PATH.
 * @throws LaunchRefused
 */
export async function findProgram(
  { manifest, workingDirectory }: Subject,
  user: Pick<ServiceUser, 'uid' | 'groups'>,
): Promise<string> {
  const path = manifest.env['PATH'] ?? agentPath();
  const named = '"command"';
  return findCommand({ command: manifest.command[0] ?? '', directory: workingDirectory, path, named }, user);
}

export interface CommandPlace {
  readonly command: string;
  /** Absolute; where it is looked for when it has a slash. */
  readonly directory: string;
  readonly path: string;
  /** What of a manifest names it. */
  readonly named: string;
}

/**
 * As findProgram, for any command.
 * @throws LaunchRefused
 */
export async function findCommand(
  { command, directory, path, named }: CommandPlace,
  user: Pick<ServiceUser, 'uid' | 'groups'>,
): Promise<string> {
  if (command.includes('/')) {
    const program = isAbsolute(command) ? command : resolve(directory, command);
    if (await isProgram(program)) return program;
    const why = await stat(program).then(
      () => 'is not a program: make it executable',
      () => `does not exist: correct ${named} in its manifest, or put the program there`,
    );
    throw new LaunchRefused(`the command ${program} ${why}`, false);
  }
  const program = await findOnPath(path, command, user);
  if (program !== undefined) return program;
  throw new LaunchRefused(
    `the command "${command}" is in no directory of PATH (${path}): install it, or write its whole path in the manifest`,
    false,
  );
}

/** @throws LaunchRefused when the working directory is not there */
export async function checkDirectory(path: string): Promise<void> {
  const facts = await stat(path).catch((error: unknown) => {
    throw new LaunchRefused(
      `the working directory ${path} cannot be used (${messageOf(error)}): make it, or correct "directory" in its manifest`,
      false,
      error,
    );
  });
  if (!facts.isDirectory())
    throw new LaunchRefused(
      `the working directory ${path} is not a directory: correct "directory" in its manifest`,
      false,
    );
}

/**
 * Starts the process in a session and process group of its own. It holds no pipe to the agent, so the agent may die.
 * @throws LaunchRefused
 */
export async function spawnService(launch: Launch, ownUid: number): Promise<ChildProcess & { readonly pid: number }> {
  const { subject, user, program } = launch;
  const args = subject.manifest.command.slice(1);
  const become = ownUid === 0 ? await becoming(user) : { prefix: [], options: {} };
  const [file = '', ...argv] = [...become.prefix, program, ...args];
  const child = trySpawn(() =>
    spawn(file, argv, {
      cwd: subject.workingDirectory,
      env: serviceEnvironment(launch),
      stdio: ['ignore', launch.outputFd, launch.outputFd],
      detached: true,
      ...become.options,
    }),
  );
  await new Promise<void>((done, fail) => {
    child.once('spawn', done);
    child.once('error', (error) => {
      fail(cannotRun(program, user, error));
    });
  });
  const { pid } = child;
  if (pid === undefined) throw new LaunchRefused(`${program} cannot be run`, true);
  return Object.assign(child, { pid });
}

function trySpawn(run: () => ChildProcess): ChildProcess {
  try {
    return run();
  } catch (error) {
    throw new LaunchRefused(`the process cannot be made: ${messageOf(error)}`, true, error);
  }
}

export function cannotRun(program: string, user: ServiceUser, error: unknown): LaunchRefused {
  const code = errnoOf(error);
  if (code === 'ENOENT') {
    return new LaunchRefused(
      `${program} cannot be run: the interpreter its first line names does not exist: install it, or correct that line`,
      false,
      error,
    );
  }
  if (code === 'EACCES') {
    return new LaunchRefused(
      `${program} cannot be run: user ${user.name} may not execute it or enter its directory; ` +
        `name another user with "user" in its manifest, or give ${user.name} the permissions`,
      false,
      error,
    );
  }
  return new LaunchRefused(`${program} cannot be run: ${messageOf(error)}`, true, error);
}

const SETPRIV = '/usr/bin/setpriv';

/**
 * How root becomes the service's user. Node drops all supplementary groups when it sets a user, so a user who has some is become
 * by setpriv, which then is replaced by the program: the pid stays.
 */
export async function becoming(
  user: ServiceUser,
): Promise<{ prefix: string[]; options: { uid?: number; gid?: number } }> {
  const others = user.groups.filter((group) => group !== user.gid);
  if (others.length === 0 || !(await isProgram(SETPRIV)))
    return { prefix: [], options: { uid: user.uid, gid: user.gid } };
  const groups = [user.gid, ...others].join(',');
  return { prefix: [SETPRIV, `--reuid=${user.uid}`, `--regid=${user.gid}`, `--groups=${groups}`, '--'], options: {} };
}
