import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MusterError } from '../kit/errors.js';
import { readFileIfThere, writeFileDurably } from '../kit/files.js';

const LOCK_FILE = 'lock';

/** Who uses a data directory. A pid alone is not enough: pids are given out again, and start anew with each boot. */
interface Holder {
  readonly pid: number;
  /** Clock ticks between boot and the start of the process, as /proc says them. */
  readonly startTicks: string;
  readonly bootId: string;
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** Field 22 of /proc/PID/stat; undefined when there is no such process. The name, field 2, may hold blanks and brackets. */
async function startTicks(pid: number): Promise<string | undefined> {
  const stat = await readFileIfThere(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

function parseHolder(text: string | undefined): Holder | undefined {
  try {
    const found = JSON.parse(text ?? '') as Partial<Holder> | null;
    if (typeof found?.pid !== 'number' || typeof found.startTicks !== 'string' || typeof found.bootId !== 'string')
      return undefined;
    return { pid: found.pid, startTicks: found.startTicks, bootId: found.bootId };
  } catch {
    return undefined;
  }
}

async function isAlive(holder: Holder): Promise<boolean> {
  return holder.bootId === (await bootId()) && holder.startTicks === (await startTicks(holder.pid));
}

/** The error when another process, or another store of this process, has the directory. */
export function alreadyRunning(path: string, pid: number | undefined): MusterError {
  const who = pid === undefined ? 'another process uses it' : `already running as pid ${pid}`;
  return new MusterError(
    'precondition',
    `${path} is in use: ${who}. Stop that process, or choose another data directory`,
    {
      reason: 'ALREADY_RUNNING',
      metadata: pid === undefined ? {} : { pid: String(pid) },
    },
  );
}

/** The pid in the lock file, whether it is alive or not; undefined when there is none to read. */
export async function recordedPid(path: string): Promise<number | undefined> {
  return parseHolder(await readFileIfThere(join(path, LOCK_FILE)))?.pid;
}

/**
 * The file that says who uses a data directory. What keeps two processes apart is LevelDB's own LOCK, which the kernel releases
 * when its process ends; this file names the holder, and is written only by the process that has LevelDB's lock.
 */
export class DirectoryLock {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Resolves when nobody alive is named in the lock file: never there, left by a dead process, or unreadable. @throws precondition */
  static async assertFree(path: string): Promise<void> {
    const holder = parseHolder(await readFileIfThere(join(path, LOCK_FILE)));
    if (holder && (await isAlive(holder))) throw alreadyRunning(path, holder.pid);
  }

  /** Call only while holding LevelDB's LOCK. */
  static async take(path: string): Promise<DirectoryLock> {
    const holder: Holder = {
      pid: process.pid,
      startTicks: (await startTicks(process.pid)) ?? '',
      bootId: await bootId(),
    };
    await writeFileDurably(join(path, LOCK_FILE), `${JSON.stringify(holder)}\n`);
    return new DirectoryLock(path);
  }

  /** Call before giving up LevelDB's LOCK, or the file may by then be another holder's. */
  async release(): Promise<void> {
    await rm(join(this.#path, LOCK_FILE), { force: true });
  }
}
