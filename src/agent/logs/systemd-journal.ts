import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { MusterError } from '../../kit/errors.js';
import { onAbort } from '../../kit/tasks.js';
import { SYSTEM_ENVIRONMENT } from '../system/external.js';

/** What a unit of systemd printed, read from systemd's journal with journalctl. */

export interface JournalOptions {
  /** As the manifest names it; `.service` may be left out. */
  readonly unit: string;
  /** The last so many entries; all where left out. */
  readonly lines?: number | undefined;
  /** Go on with each new entry. */
  readonly follow?: boolean | undefined;
  /** Begin with the entry of this cursor; where it is gone, with the nearest one there is. */
  readonly cursor?: string | undefined;
  /** Wall-clock milliseconds: only entries written at or after it. */
  readonly sinceMs?: number | undefined;
  /** Only entries written before it. */
  readonly untilMs?: number | undefined;
  /** How journalctl is called. */
  readonly journalctl?: readonly string[] | undefined;
}

export interface JournalEntry {
  /** Names the entry on this machine, across restarts and rotation of the journal. */
  readonly cursor: string;
  /** Wall-clock milliseconds; undefined where the entry has none. */
  readonly atMs: number | undefined;
  /** May be of several lines; invalid UTF-8 is replaced. */
  readonly message: string;
}

/** An entry, or undefined for one that was longer than ENTRY_BYTES_MAX and left out. */
export type JournalItem = JournalEntry | undefined;

/** Of one entry as journalctl prints it; a message that is no text takes four times its size there. */
export const ENTRY_BYTES_MAX = 4 * 1024 * 1024;
/** Kept of what journalctl complains about. */
const COMPLAINT_BYTES_MAX = 4096;
const NEWLINE = 0x0a;
const JOURNALCTL = ['journalctl'];
const SHAPE = ['--output=json', '--output-fields=MESSAGE', '--all', '--no-pager'];
/** A pattern would name the units of others. */
const UNIT = /^[A-Za-z0-9_][A-Za-z0-9@._:\\-]*$/;
const CURSOR = /^[a-z]=[0-9a-f]{1,64}(?:;[a-z]=[0-9a-f]{1,64}){0,9}$/;

/** Whether a text can be a cursor of the journal. */
export function isCursor(text: string): boolean {
  return CURSOR.test(text);
}

/**
 * The program and its arguments, which no shell sees; each entry is printed as one line of JSON, the oldest first.
 * @throws invalid for what is no name of a unit, or no cursor
 */
export function journalCommand(options: JournalOptions): readonly string[] {
  const { unit, lines, follow = false, cursor, sinceMs, untilMs, journalctl = JOURNALCTL } = options;
  if (!UNIT.test(unit)) throw new MusterError('invalid', `"${unit}" is not the name of a unit of systemd`);
  if (cursor !== undefined && !isCursor(cursor)) {
    throw new MusterError('invalid', 'this is no cursor of the journal: give back a position as it was given', {
      reason: 'POSITION',
    });
  }
  const optional = {
    cursor,
    since: sinceMs === undefined ? undefined : timestamp(sinceMs * 1000),
    // journalctl takes the end in, and counts in microseconds.
    until: untilMs === undefined ? undefined : timestamp(untilMs * 1000 - 1),
  };
  const given = Object.entries(optional).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}=${value}`],
  );
  return [
    ...journalctl,
    `--unit=${unit}`,
    ...SHAPE,
    `--lines=${lines ?? 'all'}`,
    ...(follow ? ['--follow'] : []),
    ...given,
  ];
}

function timestamp(microseconds: number): string {
  const rest = String(microseconds % 1_000_000).padStart(6, '0');
  return `@${Math.floor(microseconds / 1_000_000)}.${rest}`;
}

/** Whether there is a journalctl to call. */
export async function journalAvailable(journalctl: readonly string[] = JOURNALCTL): Promise<boolean> {
  const [program = ''] = journalctl;
  const paths = program.includes('/')
    ? [program]
    : (SYSTEM_ENVIRONMENT.PATH ?? '').split(':').map((directory) => join(directory, program));
  for (const path of paths) {
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return true;
  }
  return false;
}

/** An entry as `journalctl --output=json` prints it; undefined for what is none. */
export function parseEntry(line: string): JournalEntry | undefined {
  let found: unknown;
  try {
    found = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof found !== 'object' || found === null) return undefined;
  const { __CURSOR: cursor, __REALTIME_TIMESTAMP: at, MESSAGE: message } = found as Record<string, unknown>;
  if (typeof cursor !== 'string' || !isCursor(cursor)) return undefined;
  const atMs = typeof at === 'string' && /^\d{1,16}$/.test(at) ? Math.floor(Number(at) / 1000) : undefined;
  return { cursor, atMs, message: textOf(message) };
}

/** Text; bytes, where it is no plain text; or a list of those, where an entry has several. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return '';
  const items: readonly unknown[] = value;
  if (items.every((item) => typeof item === 'number')) return Buffer.from(items).toString('utf8');
  return items.map(textOf).join('\n');
}

/**
 * The entries that the options name, as they come; with `follow` until the signal aborts. The child waits while nobody reads, and ends
 * with its reader. At most one entry and one chunk of the pipe are held.
 * @throws invalid for a position that journalctl does not take; precondition when it cannot be run or fails
 */
export async function* readJournal(options: JournalOptions, signal: AbortSignal): AsyncGenerator<JournalItem> {
  const [program = '', ...args] = journalCommand(options);
  if (signal.aborted) return;
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...SYSTEM_ENVIRONMENT },
    cwd: '/',
    detached: true,
  });
  const end = endOf(child);
  const isAborted = (): boolean => signal.aborted;
  const offAbort = onAbort(signal, () => {
    child.kill('SIGKILL');
  });
  try {
    const lines = new EntrySplitter();
    for await (const chunk of child.stdout) yield* lines.push(chunk as Buffer);
    const failure = await end;
    if (failure !== undefined && !isAborted()) throw failureOf(failure);
  } finally {
    offAbort();
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

/** Resolves when the child has ended: with what it complained about where it failed. */
function endOf(child: ChildProcess): Promise<string | undefined> {
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (complaint.length < COMPLAINT_BYTES_MAX) complaint += chunk.toString('utf8');
  });
  return new Promise((resolve) => {
    child.on('error', (error) => {
      resolve(error.message);
    });
    child.on('close', (code) => {
      resolve(
        code === 0
          ? undefined
          : complaint.trim().slice(0, COMPLAINT_BYTES_MAX) || `it ended with ${code ?? 'a signal'}`,
      );
    });
  });
}

function failureOf(complaint: string): MusterError {
  if (/seek to cursor/.test(complaint)) {
    return new MusterError(
      'invalid',
      'the journal of this machine does not know the position: begin with the last lines',
      {
        reason: 'POSITION',
      },
    );
  }
  return new MusterError('precondition', `the journal of systemd cannot be read: ${complaint}`, {
    reason: 'JOURNAL_FAILED',
  });
}

/** Makes entries of what journalctl prints; what is no entry is left out. */
class EntrySplitter {
  #held: Buffer[] = [];
  #bytes = 0;
  /** The entry being read is too long: it is left out up to its end. */
  #skipping = false;

  *push(chunk: Buffer): Generator<JournalItem> {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#hold(chunk.subarray(from, end));
      from = end + 1;
      const skipped = this.#skipping;
      const line = Buffer.concat(this.#held).toString('utf8');
      this.#held = [];
      this.#bytes = 0;
      this.#skipping = false;
      if (skipped) yield undefined;
      else {
        const entry = parseEntry(line);
        if (entry) yield entry;
      }
    }
    this.#hold(chunk.subarray(from));
  }

  #hold(bytes: Buffer): void {
    this.#bytes += bytes.length;
    if (this.#bytes > ENTRY_BYTES_MAX) this.#skipping = true;
    if (this.#skipping) this.#held = [];
    else if (bytes.length > 0) this.#held.push(bytes);
  }
}
