import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../kit/errors.js';
import { readOfProcess, readProcess, type ProcessFacts } from '../../kit/proc.js';

/** Processes looked for in /proc, and signalled. */

/** Pids of all processes. */
export async function listPids(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function filterProcesses(keep: (facts: ProcessFacts) => boolean): Promise<ProcessFacts[]> {
  const found: ProcessFacts[] = [];
  for (const pid of await listPids()) {
    const facts = await readProcess(pid);
    if (facts && keep(facts)) found.push(facts);
  }
  return found;
}

/** The living processes of a process group. */
export async function groupMembers(group: number): Promise<ProcessFacts[]> {
  // Most groups are empty when this is asked: one system call says so.
  try {
    process.kill(-group, 0);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return [];
  }
  return filterProcesses((facts) => facts.group === group);
}

/** Whether a process was started with `NAME=value` in its environment; false where it may not be read. */
export async function hasVariable(pid: number, name: string, value: string): Promise<boolean> {
  const text = await readOfProcess(pid, 'environ');
  return text !== undefined && text.split('\0').includes(`${name}=${value}`);
}

/** The leader of its own process group that carries `NAME=value`; the oldest, where its descendants made groups of their own. */
export async function findLeader(name: string, value: string): Promise<ProcessFacts | undefined> {
  const leaders = await filterProcesses((facts) => facts.group === facts.pid);
  const carriers: ProcessFacts[] = [];
  for (const facts of leaders) if (await hasVariable(facts.pid, name, value)) carriers.push(facts);
  return carriers.sort((a, b) => a.startTicks - b.startTicks)[0];
}

/** A signal to a whole process group; one that is gone already is fine. */
export function signalGroup(group: number, signal: NodeJS.Signals): void {
  if (group <= 1) return;
  try {
    process.kill(-group, signal);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

/** The process that holds the socket with this inode, where it may be seen. */
export async function holderOfSocket(inode: string): Promise<ProcessFacts | undefined> {
  const wanted = `socket:[${inode}]`;
  for (const pid of await listPids()) {
    const directory = join('/proc', String(pid), 'fd');
    const descriptors = await readdir(directory).catch(() => []);
    for (const descriptor of descriptors) {
      const target = await readlink(join(directory, descriptor)).catch(() => '');
      if (target === wanted) return readProcess(pid);
    }
  }
  return undefined;
}
