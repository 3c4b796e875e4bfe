import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { readOfProcess } from '../../kit/proc.js';
import { listPids } from '../services/proc.js';
import { inodeOf } from './takeover.js';

/** What is killed closes its files soon. */
const LOOK_EVERY_MS = 50;
const LOOKS_MAX = 100;
/** The access mode in the flags of an open file, open(2); not 0: it may be written. */
const ACCESS_MODE = 0o3;
/** `START-END rw-s OFFSET MAJOR:MINOR INODE`, as in proc_pid_maps(5): memory that is a file, and may be written. */
const WRITTEN_MAP = /^\S+ .w.s \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)/;

/**
 * Ends what still has one of these files open for writing, of the user who made them: a file that nobody may open for writing any more can
 * still be written by who has done so before, however it hides.
 * @param user who made them; undefined: this process
 * @throws precondition for a process of somebody else, and for one that does not end
 */
export async function endWriters(inodes: ReadonlySet<string>, user: number | undefined, clock: Clock): Promise<void> {
  const theirs = user ?? process.getuid?.() ?? 0;
  for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
    const pids = await writersOf(inodes);
    if (pids.length === 0) return;
    for (const pid of pids) await endOne(pid, theirs);
    await sleep(clock, LOOK_EVERY_MS);
  }
  throw stillWritten('a process that does not end');
}

async function endOne(pid: number, user: number): Promise<void> {
  const status = await readOfProcess(pid, 'status');
  const uid = /^Uid:\s+(\d+)/m.exec(status ?? '')?.[1];
  if (uid === undefined) return;
  if (Number(uid) !== user) throw stillWritten(`process ${pid}, which is not the service's user's`);
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

async function writersOf(inodes: ReadonlySet<string>): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await listPids()) {
    if (pid !== process.pid && ((await hasOpen(pid, inodes)) || (await hasMapped(pid, inodes)))) found.push(pid);
  }
  return found;
}

async function hasOpen(pid: number, inodes: ReadonlySet<string>): Promise<boolean> {
  const directory = join('/proc', String(pid), 'fd');
  // What has ended, and what is not ours to look at, has none.
  for (const descriptor of await readdir(directory).catch(() => [])) {
    const facts = await stat(join(directory, descriptor)).catch(() => undefined);
    if (!facts?.isFile() || !inodes.has(inodeOf(facts))) continue;
    const flags = /^flags:\s+([0-7]+)/m.exec((await readOfProcess(pid, join('fdinfo', descriptor))) ?? '')?.[1];
    if (flags !== undefined && (parseInt(flags, 8) & ACCESS_MODE) !== 0) return true;
  }
  return false;
}

async function hasMapped(pid: number, inodes: ReadonlySet<string>): Promise<boolean> {
  const maps = (await readOfProcess(pid, 'maps')) ?? '';
  return maps.split('\n').some((line) => {
    const [, major, minor, ino] = WRITTEN_MAP.exec(line) ?? [];
    if (major === undefined || minor === undefined) return false;
    return inodes.has(inodeOf({ dev: deviceOf(parseInt(major, 16), parseInt(minor, 16)), ino: Number(ino) }));
  });
}

/** makedev(3), for devices that fit into 32 bits. */
function deviceOf(major: number, minor: number): number {
  return (minor & 0xff) + major * 0x100 + (minor - (minor & 0xff)) * 0x1000;
}

function stillWritten(by: string): MusterError {
  return new MusterError(
    'precondition',
    `files that the install hook made are still open for writing by ${by}: end it, and have the hook end all that it starts`,
    { reason: 'STILL_WRITTEN' },
  );
}
