import { execFile } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Daemon } from './daemon.js';
import type { Endpoint } from './port.js';

export interface SystemParts {
  readonly daemon: Daemon;
  /** Where its messages are. */
  readonly data: string;
  /** Where clients reach it. */
  readonly address: string;
  /** Directory with what proves who its clients are, where it asks for that. */
  readonly credentials?: string;
  /** What has to run beside it, started before it in this order. */
  readonly helpers?: readonly Daemon[];
}

/** A server of the bench, in a directory of its own. */
export class System {
  readonly data: string;
  readonly #parts: SystemParts;

  constructor(parts: SystemParts) {
    this.data = parts.data;
    this.#parts = parts;
  }

  get pid(): number {
    return this.#parts.daemon.pid;
  }

  /** Starts the process; resolves when clients can connect. */
  async start(): Promise<void> {
    const { daemon, helpers = [] } = this.#parts;
    for (const one of [...helpers, daemon]) {
      one.spawn();
      await one.ready();
    }
  }

  /** Starts the process again on what it stored, and returns at once: clients find it when it is there. */
  spawnAgain(): void {
    this.#parts.daemon.spawn();
  }

  /** As its operator stops it. */
  stop(): Promise<void> {
    return this.#parts.daemon.end('SIGTERM');
  }

  /** Ends everything, whatever state it is in. */
  async kill(): Promise<void> {
    const { daemon, helpers = [] } = this.#parts;
    await daemon.end('SIGKILL');
    for (const one of helpers) await one.end('SIGKILL');
  }

  endpoint(client: Endpoint['client'], variant: string): Endpoint {
    const { address, credentials = '' } = this.#parts;
    return { client, address, variant, credentials };
  }
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
