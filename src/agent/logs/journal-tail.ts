import { sleep, type Clock } from '../../kit/clock.js';
import { LineSplitter } from './lines.js';
import { unreadablePosition } from '../../model/log-position.js';
import { isCursor, readJournal, type JournalEntry, type JournalOptions } from './systemd-journal.js';
import type { LogText, TailOptions } from './tail.js';

/** What a unit of systemd printed, as a log: entries of the journal, which may be of several lines. */

export interface JournalUnit {
  readonly unit: string;
  readonly clock: Clock;
  /** How journalctl is called. */
  readonly journalctl?: readonly string[] | undefined;
}

/** In the place of a file's name. */
export const JOURNAL_FILE = 'journal';
const JOURNAL_POSITION = /^j1:([^+]{1,500})(?:\+(\d{1,6}))?$/;
/** Before a journalctl that ended is called again. */
const AGAIN_MS = 1000;

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
  const texts = textsOf(entry);
  if (place?.cursor !== entry.cursor) yield texts;
  else if (place.lines !== undefined && place.lines < texts.length) yield texts.slice(place.lines);
}

function textsOf({ cursor, message }: JournalEntry): LogText[] {
  const splitter = new LineSplitter();
  const lines = [...splitter.push(Buffer.from(message), 0), ...splitter.rest()];
  // An entry without text is a line too.
  const texts = lines.length === 0 ? [''] : lines.map(({ text }) => text);
  return texts.map((text, index) => {
    const read = index + 1 < texts.length ? `+${index + 1}` : '';
    return { file: JOURNAL_FILE, text, notice: false, position: `j1:${cursor}${read}` };
  });
}

function tooLong(): LogText {
  return notice('an entry of the journal was left out here: it is too long');
}

function notice(text: string): LogText {
  return { file: JOURNAL_FILE, text, notice: true, position: '' };
}
