import { execFile } from 'node:child_process';
import { closeSync, fsyncSync, lstatSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where the programs of the system are, whatever this process was started with. */
const PROGRAMS_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** With so few files and directories the calls cost less than what others may have to write meanwhile. */
const ONE_BY_ONE_MAX = 200;

/**
 * Makes a tree of files durable: all that was written below `root` survives a power loss once this resolves. `entries` is how many there are.
 *
 * Few are fsynced one by one. Many by one syncfs(2) for the whole file system, by `sync -f` of coreutils, since Node has no call for it: for 10,000
 * files it took 0.13 s where an fsync of each took 2.4 s, and 11 s on a busy disk, one commit of the file system's journal for each. The price is
 * that what others wrote to the same file system is written too. Where there is no such program, or it fails, every file and directory is fsynced
 * one by one all the same: slower, and as good. For a worker thread.
 */
export async function syncTree(root: string, entries: number): Promise<void> {
  if (entries <= ONE_BY_ONE_MAX) {
    syncEach(root);
    return;
  }
  try {
    await run('sync', ['-f', '--', root], { env: { PATH: PROGRAMS_PATH, LC_ALL: 'C' } });
  } catch {
    syncEach(root);
  }
}

/** Depth first, so that a directory is synced after what is in it. Links have no content of their own: the directory they are in holds them. */
export function syncEach(path: string): void {
  const stat = lstatSync(path);
  if (stat.isDirectory()) for (const name of readdirSync(path)) syncEach(join(path, name));
  else if (!stat.isFile()) return;
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
