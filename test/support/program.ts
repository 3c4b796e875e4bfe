import { extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const extension = extname(import.meta.filename);
const HERE = resolve(import.meta.dirname, '../..');

/** What node needs to read a program, or a module, as this process reads its own. */
export const NODE_FLAGS: readonly string[] = extension === '.ts' ? ['--import', 'tsx'] : [];

/** The arguments that start a program of the tests: its path without the extension, since that depends on whether this process is compiled. */
export function programArgs(path: string, ...args: readonly string[]): string[] {
  return [...NODE_FLAGS, `${path}${extension}`, ...args];
}

/** Where a module is for a program that is written as text; its path from the project's root, without the extension. */
export function moduleUrl(path: string): string {
  return pathToFileURL(resolve(HERE, `${path}${extension}`)).href;
}
