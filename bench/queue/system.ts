import { execFile } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Endpoint } from './port.js';

/** A server of the bench, in a directory of its own. */
export interface System {
  /** Starts the process; resolves when clients can connect. */
  start(): Promise<void>;
  /** Starts the process again on what it stored, and returns at once: clients find it when it is there. */
  spawnAgain(): Promise<void>;
  /** As its operator stops it. */
  stop(): Promise<void>;
  /** Ends everything, whatever state it is in. */
  kill(): Promise<void>;
  readonly pid: number;
  /** Where its messages are. */
  readonly data: string;
  endpoint(client: Endpoint['client'], variant: string): Endpoint;
}

export interface SystemKind {
  /** Its version, or undefined when it is not on this machine. @throws when it is there and cannot be measured, with the reason */
  version(): Promise<string | undefined>;
  make(directory: string): Promise<System>;
}

const run = promisify(execFile);

/** What a program prints; undefined when there is no such program. */
export async function output(program: string, args: readonly string[]): Promise<string | undefined> {
  try {
    return (await run(program, args)).stdout.trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Bytes that the files of a directory take on disk. What goes away meanwhile counts as gone. */
export async function diskBytes(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    entries.map(async (entry) => {
      const found = await stat(join(directory, entry)).catch(() => undefined);
      return found?.isFile() ? found.blocks * 512 : 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
