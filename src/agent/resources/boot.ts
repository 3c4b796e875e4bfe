import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * The kernel's id of this boot: another one means that every process of before is gone.
 * @throws when the file cannot be read (Linux always has it)
 */
export async function readBootId(procDirectory = '/proc'): Promise<string> {
  return (await readFile(join(procDirectory, 'sys', 'kernel', 'random', 'boot_id'), 'utf8')).trim();
}
