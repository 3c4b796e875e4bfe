import type { Clock } from '../../kit/clock.js';
import type { KeyedMutex } from '../../kit/tasks.js';
import { checkDeclared, statFile, type LoggedService } from './files.js';
import { isJournalPosition, tailJournal } from './journal-tail.js';
import { parseRotated } from './names.js';
import type { Pieces } from './pieces.js';
import { journalAvailable } from './systemd-journal.js';
import type { LogText } from './batches.js';
import { Tail, type TailOptions } from './tail.js';
import { keyOf } from './unfinished.js';

export interface LogTailsOptions {
  readonly clock: Clock;
  readonly pieces: Pieces;
  /** Held by file while its front is cut. */
  readonly exclusive: KeyedMutex;
  /** How journalctl is called. */
  readonly journalctl?: readonly string[] | undefined;
}

/** The logs of services as they are read from their ends, by any number of readers. */
export class LogTails {
  readonly #options: LogTailsOptions;
  /** By log. */
  readonly #readers = new Map<string, Set<Tail>>();

  constructor(options: LogTailsOptions) {
    this.#options = options;
  }

  /** As Logs.tail, in batches. */
  async *read(logged: LoggedService, options: TailOptions, signal: AbortSignal): AsyncGenerator<readonly LogText[]> {
    const { file = '', position = '' } = options;
    if (file !== '') checkDeclared(logged, file);
    const name = file === '' ? `${logged.service}.log` : file;
    if (file === '' && logged.elsewhere !== undefined && !(await statFile(logged.root, name))) {
      yield* this.#readElsewhere(logged, name, options, signal);
    } else {
      yield* this.#readFile(logged, name, { ...options, position }, signal);
    }
  }

  /** A rotated file was removed: nobody holds it open. */
  removed(root: string, name: string): void {
    const of = parseRotated(name)?.of ?? name;
    for (const tail of this.#readers.get(keyOf({ root, name: of })) ?? []) tail.removed(name);
  }

  async *#readFile(
    logged: LoggedService,
    name: string,
    options: TailOptions,
    signal: AbortSignal,
  ): AsyncGenerator<readonly LogText[]> {
    const { clock, pieces, exclusive } = this.#options;
    const { root } = logged;
    const key = keyOf({ root, name });
    const place = { root, name, clock, pieces, exclusive: <T>(work: () => Promise<T>) => exclusive.run(key, work) };
    const tail = new Tail(place, options);
    const readers = this.#readers.get(key) ?? new Set();
    this.#readers.set(key, readers);
    readers.add(tail);
    try {
      yield* tail.read(signal);
    } finally {
      readers.delete(tail);
      if (readers.size === 0 && this.#readers.get(key) === readers) this.#readers.delete(key);
      await tail.close();
    }
  }

  /** What a service prints that the agent does not start itself. */
  async *#readElsewhere(
    logged: LoggedService,
    name: string,
    options: TailOptions,
    signal: AbortSignal,
  ): AsyncGenerator<readonly LogText[]> {
    const { clock, journalctl } = this.#options;
    const { elsewhere = '', unit, logs, root } = logged;
    if (unit !== undefined && (await journalAvailable(journalctl))) {
      yield* tailJournal({ unit, clock, journalctl }, options, signal);
      return;
    }
    const others = logs.files.length === 0 ? '' : `; its own log files are ${logs.files.join(', ')} in ${root}`;
    const text = `this service writes no log file ${name} here: ${elsewhere}${others}`;
    yield [{ file: name, text, notice: true, position: '' }];
    const { position = '' } = options;
    yield* this.#readFile(logged, name, { ...options, position: isJournalPosition(position) ? '' : position }, signal);
  }
}
