import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from './debian.js';
import { waitFor } from './waiting.js';

const PROGRAM = fileURLToPath(new URL('../../bin/muster.js', import.meta.url));

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function commandLine(prefix: readonly string[] = [], args: readonly string[]): [string, ...string[]] {
  const [first, ...rest] = prefix;
  return first === undefined
    ? [process.execPath, PROGRAM, ...args]
    : [first, ...rest, process.execPath, PROGRAM, ...args];
}

/** Runs the compiled program to its end. `prefix` goes before it, for example `ip netns exec NAME`. */
export async function muster(
  args: readonly string[],
  options: { readonly prefix?: readonly string[]; readonly input?: string; readonly env?: Record<string, string> } = {},
): Promise<CliResult> {
  const [command, ...rest] = commandLine(options.prefix, args);
  const child = spawn(command, rest, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', ...options.env },
  });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk: Buffer) => {
      said[name] += chunk.toString('utf8');
    });
  }
  child.stdin.end(options.input ?? '');
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ...said };
}

/** The child of an nsenter that had to fork; undefined for any other process, and for one that is gone. */
function forkedBy(pid: number): number | undefined {
  try {
    if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'nsenter') return undefined;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()) || undefined;
  } catch {
    return undefined;
  }
}

/** A server of a site under test: a real process that can be killed and started again. */
export class ServerProcess {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #prefix: readonly string[];
  readonly #log: string;
  #child: ChildProcess | undefined;
  /** The JSON document it prints when it is ready. */
  ready: Record<string, unknown> = {};

  constructor(
    name: string,
    args: readonly string[],
    options: { readonly log: string; readonly prefix?: readonly string[] },
  ) {
    this.name = name;
    this.#args = args;
    this.#log = options.log;
    this.#prefix = options.prefix ?? [];
  }

  /** The process of the server itself, also where the prefix had to fork to enter another process namespace. */
  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.name} is not running`);
    return forkedBy(pid) ?? pid;
  }

  /** Starts it and waits until it says that it is ready. */
  async start(): Promise<void> {
    const [command, ...rest] = commandLine(this.#prefix, [...this.#args, '--json']);
    const log = openSync(this.#log, 'a');
    const child = spawn(command, rest, { stdio: ['ignore', 'pipe', log] });
    closeSync(log);
    this.#child = child;
    const { stdout } = child;
    if (!stdout) throw new Error(`${this.name} has no standard output`);
    const lines = createInterface({ input: stdout });
    const first = await Promise.race([once(lines, 'line'), once(child, 'exit').then(() => undefined)]);
    if (first === undefined) throw new Error(`${this.name} did not start:\n${this.said()}`);
    this.ready = JSON.parse(String(first[0])) as Record<string, unknown>;
    stdout.resume();
  }

  /** Everything it wrote to its standard error so far. */
  said(): string {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8') : '';
  }

  /** Ends it with `signal` and waits; a process that is gone already is fine. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (!child) return;
    if (child.exitCode !== null || child.signalCode !== null) {
      this.#child = undefined;
      return;
    }
    const { pid } = this;
    this.#child = undefined;
    process.kill(pid, signal);
    await once(child, 'exit');
  }

  /** Waits until it ends by itself. Resolves with its exit status. */
  async over(): Promise<number | null> {
    const child = this.#child;
    if (!child) throw new Error(`${this.name} is not running`);
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    this.#child = undefined;
    return child.exitCode;
  }
}

/** Where a server runs: what goes before its command line, for example `ip netns exec NAME`. */
export interface Place {
  readonly prefix?: readonly string[];
}

/** An agent of a site under test. */
export interface TestAgent {
  readonly name: string;
  readonly data: string;
  readonly manifests: string;
  readonly socket: string;
  readonly process: ServerProcess;
  readonly place: Place;
  /** Writes a manifest into its services directory. */
  declare(service: string, manifest: string): Promise<void>;
}

/** A queue of a site under test. */
export interface SiteQueue {
  readonly name: string;
  readonly data: string;
  /** The operators' socket. */
  readonly socket: string;
  readonly process: ServerProcess;
}

/** A center, its agents and queues as real processes in a scratch folder, driven by the real command line. */
export class Site {
  readonly directory: string;
  readonly center: ServerProcess;
  readonly socket: string;
  readonly agents: TestAgent[] = [];
  readonly queues: SiteQueue[] = [];

  private constructor(directory: string, center: ServerProcess) {
    this.directory = directory;
    this.center = center;
    this.socket = join(directory, 'center', 'admin.sock');
  }

  /** With `listen`, the center stands at that address; else on a free port of 127.0.0.1. */
  static async start(options: Place & { readonly listen?: string } = {}): Promise<Site> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-site-'));
    const data = join(directory, 'center');
    const { listen = '127.0.0.1:0' } = options;
    // The port is chosen once and kept, because agents remember the address over restarts of the center.
    const first = new ServerProcess('center', ['center', '--data', data, '--listen', listen], {
      ...options,
      log: join(directory, 'center.log'),
    });
    await first.start();
    const address = String(first.ready['address']);
    await first.end('SIGTERM');
    const center = new ServerProcess('center', ['center', '--data', data, '--listen', address], {
      ...options,
      log: join(directory, 'center.log'),
    });
    await center.start();
    return new Site(directory, center);
  }

  /** The command line, as the operator of this site. */
  cli(...args: string[]): Promise<CliResult> {
    return muster(['--socket', this.socket, ...args]);
  }

  /** The answer of a command in JSON. @throws when the command failed */
  async json(...args: string[]): Promise<unknown> {
    const result = await this.cli(...args, '--json');
    if (result.status !== 0) throw new Error(`muster ${args.join(' ')}: ${result.stderr}`);
    return JSON.parse(result.stdout) as unknown;
  }

  /** Joins a new machine and starts its agent. Services run as the user who runs the tests. */
  async addAgent(name: string, labels: Record<string, string> = {}, place: Place = {}): Promise<TestAgent> {
    const data = join(this.directory, name);
    const manifests = join(data, 'manifests');
    await mkdir(manifests, { recursive: true });
    const { token } = (await this.json('token', 'create')) as { token: string };
    const joined = await muster(
      [
        ...['agent', 'join', String(this.center.ready['address']), '--token', token, '--name', name, '--data', data],
        ...Object.entries(labels).flatMap(([key, value]) => ['--label', `${key}=${value}`]),
      ],
      place,
    );
    if (joined.status !== 0) throw new Error(`joining ${name}: ${joined.stderr}`);
    const process = new ServerProcess(
      `agent ${name}`,
      ['agent', '--data', data, '--no-loopback', '--default-user', userInfo().username],
      { ...place, log: join(this.directory, `${name}.log`) },
    );
    await process.start();
    const agent: TestAgent = {
      name,
      data,
      manifests,
      socket: join(data, 'run', 'agent.sock'),
      process,
      place,
      declare: (service, manifest) => writeFile(join(manifests, `${service}.yaml`), manifest),
    };
    this.agents.push(agent);
    return agent;
  }

  /** Joins a new queue with the line that the center prints, and starts it on a port that it keeps. */
  async addQueue(name: string, ...options: string[]): Promise<SiteQueue> {
    const data = join(this.directory, `queue-${name}`);
    const { command } = (await this.json('token', 'create', '--queue', '--name', name)) as { command: string };
    const line = command.split(' ').filter((word) => word !== '--run');
    const joined = await muster([...line.slice(1), '--data', data]);
    if (joined.status !== 0) throw new Error(`joining queue ${name}: ${joined.stderr}`);
    const process = new ServerProcess(
      `queue ${name}`,
      ['queue', '--data', data, '--listen', `127.0.0.1:${await freePort()}`, ...options],
      { log: join(this.directory, `queue-${name}.log`) },
    );
    await process.start();
    const queue = { name, data, socket: join(data, 'queue.sock'), process };
    this.queues.push(queue);
    return queue;
  }

  /** Waits until an instance is as wanted, asked through the center. */
  instance(
    service: string,
    what: string,
    test: (instance: InstanceJson) => boolean,
    machine?: string,
  ): Promise<InstanceJson> {
    return waitFor(`${service} to be ${what}`, async () => {
      const { instances } = (await this.json('services')) as { instances?: InstanceJson[] };
      return instances?.find(
        (one) => one.service === service && (machine === undefined || one.machineName === machine) && test(one),
      );
    });
  }

  /** Stops every service, agent, queue and the center, and removes the folder. */
  async close(): Promise<void> {
    try {
      for (const agent of this.agents) await this.#end(agent);
      for (const queue of this.queues) await queue.process.end('SIGKILL');
    } finally {
      await this.center.end('SIGKILL');
      await rm(this.directory, { recursive: true, force: true });
    }
  }

  /** Services outlive their agent on purpose, so they are stopped through it, started again if the test killed it. */
  async #end(agent: TestAgent): Promise<void> {
    await agent.process.end('SIGKILL');
    const last = new ServerProcess(
      `agent ${agent.name}`,
      ['agent', '--data', agent.data, '--no-loopback', '--stop-services-on-exit'],
      { ...agent.place, log: join(this.directory, `${agent.name}.log`) },
    );
    await last.start();
    await last.end('SIGTERM');
  }
}

/** An instance as `muster services --json` shows it; fields at their default are left out. */
export interface InstanceJson {
  readonly machine: string;
  readonly machineName: string;
  readonly service: string;
  readonly version?: string;
  readonly state: string;
  readonly health: string;
  readonly pid?: number;
  readonly wanted?: boolean;
  readonly reason?: string;
  readonly restarts?: number;
  readonly exitCode?: number;
  readonly exitSignal?: string;
  readonly started?: string;
  readonly since?: string;
  readonly unknownSince?: string;
  readonly configRevision?: string | number;
  readonly configApplied?: string | number;
  readonly checks?: readonly { readonly name: string; readonly health: string; readonly output?: string }[];
}
