import { join } from 'node:path';
import type { Logger } from '../../kit/logger.js';
import type { KeyedMutex } from '../../kit/tasks.js';
import { recover, type Cut, type LogPlace, type RotationTools } from './rotation.js';

export interface UnfinishedOptions {
  readonly tools: RotationTools;
  readonly logger: Logger;
  /** Held by file while its front is cut. */
  readonly exclusive: KeyedMutex;
  readonly onCut: (key: string, cut: Cut) => void;
}

/** What names one log file of the machine. */
export function keyOf({ root, name }: Pick<LogPlace, 'root' | 'name'>): string {
  return join(root, name);
}

/**
 * Rotations that an earlier agent or a failure left unfinished. Such a file is not rotated, nor otherwise cut, before its rotation is
 * finished or undone; one that cannot be holds up no other file.
 */
export class Unfinished {
  readonly #options: UnfinishedOptions;
  /** Undefined until the journal of the earlier agent was read: any file may be in it. */
  #places: Map<string, LogPlace> | undefined;
  readonly #said = new Map<string, string>();
  #finishing: Promise<void> | undefined;

  constructor(options: UnfinishedOptions) {
    this.#options = options;
  }

  has(place: Pick<LogPlace, 'root' | 'name'>): boolean {
    return this.#places?.has(keyOf(place)) ?? true;
  }

  /** Its rotation failed at any step. */
  add(place: LogPlace): void {
    this.#places?.set(keyOf(place), place);
  }

  /** Tries to finish all there are; calls meanwhile join it. Never rejects: what fails is said, and tried again by the next call. */
  finish(): Promise<void> {
    if (this.#places?.size === 0) return Promise.resolve();
    this.#finishing ??= this.#finishAll().finally(() => {
      this.#finishing = undefined;
    });
    return this.#finishing;
  }

  /** Says what went wrong with a file once, until something else does or it went well. */
  say(place: LogPlace, message: string, error: unknown): void {
    const text = `${message} ${String(error)}`;
    const key = keyOf(place);
    if (this.#said.get(key) === text) return;
    this.#said.set(key, text);
    this.#options.logger.error(message, { service: place.service, file: place.name, error });
  }

  wentWell(place: LogPlace): void {
    this.#said.delete(keyOf(place));
  }

  async #finishAll(): Promise<void> {
    try {
      this.#places ??= await this.#readJournal();
    } catch (error) {
      const message = 'the journal of log rotations cannot be read: no log is rotated until it can';
      this.#options.logger.error(message, { error });
      return;
    }
    for (const [key, place] of [...this.#places]) if (await this.#finishOne(place)) this.#places.delete(key);
  }

  async #readJournal(): Promise<Map<string, LogPlace>> {
    const { tools, logger } = this.#options;
    const { entries, unreadable } = await tools.journal.load();
    for (const file of unreadable) {
      logger.error(
        'an entry in the journal of log rotations cannot be read and was set aside: lines of one rotated log may be there twice; look at it, then remove it',
        { file },
      );
    }
    return new Map(entries.map((entry) => [keyOf(entry), entry]));
  }

  async #finishOne(place: LogPlace): Promise<boolean> {
    const { tools, exclusive, onCut } = this.#options;
    try {
      const entry = await tools.journal.read(place);
      if (!entry) return true;
      const key = keyOf(place);
      await exclusive.run(key, () =>
        recover(tools, entry, (cut) => {
          onCut(key, cut);
        }),
      );
      return true;
    } catch (error) {
      this.say(place, 'an interrupted rotation of a log could not be finished; it is tried again', error);
      return false;
    }
  }
}
