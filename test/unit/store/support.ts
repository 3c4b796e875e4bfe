import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Level } from 'level';
import { isCode, type Code, type MusterError } from '../../../src/kit/errors.js';
import type { Logger } from '../../../src/kit/logger.js';
import { openLevelStore, type LevelStoreOptions } from '../../../src/store/leveldb.js';
import type { Mutation, Store } from '../../../src/store/port.js';

/** A data directory of one test, with its stores closed and removed at the end. */
export class Directory {
  readonly path: string;
  readonly #stores: Store[] = [];

  private constructor(path: string) {
    this.path = path;
  }

  static async make(t: TestContext): Promise<Directory> {
    const directory = new Directory(await mkdtemp(join(tmpdir(), 'muster-store-')));
    t.after(async () => {
      for (const store of directory.#stores) await store.close().catch(() => undefined);
      await rm(directory.path, { recursive: true, force: true });
    });
    return directory;
  }

  async open(options: Partial<LevelStoreOptions> = {}): Promise<Store> {
    const store = await openLevelStore({ path: this.path, ...options });
    this.#stores.push(store);
    return store;
  }

  /** Works on the bare database while no store is open. */
  async bare<T>(work: (db: Level<Buffer, Buffer>) => Promise<T>): Promise<T> {
    const db = new Level<Buffer, Buffer>(join(this.path, 'leveldb'), {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      compression: false,
    });
    await db.open();
    try {
      return await work(db);
    } finally {
      await db.close();
    }
  }
}

export const put = (key: string, value: string, expect?: number): Mutation => ({
  kind: 'put',
  key,
  value: Buffer.from(value),
  ...(expect === undefined ? {} : { expect }),
});

export async function text(store: Pick<Store, 'get'>, key: string): Promise<string | undefined> {
  const entry = await store.get(key);
  return entry && Buffer.from(entry.value).toString();
}

/** A matcher for assert.rejects: the code, and words of the message. */
export const failing =
  (code: Code, message = /./) =>
  (error: unknown): error is MusterError => {
    if (!isCode(error, code) || !message.test(error.message))
      throw new Error(`expected ${code} ${String(message)}`, { cause: error });
    return true;
  };

/** A logger that keeps its messages. */
export function recordingLogger(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const keep = (message: string): void => {
    lines.push(message);
  };
  const logger = { lines, debug: keep, info: keep, warn: keep, error: keep, with: () => logger };
  return logger;
}
