import { constants } from 'node:fs';
import { open, readdir, type FileHandle } from 'node:fs/promises';
import { MusterError, errnoOf } from '../../kit/errors.js';

/**
 * Files below a service's log directory. The service owns that directory and may put anything there, and the agent may be root:
 * so every step of a path is opened without following links, and only regular files with one name are touched.
 */

const { O_NOFOLLOW, O_DIRECTORY, O_RDONLY, O_NONBLOCK } = constants;

/** Levels below the log directory that are looked into. */
const DEPTH_MAX = 4;
/** Files of one service that are looked at. */
const FILES_MAX = 1000;

async function openStep(parent: FileHandle, name: string, flags: number, mode?: number): Promise<FileHandle> {
  return open(`/proc/self/fd/${parent.fd}/${name}`, flags | O_NOFOLLOW, mode);
}

function checkName(name: string): void {
  const steps = name.split('/');
  if (name.includes('\0') || steps.some((step) => step === '' || step === '.' || step === '..')) {
    throw new MusterError(
      'invalid',
      `"${name}" is not a file inside the log directory: name one relative to it, without ".."`,
    );
  }
}

/** Runs `work` with the directory that holds `name` open, and the last step of the name. */
export async function inParent<T>(
  root: string,
  name: string,
  work: (parent: FileHandle, base: string) => Promise<T>,
): Promise<T> {
  checkName(name);
  const steps = name.split('/');
  const base = steps.pop() ?? '';
  let parent = await open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    for (const step of steps) {
      const next = await openStep(parent, step, O_RDONLY | O_DIRECTORY);
      await parent.close();
      parent = next;
    }
    return await work(parent, base);
  } finally {
    await parent.close();
  }
}

/** The path of `base` in an open directory: it stays right when names above it are changed. */
export function pathIn(parent: FileHandle, base: string): string {
  return `/proc/self/fd/${parent.fd}/${base}`;
}

/**
 * Opens a regular file below `root` without following a link anywhere below it.
 * @throws denied when it is a link, has a second name or is no regular file; system errors as open(2)
 */
export async function openInside(root: string, name: string, flags: number, mode = 0o640): Promise<FileHandle> {
  return inParent(root, name, (parent, base) => openRegular(parent, base, flags, mode));
}

/** As openInside, in an open directory. */
export async function openRegular(parent: FileHandle, base: string, flags: number, mode = 0o640): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await openStep(parent, base, flags | O_NONBLOCK, mode);
  } catch (error) {
    if (errnoOf(error) === 'ELOOP') throw refusal(base, 'is a symbolic link');
    throw error;
  }
  const facts = await handle.stat();
  if (facts.isFile() && facts.nlink <= 1) return handle;
  await handle.close();
  throw refusal(base, facts.isFile() ? 'has more than one name' : 'is no regular file');
}

function refusal(name: string, why: string): MusterError {
  return new MusterError('denied', `log file "${name}" ${why}: logs must be plain files in the log directory`, {
    reason: 'LOG_FILE',
  });
}

/** Names of the regular files below `root`, relative to it, in order; links and what is below them are left out. */
export async function listFiles(root: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (directory: string, prefix: string, depth: number): Promise<void> => {
    const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (found.length >= FILES_MAX) return;
      const name = prefix + entry.name;
      if (entry.isFile()) found.push(name);
      else if (entry.isDirectory() && depth < DEPTH_MAX)
        await visit(`${directory}/${entry.name}`, `${name}/`, depth + 1);
    }
  };
  await visit(root, '', 1);
  return found.sort();
}

/** Whether a manifest's pattern names this file: `*` matches within one level. */
export function matches(pattern: string, name: string): boolean {
  const steps = pattern.split('/');
  const parts = name.split('/');
  return steps.length === parts.length && steps.every((step, index) => matchesStep(step, parts[index] ?? ''));
}

/** Linear in practice: each star gives way to the next literal by its first occurrence. */
function matchesStep(pattern: string, name: string): boolean {
  const literals = pattern.split('*');
  const first = literals.shift() ?? '';
  const last = literals.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first) || name.length < first.length + last.length || !name.endsWith(last)) return false;
  let at = first.length;
  for (const literal of literals) {
    const found = name.indexOf(literal, at);
    if (found < 0 || found + literal.length > name.length - last.length) return false;
    at = found + literal.length;
  }
  return true;
}
