import { spawn, type ChildProcess } from 'node:child_process';
import { sleep, type Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Manifest } from '../../model/manifest.js';
import { Tail } from '../probes/exec.js';
import { LaunchRefused, type Subject } from './driver.js';
import { hasVariable, listPids, signalGroup } from './proc.js';
import type { EnvironmentOf } from './process-driver.js';
import { becoming, cannotRun, checkDirectory, findCommand, serviceEnvironment } from './process-launch.js';
import { chooseUser, type ServiceUser } from './users.js';
import { ensureOwned } from './workplace.js';

export interface ProgramsOptions {
  readonly clock: Clock;
  /** User of services that name none, when the agent is root. */
  readonly defaultUser: string;
  readonly environmentOf: EnvironmentOf;
}

export interface Program {
  readonly argv: readonly string[];
  /** Absolute. */
  readonly directory: string;
  readonly timeoutMs: number;
}

export interface ProgramEnd {
  /** Undefined when it could not be run, was killed or ran out of time. */
  readonly code: number | undefined;
  /** The last 4 KiB of what it printed, or why it could not be run. */
  readonly output: string;
  readonly timedOut: boolean;
}

/** In the environment of a program and all it starts; its value is the service's shared directory, which no two services share. */
export const PROGRAM_OF = 'MUSTER_PROGRAM_OF';
/** Output may still be in the pipes when the program has ended; whoever inherited them may hold them open. */
const DRAIN_MS = 250;
/**
 * What is killed may have started others meanwhile, and is seen until the kernel has taken it apart; a process in the middle of its exec shows no
 * environment for a moment. So nothing is left when two looks, this far apart, find nothing.
 */
const LOOK_EVERY_MS = 10;
const CLEAN_LOOKS = 2;
/** What is not gone after so many looks cannot be killed: it waits in the kernel for a device. */
const LOOKS_MAX = 300;

/** Programs of a service beside the service itself, its hooks and its verify script: run as its user, with its environment. */
export class Programs {
  readonly #options: ProgramsOptions;
  readonly #ownUid = process.getuid?.() ?? 0;

  constructor(options: ProgramsOptions) {
    this.#options = options;
  }

  /** Who programs of the service run as. @throws LaunchRefused where there is no such user, or the agent may not become it */
  userOf(manifest: Manifest): Promise<ServiceUser> {
    const { clock, defaultUser } = this.#options;
    return chooseUser(clock, manifest.user, defaultUser, this.#ownUid);
  }

  /** Who is to own what the service may write; undefined: the agent itself. @throws as userOf */
  async ownerOf(manifest: Manifest): Promise<ServiceUser | undefined> {
    return this.#ownUid === 0 ? this.userOf(manifest) : undefined;
  }

  /** Makes the service's shared and log directories. @throws as userOf */
  async makeDirectories({ manifest, sharedDirectory, logDirectory }: Subject): Promise<void> {
    const owner = await this.ownerOf(manifest);
    for (const directory of [logDirectory, sharedDirectory]) await ensureOwned(directory, owner);
  }

  /**
   * Runs it to its end, in a process group of its own. When it has ended or run out of time, nothing it started goes on. What keeps it from
   * being run is told as its output. `offered`: it gets the service's own socket.
   */
  async run(subject: Subject, program: Program, { offered }: { readonly offered: boolean }): Promise<ProgramEnd> {
    try {
      const user = await this.userOf(subject.manifest);
      await this.makeDirectories(subject);
      await checkDirectory(program.directory);
      const environment = await this.#environment(subject, user, offered);
      const [command = '', ...args] = program.argv;
      const path = environment['PATH'] ?? '';
      const place = { command, directory: program.directory, path, named: 'the program' };
      const file = await findCommand(place, user);
      const child = await this.#spawn([file, ...args], { user, environment, directory: program.directory });
      return await this.#follow(child, subject, program.timeoutMs);
    } catch (error) {
      if (!(error instanceof LaunchRefused)) throw error;
      return { code: undefined, output: error.message, timedOut: false };
    }
  }

  /** Kills what programs of the service left behind, also those that an earlier agent ran and those that left their process group. */
  async sweep({ sharedDirectory }: Pick<Subject, 'sharedDirectory'>): Promise<void> {
    let clean = 0;
    for (let look = 0; look < LOOKS_MAX && clean < CLEAN_LOOKS; look += 1) {
      if (look > 0) await sleep(this.#options.clock, LOOK_EVERY_MS);
      clean += 1;
      for (const pid of await listPids()) {
        if (pid === process.pid || !(await hasVariable(pid, PROGRAM_OF, sharedDirectory))) continue;
        clean = 0;
        killQuietly(pid);
      }
    }
  }

  async #environment(subject: Subject, user: ServiceUser, offered: boolean): Promise<Readonly<Record<string, string>>> {
    const service = subject.manifest.name;
    const extra = offered ? await this.#options.environmentOf({ service, uid: user.uid, gid: user.gid }) : {};
    return {
      ...serviceEnvironment({ subject, user, extra, startId: '' }),
      [PROGRAM_OF]: subject.sharedDirectory,
    };
  }

  async #spawn(
    [file = '', ...args]: readonly string[],
    { user, environment, directory }: Surrounding,
  ): Promise<ChildProcess> {
    const become = this.#ownUid === 0 ? await becoming(user) : { prefix: [], options: {} };
    const [program = '', ...argv] = [...become.prefix, file, ...args];
    let child: ChildProcess;
    try {
      child = spawn(program, argv, {
        cwd: directory,
        env: { ...environment },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
        ...become.options,
      });
    } catch (error) {
      throw new LaunchRefused(`${file} cannot be run: ${messageOf(error)}`, true, error);
    }
    await new Promise<void>((done, fail) => {
      child.once('spawn', done);
      child.once('error', (error) => {
        fail(cannotRun(file, user, error));
      });
    });
    return child;
  }

  async #follow(child: ChildProcess, subject: Subject, timeoutMs: number): Promise<ProgramEnd> {
    const output = new Tail();
    child.stdout?.on('data', output.take);
    child.stderr?.on('data', output.take);
    child.on('error', () => undefined);
    const ended = new Promise<number | undefined>((resolve) => {
      child.once('exit', (code) => {
        resolve(code ?? undefined);
      });
    });
    const limited = { timedOut: false };
    const limit = this.#options.clock.after(timeoutMs, () => {
      limited.timedOut = true;
      killGroup(child);
    });
    const code = await ended;
    limit.cancel();
    killGroup(child);
    await this.sweep(subject);
    await this.#drained(child);
    const { timedOut } = limited;
    return { code: timedOut ? undefined : code, output: output.text(), timedOut };
  }

  async #drained(child: ChildProcess): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(DRAIN_MS, resolve);
      const streams = [child.stdout, child.stderr].filter((stream) => stream?.readableEnded === false);
      let open = streams.length;
      const done = (): void => {
        open -= 1;
        if (open > 0) return;
        timer.cancel();
        resolve();
      };
      if (open === 0) done();
      for (const stream of streams) stream?.once('close', done);
    });
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
}

interface Surrounding {
  readonly user: ServiceUser;
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string;
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    signalGroup(pid, 'SIGKILL');
  } catch {
    // EPERM: what is left of the group has made itself another user's.
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
