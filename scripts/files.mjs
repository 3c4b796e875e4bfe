/** File walking shared by the scripts. */
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';

/**
 * Paths of all files below `directory`, relative to it and sorted; empty where there is no such directory.
 * @param {string} directory
 * @returns {Promise<string[]>}
 */
export async function filesBelow(directory) {
  if (!(await isDirectory(directory))) return [];
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort();
}

/**
 * @param {string} path
 * @returns {Promise<boolean>}
 */
export async function isDirectory(path) {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}
