import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must, system } from './debian.js';
import { waitFor } from './waiting.js';

/** A host of a network under test: a network namespace of its own. */
export interface Host {
  readonly name: string;
  readonly namespace: string;
  readonly address: string;
  /** Goes before a command that shall run there. */
  readonly prefix: readonly string[];
}

/** Addresses exist inside the namespaces only, so every run may use the same. */
const SUBNET = '10.77.0';

/** Several hosts on one switch, each in a network namespace; links can be pulled and plugged in again. Needs root and iproute2. */
export class Network {
  readonly #switch: string;
  readonly #hosts = new Map<string, Host>();

  private constructor(name: string) {
    this.#switch = name;
  }

  static async create(...names: string[]): Promise<Network> {
    const run = `mu${randomBytes(3).toString('hex')}`;
    const network = new Network(`${run}-switch`);
    try {
      await must('ip', 'netns', 'add', network.#switch);
      await network.#onSwitch('link', 'add', 'br0', 'type', 'bridge');
      await network.#onSwitch('link', 'set', 'br0', 'up');
      for (const name of names) await network.#add(name, `${run}-${name}`);
      return network;
    } catch (error) {
      await network.close();
      throw error;
    }
  }

  host(name: string): Host {
    const host = this.#hosts.get(name);
    if (!host) throw new Error(`there is no host ${name}`);
    return host;
  }

  /** As if the cable were pulled: nothing is refused, everything is lost. */
  async linkDown(name: string): Promise<void> {
    await this.#onSwitch('link', 'set', 'dev', name, 'down');
  }

  async linkUp(name: string): Promise<void> {
    await this.#onSwitch('link', 'set', 'dev', name, 'up');
  }

  /** Ends what still runs on the hosts and removes them. */
  async close(): Promise<void> {
    for (const { namespace } of [...this.#hosts.values(), { namespace: this.#switch }]) {
      const pids = await system('ip', 'netns', 'pids', namespace);
      for (const pid of pids.stdout.split('\n').filter(Boolean)) await system('kill', '-9', pid);
      await system('ip', 'netns', 'del', namespace);
    }
    this.#hosts.clear();
  }

  async #add(name: string, namespace: string): Promise<void> {
    const address = `${SUBNET}.${this.#hosts.size + 1}`;
    await must('ip', 'netns', 'add', namespace);
    this.#hosts.set(name, { name, namespace, address, prefix: ['ip', 'netns', 'exec', namespace] });
    const cable = `link add eth0 netns ${namespace} type veth peer name ${name} netns ${this.#switch}`;
    await must('ip', ...cable.split(' '));
    await this.#onSwitch('link', 'set', 'dev', name, 'master', 'br0', 'up');
    await must('ip', '-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    await must('ip', '-n', namespace, 'link', 'set', 'eth0', 'up');
    await must('ip', '-n', namespace, 'link', 'set', 'lo', 'up');
  }

  #onSwitch(...args: string[]): Promise<string> {
    return must('ip', '-n', this.#switch, ...args);
  }
}

/**
 * A view of the file system of its own, in which files of the system are replaced and /run is empty, while the system itself
 * stays as it is. Needs root and util-linux.
 */
export class PrivateMounts {
  readonly prefix: readonly string[];
  readonly #holder: ChildProcess;
  readonly #directory: string;

  private constructor(holder: ChildProcess, directory: string) {
    this.#holder = holder;
    this.#directory = directory;
    this.prefix = ['nsenter', '-t', String(holder.pid), '-m'];
  }

  static async create(): Promise<PrivateMounts> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-mounts-'));
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', 'infinity'], { stdio: 'ignore' });
    const mounts = new PrivateMounts(holder, directory);
    await waitFor('the namespace', async () => {
      const there = await readlink(`/proc/${String(holder.pid)}/ns/mnt`);
      return there !== (await readlink('/proc/self/ns/mnt'));
    });
    await mounts.run('mount', '-t', 'tmpfs', 'tmpfs', '/run');
    return mounts;
  }

  /** Runs a program in this view. @throws with what it said when it fails */
  run(...command: string[]): Promise<string> {
    return must(...this.prefix, ...command);
  }

  /** Shows `text` as the content of a file that exists; again, to show another. */
  async replace(file: string, text: string): Promise<void> {
    const copy = join(this.#directory, randomBytes(4).toString('hex'));
    await writeFile(copy, text, { mode: 0o644 });
    await this.run('mount', '--bind', copy, file);
  }

  /** What still runs with this view keeps it; nothing of the system has to be put back. */
  async close(): Promise<void> {
    if (this.#holder.exitCode === null && this.#holder.signalCode === null) {
      this.#holder.kill('SIGKILL');
      await once(this.#holder, 'exit');
    }
    await rm(this.#directory, { recursive: true, force: true });
  }
}
