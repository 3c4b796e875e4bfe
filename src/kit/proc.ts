import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from './errors.js';

/** What /proc says of a process, and of this boot. pid, start and boot together name one process for ever. */

export interface ProcessFacts {
  readonly pid: number;
  readonly name: string;
  /** R, S, D, Z, ... */
  readonly status: string;
  readonly group: number;
  readonly session: number;
  /** Start time in clock ticks since boot: with the pid and the boot id it names one process for ever. */
  readonly startTicks: number;
}

/** Parses /proc/PID/stat. The name may hold spaces and parentheses: fields are counted from the last one. */
export function parseStat(text: string): ProcessFacts | undefined {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return undefined;
  const fields = text.slice(close + 2).split(' ');
  const [status = '', , group, session] = fields;
  return {
    pid: Number(text.slice(0, open)),
    name: text.slice(open + 1, close),
    status,
    group: Number(group),
    session: Number(session),
    startTicks: Number(fields[19]),
  };
}

/** A file of a process below /proc. One that is gone, or not ours to look at, has none: that is no failure. */
export async function readOfProcess(pid: number, file: string): Promise<string | undefined> {
  try {
    return await readFile(join('/proc', String(pid), file), 'latin1');
  } catch (error) {
    // ESRCH: it ended between opening the file and reading it.
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** The living process with this pid; a zombie is dead. */
export async function readProcess(pid: number): Promise<ProcessFacts | undefined> {
  const text = await readOfProcess(pid, 'stat');
  const facts = text === undefined ? undefined : parseStat(text);
  return facts && facts.status !== 'Z' && facts.status !== 'X' ? facts : undefined;
}

/**
 * The kernel's id of this boot: another one means that every process of before is gone.
 * @throws when the file cannot be read (Linux always has it)
 */
export async function readBootId(procDirectory = '/proc'): Promise<string> {
  return (await readFile(join(procDirectory, 'sys', 'kernel', 'random', 'boot_id'), 'utf8')).trim();
}
