import { messageOf } from '../../../kit/errors.js';
import { JOURNAL, type LogHit } from '../../../model/log-search.js';
import { readJournal } from '../systemd-journal.js';
import { Collector } from './collector.js';
import { Grep, type GrepEnd } from './grep.js';
import { GrepOutput } from './output.js';
import { outOfCpu, type PartContext } from './one.js';

export interface JournalSource {
  readonly unit: string;
  /** How journalctl is called. */
  readonly journalctl?: readonly string[] | undefined;
}

/** Entries handed to grep whose times are remembered: far more than its buffers hold. */
const ENTRIES_MAX = 65_536;
const FEED_BYTES = 64 * 1024;

/** The search of what a unit of systemd printed, in systemd's journal, the oldest entries first. */
export class JournalSearch {
  readonly #source: JournalSource;
  readonly #context: PartContext;
  readonly #entries = new EntryTimes();
  #fed = 0;
  #taken: Promise<void> = Promise.resolve();
  #enough = false;

  constructor(source: JournalSource, context: PartContext) {
    this.#source = source;
    this.#context = context;
  }

  async *hits(): AsyncGenerator<readonly LogHit[]> {
    const { search, progress, signal } = this.#context;
    const ending = new AbortController();
    const both = AbortSignal.any([signal, ending.signal]);
    progress.filesTotal += 1;
    const input = { source: this.#feed(both), skipBytes: 0, takeBytes: undefined, gzip: false };
    const linesMax = search.linesMax - progress.hits + 1;
    const grep = new Grep(input, { search, linesMax, cpuMs: search.cpuMs - progress.cpuMs, signal });
    try {
      yield* this.#read(grep);
    } finally {
      ending.abort();
      const end = await grep.ended;
      progress.cpuMs += end.cpuMs;
      progress.bytes += this.#fed;
      if (this.#enough) progress.cut('LINES');
      else if (!signal.aborted) this.#judge(end, grep.feedError);
    }
  }

  async *#read(grep: Grep): AsyncGenerator<readonly LogHit[]> {
    const { search, progress, service, releaseAt } = this.#context;
    const output = new GrepOutput();
    const collector = new Collector(search, progress);
    for await (const chunk of grep.output()) {
      for (const printed of output.push(chunk)) {
        const atMs = this.#entries.at(printed.offset);
        progress.sawTime(atMs);
        const release = atMs === undefined ? '' : releaseAt(service, atMs, 1);
        this.#enough = !collector.take(printed, { file: JOURNAL, line: printed.line, timeMs: atMs, release });
        if (this.#enough) break;
        if (collector.full) yield* this.#handOver(collector.drain());
      }
      yield* this.#handOver(collector.drain());
      if (this.#enough) return;
    }
  }

  /** grep gets nothing more while hits are not taken: so the times of its lines are still remembered. */
  *#handOver(hits: readonly LogHit[]): Generator<readonly LogHit[]> {
    if (hits.length === 0) return;
    let taken = (): void => undefined;
    this.#taken = new Promise((resolve) => {
      taken = resolve;
    });
    try {
      yield hits.map((hit) => ({ ...hit, line: 0 }));
    } finally {
      taken();
    }
  }

  async *#feed(signal: AbortSignal): AsyncGenerator<Buffer> {
    const { search, progress } = this.#context;
    const { sinceMs, untilMs } = search;
    let lines: Buffer[] = [];
    let bytes = 0;
    for await (const entry of readJournal({ ...this.#source, sinceMs, untilMs }, signal)) {
      if (!entry) {
        progress.say('an entry of the journal is too long and was left out', 'PROBLEM');
        continue;
      }
      const text = Buffer.from(`${entry.message}\n`);
      if (this.#fed + text.length > search.bytesMax) {
        progress.say(
          `newer entries of the journal were left out: there are more than ${search.bytesMax} bytes`,
          'BYTES',
        );
        break;
      }
      this.#entries.add(this.#fed, entry.atMs);
      this.#fed += text.length;
      lines.push(text);
      bytes += text.length;
      if (bytes < FEED_BYTES) continue;
      await this.#taken;
      yield Buffer.concat(lines);
      lines = [];
      bytes = 0;
    }
    yield Buffer.concat(lines);
  }

  #judge({ how, message }: GrepEnd, feedError: unknown): void {
    const { progress } = this.#context;
    if (how === 'cpu') outOfCpu(this.#context, 'the journal');
    else if (how !== 'ok') progress.say(`the journal was searched in part only: ${message}`, 'PROBLEM');
    else if (feedError !== undefined) progress.say(`the journal was not searched: ${messageOf(feedError)}`, 'PROBLEM');
    else progress.files += 1;
  }
}

/** When the last entries were written, by where they begin. */
class EntryTimes {
  #entries: { readonly offset: number; readonly atMs: number | undefined }[] = [];
  #first = 0;

  add(offset: number, atMs: number | undefined): void {
    this.#entries.push({ offset, atMs });
    if (this.#entries.length - this.#first > ENTRIES_MAX) this.#first += 1;
    if (this.#first > ENTRIES_MAX) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
  }

  /** Of the entry that holds this place; places come in their order. */
  at(offset: number): number | undefined {
    for (;;) {
      const next = this.#entries[this.#first + 1];
      if (!next || next.offset > offset) break;
      this.#first += 1;
    }
    const entry = this.#entries[this.#first];
    return entry && entry.offset <= offset ? entry.atMs : undefined;
  }
}
