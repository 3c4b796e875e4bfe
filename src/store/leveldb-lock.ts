import { link, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, systemClock } from '../kit/clock.js';
import { MusterError, errnoOf } from '../kit/errors.js';
import { readFileIfThere } from '../kit/files.js';
import { newId } from '../kit/ids.js';
import { readBootId, readProcess } from '../kit/proc.js';

const LOCK_FILE = 'lock';

/** Who uses a data directory. A pid alone is not enough: pids are given out again, and start anew with each boot. */
interface Holder {
  readonly pid: number;
  /** Clock ticks between boot and the start of the process, as /proc says them. */
  readonly startTicks: string;
  readonly bootId: string;
}

async function startTicks(pid: number): Promise<string | undefined> {
  const ticks = (await readProcess(pid))?.startTicks;
  return ticks === undefined ? undefined : String(ticks);
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
  return holder.bootId === (await readBootId()) && holder.startTicks === (await startTicks(holder.pid));
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

/** Tries to take the lock while others remove left-over locks at the same time. */
const TRIES_MAX = 5;
/** Longer than another process takes from looking at a left-over lock to having moved it. */
const SETTLE_MS = 100;

/**
 * The file that says who uses a data directory. What keeps two processes apart in every case is LevelDB's own LOCK, which the kernel
 * releases when its process ends; this file is taken before it, names the holder, and works across mounts that LevelDB's does not see.
 */
export class DirectoryLock {
  readonly #file: string;
  readonly #text: string;

  private constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  /** Takes the lock; one whose process has ended, or that cannot be read, is replaced. @throws precondition when its holder is alive */
  static async take(path: string): Promise<DirectoryLock> {
    const file = join(path, LOCK_FILE);
    const holder: Holder = {
      pid: process.pid,
      startTicks: (await startTicks(process.pid)) ?? '',
      bootId: await readBootId(),
    };
    const text = `${JSON.stringify(holder)}\n`;
    const aside = `${file}.${newId('take')}`;
    try {
      await writeFile(aside, text, { mode: 0o600 });
      for (let tries = 1; tries <= TRIES_MAX; tries += 1) {
        if ((await linked(aside, file)) && (tries === 1 || (await settled(file, text)))) {
          return new DirectoryLock(file, text);
        }
        await clearLeftOver(file, path);
      }
      throw alreadyRunning(path, undefined);
    } finally {
      await rm(aside, { force: true });
    }
  }

  /** The pid in the lock file when it is another process. */
  async otherPid(): Promise<number | undefined> {
    const text = await readFileIfThere(this.#file);
    return text === this.#text ? undefined : parseHolder(text)?.pid;
  }

  /** Call before giving up LevelDB's LOCK, or the file may by then be another holder's. */
  async release(): Promise<void> {
    if ((await readFileIfThere(this.#file)) === this.#text) await rm(this.#file, { force: true });
  }
}

/** Where left-over locks are being removed, somebody slow may just have removed this one: whoever linked last has it. */
async function settled(file: string, text: string): Promise<boolean> {
  await sleep(systemClock, SETTLE_MS);
  return (await readFileIfThere(file)) === text;
}

/** @throws precondition when the holder is alive */
async function clearLeftOver(file: string, path: string): Promise<void> {
  const seen = await readFileIfThere(file);
  const found = parseHolder(seen);
  if (found && (await isAlive(found))) throw alreadyRunning(path, found.pid);
  if (seen !== undefined) await removeLeftOver(file, seen);
}

/**
 * Removes a lock that was seen to be left over. It is moved aside first and looked at again: between the look and the move another process may have
 * put its own lock there, which is then put back.
 */
async function removeLeftOver(file: string, seen: string): Promise<void> {
  const moved = `${file}.${newId('old')}`;
  try {
    await rename(file, moved);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  if ((await readFileIfThere(moved)) !== seen) await linked(moved, file);
  await rm(moved, { force: true });
}

/** Makes `file` the whole content of `aside` in one step; false when `file` is already there. */
async function linked(aside: string, file: string): Promise<boolean> {
  try {
    await link(aside, file);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}
