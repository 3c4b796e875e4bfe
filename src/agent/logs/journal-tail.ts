import { sleep, type Clock } from '../../kit/clock.js';
import { batched, type LogText } from './batches.js';
import { LineSplitter } from './lines.js';
import { unreadablePosition } from '../../model/log-position.js';
import { isCursor, readJournal, type JournalEntry, type JournalOptions } from './systemd-journal.js';
import type { TailOptions } from './tail.js';

/** What a unit of systemd printed, as a log: entries of the journal, which may be of several lines. */

export interface JournalUnit {
  readonly unit: string;
  readonly clock: Clock;
  /** How journalctl is called. */
  readonly journalctl?: readonly string[] | undefined;
}

/** In the place of a file's name. */
export const JOURNAL_FILE = 'journal';
const JOURNAL_POSITION = /^j1:([^+]{1,500})(?:\+(\d{1,8}))?$/;
/** Before a journalctl that ended is called again. */
const AGAIN_MS = 1000;
const CHUNK_BYTES = 64 * 1024;

/** Behind so many lines of an entry; undefined: behind all of it. */
interface JournalPlace {
  readonly cursor: string;
  readonly lines: number | undefined;
}

export function isJournalPosition(text: string): boolean {
  return text.startsWith('j1:');
}

/** @throws invalid */
function parsePlace(text: string): JournalPlace {
  const [, cursor = '', lines] = JOURNAL_POSITION.exec(text) ?? [];
  if (!isCursor(cursor)) throw unreadablePosition(text);
  return { cursor, lines: lines === undefined ? undefined : Number(lines) };
}

/**
 * The last entries, or those behind a position, and with `follow` each new one until the signal aborts: a journalctl that ends meanwhile
 * is called again for what is behind the last line.
 * @throws invalid for a position that is none of the journal; precondition when the journal cannot be read
 */
export async function* tailJournal(
  source: JournalUnit,
  { lines, follow, position = '' }: TailOptions,
  signal: AbortSignal,
): AsyncGenerator<readonly LogText[]> {
  const reading = new JournalReading(source, position === '' ? undefined : parsePlace(position));
  while (!signal.aborted) {
    const from = reading.place ? { cursor: reading.place.cursor } : { lines };
    yield* reading.once({ ...from, follow }, signal);
    if (!follow || !reading.heard) break;
    await sleep(source.clock, AGAIN_MS, signal).catch(() => undefined);
  }
  if (!reading.place && !signal.aborted) yield [notice(`the journal of systemd has no entries of ${source.unit}`)];
}

/** One journalctl after the other. */
class JournalReading {
  readonly #source: JournalUnit;
  #place: JournalPlace | undefined;
  #heard = false;

  constructor(source: JournalUnit, place: JournalPlace | undefined) {
    this.#source = source;
    this.#place = place;
  }

  /** Behind the last entry read. */
  get place(): JournalPlace | undefined {
    return this.#place;
  }

  /** Whether the last journalctl gave anything. */
  get heard(): boolean {
    return this.#heard;
  }

  /** @throws when it could not be read at all; one that breaks off is just over */
  async *once(
    how: Pick<JournalOptions, 'cursor' | 'lines' | 'follow'>,
    signal: AbortSignal,
  ): AsyncGenerator<readonly LogText[]> {
    const { unit, journalctl } = this.#source;
    const before = this.#place;
    this.#heard = false;
    try {
      for await (const entry of readJournal({ unit, journalctl, ...how }, signal)) {
        yield* entry ? behind(entry, this.#heard ? undefined : before) : [[tooLong()]];
        this.#heard = true;
        if (entry) this.#place = { cursor: entry.cursor, lines: undefined };
      }
    } catch (error) {
      if (!this.#heard) throw error;
    }
  }
}

/** The lines of an entry that are behind the place, where the entry is the one of the place. */
function* behind(entry: JournalEntry, place: JournalPlace | undefined): Generator<readonly LogText[]> {
  if (place && place.cursor !== entry.cursor) {
    yield [notice('entries of the journal were left out here: they were removed before they were read')];
  }
  if (place?.cursor !== entry.cursor) yield* batched(textsOf(entry, 0));
  else if (place.lines !== undefined) yield* batched(textsOf(entry, place.lines));
}

/** Behind the first `skip` lines. One after the other: an entry may be of millions of lines, all of them empty. */
function* textsOf({ cursor, message }: JournalEntry, skip: number): Generator<LogText> {
  let read = 0;
  let last: string | undefined;
  for (const text of linesOf(message)) {
    if (last !== undefined && read > skip) yield ofEntry(last, `j1:${cursor}+${read}`);
    last = text;
    read += 1;
  }
  // An entry without text is a line too.
  if (read > skip || read === 0) yield ofEntry(last ?? '', `j1:${cursor}`);
}

function* linesOf(message: string): Generator<string> {
  const splitter = new LineSplitter();
  const bytes = Buffer.from(message);
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    for (const { text } of splitter.push(bytes.subarray(at, at + CHUNK_BYTES), at)) yield text;
  }
  for (const { text } of splitter.rest()) yield text;
}

function ofEntry(text: string, position: string): LogText {
  return { file: JOURNAL_FILE, text, notice: false, position };
}

function tooLong(): LogText {
  return notice('an entry of the journal was left out here: it is too long');
}

function notice(text: string): LogText {
  return { file: JOURNAL_FILE, text, notice: true, position: '' };
}
