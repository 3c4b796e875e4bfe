import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { must, SYSTEM_PATH } from './debian.js';
import { waitFor } from './waiting.js';

const CGROUPS = '/sys/fs/cgroup/systemd';
const TARGET = 'muster-test.target';

/**
 * systemd itself as the first process of namespaces of its own: its units, its /run and its process ids are not the machine's.
 * The network is shared. Needs root, util-linux and the name=systemd hierarchy of control groups.
 */
export class Systemd {
  /** Goes before a command that shall run inside. */
  readonly prefix: readonly string[];
  /** Where its units are, as seen from outside. */
  readonly units: string;
  readonly #outer: ChildProcess;
  readonly #cgroup: string;
  readonly #directory: string;

  private constructor(outer: ChildProcess, places: { inner: string; cgroup: string; directory: string }) {
    this.#outer = outer;
    this.#cgroup = places.cgroup;
    this.#directory = places.directory;
    this.units = `/proc/${places.inner}/root/run/systemd/system`;
    this.prefix = ['nsenter', '-t', places.inner, '-m', '-p', '-u', '-i', '-C'];
  }

  /** Starts it with these units (file name to text) known, none of them started. */
  static async start(units: Readonly<Record<string, string>>): Promise<Systemd> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-systemd-'));
    const cgroup = join(CGROUPS, `muster-${randomBytes(4).toString('hex')}`);
    const all = { ...units, [TARGET]: '[Unit]\nDescription=Nothing\nDefaultDependencies=no\n' };
    for (const [name, text] of Object.entries(all)) await writeFile(join(directory, name), text);
    await writeFile(join(directory, 'outer.sh'), outerScript(cgroup, directory));
    await writeFile(join(directory, 'inner.sh'), innerScript(directory));
    const log = openSync(join(directory, 'log'), 'a');
    const outer = spawn('/bin/sh', [join(directory, 'outer.sh')], { stdio: ['ignore', log, log] });
    closeSync(log);
    try {
      const inner = await waitFor('the first process of the namespace', () => firstChild(outer));
      const systemd = new Systemd(outer, { inner, cgroup, directory });
      await waitFor('systemd to run', async () => /running|degraded/.test(await systemd.#state()));
      return systemd;
    } catch (error) {
      outer.kill('SIGKILL');
      throw new Error(`systemd did not start:\n${readFileSync(join(directory, 'log'), 'utf8')}`, { cause: error });
    }
  }

  /** Runs a program inside. @throws with what it said when it fails */
  run(...command: string[]): Promise<string> {
    return must(...this.prefix, ...command);
  }

  /** Ends everything inside at once. */
  async close(): Promise<void> {
    if (this.#outer.exitCode === null && this.#outer.signalCode === null) {
      this.#outer.kill('SIGKILL');
      await once(this.#outer, 'exit');
    }
    await waitFor('the control groups to be empty', () => removeGroups(this.#cgroup));
    await rm(this.#directory, { recursive: true, force: true });
  }

  #state(): Promise<string> {
    return this.run('systemctl', 'is-system-running');
  }
}

async function firstChild(parent: ChildProcess): Promise<string | undefined> {
  const { pid } = parent;
  // Before it becomes unshare, the shell has other children.
  if (pid === undefined || (await readFile(`/proc/${pid}/comm`, 'utf8')).trim() !== 'unshare') return undefined;
  const [child] = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).split(' ');
  return child === '' ? undefined : child;
}

/** Deepest first: a control group can be removed when it is empty. */
async function removeGroups(directory: string): Promise<true> {
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries) if (entry.isDirectory()) await removeGroups(join(directory, entry.name));
  await rmdir(directory);
  return true;
}

function outerScript(cgroup: string, directory: string): string {
  return `set -e
mkdir -p ${cgroup}
echo $$ > ${cgroup}/cgroup.procs
exec unshare --fork --pid --mount --uts --ipc --cgroup --mount-proc --kill-child --propagation private \\
  /bin/sh ${directory}/inner.sh
`;
}

function innerScript(directory: string): string {
  return `set -e
umount ${CGROUPS} 2>/dev/null || true
mount -t cgroup -o none,name=systemd cgroup ${CGROUPS}
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
cp ${directory}/*.service ${directory}/*.target /run/systemd/system/
exec env -i container=x PATH=${SYSTEM_PATH} /lib/systemd/systemd --system --unit=${TARGET} --show-status=no --log-target=console
`;
}
