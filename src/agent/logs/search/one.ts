import { readFile } from 'node:fs/promises';
import type { Clock, Timer } from '../../../kit/clock.js';
import { formatDuration } from '../../../kit/durations.js';
import { messageOf } from '../../../kit/errors.js';
import type { LogHit, LogSearch } from '../../../model/log-search.js';
import type { LogBytes } from './bytes.js';
import { Collector } from './collector.js';
import { TimeFilter } from './filter.js';
import { Grep, MEMORY_KIB_MAX, type GrepEnd, type GrepInput } from './grep.js';
import { GrepOutput, type PrintedLine } from './output.js';
import type { Part } from './part.js';
import { hasSpan, seenTimes, type Planned } from './plan.js';
import type { Progress } from './report.js';

/** Version of a service that ran at a time; empty where that cannot be known. @param precisionMs what the time can tell apart */
export type ReleaseAt = (service: string, ms: number, precisionMs: number) => string;

export interface PartContext {
  readonly clock: Clock;
  readonly service: string;
  readonly search: LogSearch;
  readonly progress: Progress;
  readonly releaseAt: ReleaseAt;
  readonly signal: AbortSignal;
}

const FEED_BYTES = 1024 * 1024;
/** How long others wait while a live log is searched in one go, and how much may be found then. */
const QUICK_MS = 500;
const QUICK_BYTES_MAX = 1024 * 1024;
/** How far the beginning of a line is looked for. */
const LINE_LOOK_BYTES_MAX = 1024 * 1024;
/** What a shell says of a program whose reader has left. */
const NOT_READ = 128 + 13;

/** The search of one part: yields its hits, and says to the progress what became of it. Afterwards `done` says whether the search is over. */
export class PartSearch {
  readonly #planned: Planned;
  readonly #context: PartContext;
  readonly #filter: TimeFilter;
  readonly #collector: Collector;
  #grep: Grep | undefined;
  #from = 0;
  #fed = 0;
  #reached = 0;
  #enough = false;
  /** How far the live log was read in one go. */
  #quickTo: number | undefined;
  done = false;

  constructor(planned: Planned, context: PartContext) {
    this.#planned = planned;
    this.#context = context;
    const { part, inside, earlierMs } = planned;
    const { sinceMs, untilMs } = context.search;
    this.#filter = new TimeFilter({
      span: { sinceMs, untilMs },
      referenceMs: part.modifiedMs,
      bytes: inside ? undefined : part.bytes,
      earlierMs,
    });
    this.#collector = new Collector(context.search, context.progress);
  }

  get part(): Part {
    return this.#planned.part;
  }

  /** Starts grep, so that hits() has something at once. */
  async begin(): Promise<void> {
    this.#from = await this.#start();
    if (!this.#planned.part.whole) this.#grep = this.#startGrep(this.#input(this.#from));
  }

  /** Ends what began and is not wanted any more. */
  async abandon(): Promise<void> {
    this.#grep?.kill();
    await this.#grep?.ended;
  }

  /** Call begin() first. */
  async *hits(): AsyncGenerator<readonly LogHit[]> {
    const { whole } = this.#planned.part;
    const quick = whole && (await whole((...held) => this.#readQuickly(...held)));
    const grep = quick?.grep ?? this.#grep ?? this.#startGrep(this.#input(this.#from));
    this.#grep = grep;
    try {
      yield* this.#read(grep, quick?.chunks ?? grep.output(), quick ? 0 : this.#markLines);
    } catch (error) {
      grep.kill();
      if (!this.#context.signal.aborted) this.#partly(messageOf(error));
    } finally {
      await this.#conclude(grep, this.#from);
    }
  }

  #startGrep(input: GrepInput): Grep {
    const { search, progress, signal } = this.#context;
    // grep counts what the filter drops: it can be told when to stop only where nothing is dropped.
    const linesMax = hasSpan(search) ? undefined : search.linesMax - progress.hits + 1;
    return new Grep(input, { search, linesMax, cpuMs: search.cpuMs - progress.cpuMs, signal });
  }

  /** Most live logs are searched in some milliseconds, and say little: that needs no detour. Undefined: this one is not among them. */
  async #readQuickly(
    descriptor: number,
    wanted: () => boolean,
  ): Promise<{ readonly grep: Grep; readonly chunks: Buffer[] } | undefined> {
    const { part, to } = this.#planned;
    // It may grow meanwhile: what is behind the end it had is left out where it is printed.
    const takeBytes = to < (part.bytes?.size ?? to) ? to - this.#from : undefined;
    const grep = this.#startGrep({ source: descriptor, skipBytes: this.#from, takeBytes, gzip: false });
    const chunks: Buffer[] = [];
    let bytes = 0;
    const limit = this.#killWhenWanted(grep, wanted);
    for await (const chunk of grep.output()) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > QUICK_BYTES_MAX) break;
    }
    const { how } = await grep.ended;
    limit();
    if (how === 'killed' && !this.#context.signal.aborted) return undefined;
    this.#quickTo = await positionOf(descriptor);
    return { grep, chunks };
  }

  /** Others wait QUICK_MS at most. @returns how to let it be */
  #killWhenWanted(grep: Grep, wanted: () => boolean): () => void {
    let timer: Timer | undefined;
    const look = (): void => {
      if (wanted()) grep.kill();
      timer = this.#context.clock.after(QUICK_MS, look);
    };
    timer = this.#context.clock.after(QUICK_MS, look);
    return () => {
      timer?.cancel();
    };
  }

  /** Where what is searched ends in what grep reads. */
  get #end(): number {
    return this.#planned.part.bytes ? this.#planned.to : Infinity;
  }

  get #markLines(): number {
    return (this.#planned.part.bytes?.begin ?? 0) > 0 ? 1 : 0;
  }

  async #conclude(grep: Grep, from: number): Promise<void> {
    const { search, progress } = this.#context;
    const { to, wantedFrom } = this.#planned;
    const end = await grep.ended;
    progress.cpuMs += end.cpuMs;
    const through = isThrough(end, grep) && !this.#enough;
    const emptied = through && (await this.#endsEarly());
    const whole = through && !emptied;
    progress.bytes += whole ? to - from : await this.#readBytes(from);
    if (emptied) progress.say(`${this.#planned.part.name} was emptied while it was searched`, 'PROBLEM');
    else this.#judge(end, grep);
    if (!whole) return;
    if (this.#planned.from <= wantedFrom) progress.files += 1;
    for (const ms of seenTimes(this.#planned, search)) progress.sawTime(ms);
  }

  async *#read(
    grep: Grep,
    chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
    markLines: number,
  ): AsyncGenerator<readonly LogHit[]> {
    const output = new GrepOutput();
    for await (const chunk of chunks) {
      const before = (await grep.linesBefore) + markLines;
      for (const printed of output.push(chunk)) {
        if (!(await this.#take(printed, before))) {
          this.#enough = true;
          this.done = true;
          break;
        }
        if (this.#collector.full) yield this.#collector.drain();
      }
      const rest = this.#collector.drain();
      if (rest.length > 0) yield rest;
      if (this.#enough) return;
    }
  }

  /** False: there are as many as asked for. */
  async #take(printed: PrintedLine, linesBefore: number): Promise<boolean> {
    const offset = printed.offset + this.#from;
    if (offset >= this.#end) return true;
    this.#reached = offset;
    if (!(await this.#filter.keeps(printed, offset))) return true;
    const { service, releaseAt, progress } = this.#context;
    const time = this.#filter.timeOf(printed.text);
    progress.sawTime(time?.ms);
    return this.#collector.take(printed, {
      file: this.#planned.part.name,
      line: printed.line + linesBefore,
      timeMs: time?.ms,
      release: time ? releaseAt(service, time.ms, time.precisionMs) : this.#planned.release,
    });
  }

  async #start(): Promise<number> {
    const { part, from, to, wantedFrom } = this.#planned;
    return part.bytes && from > wantedFrom ? lineStart(part.bytes, from, to) : from;
  }

  #input(from: number): GrepInput {
    const { part, to } = this.#planned;
    const begin = part.bytes?.begin ?? 0;
    const skipBytes = from - begin;
    if (part.descriptor === undefined && part.bytes) {
      return { source: this.#feed(part.bytes, to), skipBytes, takeBytes: undefined, gzip: false };
    }
    return {
      source: part.descriptor ?? 'nothing',
      skipBytes,
      takeBytes: to < part.size ? to - from : undefined,
      gzip: part.bytes === undefined,
    };
  }

  async *#feed(bytes: LogBytes, to: number): AsyncGenerator<Buffer> {
    for (let at = bytes.begin; at < to;) {
      const chunk = await bytes.read(at, Math.min(FEED_BYTES, to - at));
      at += chunk.length;
      this.#fed = at;
      yield chunk;
    }
  }

  /** Of one that was not searched to its end: how far it was read. */
  async #readBytes(from: number): Promise<number> {
    const { part, to } = this.#planned;
    if (!part.bytes) return 0;
    const position = (await this.#position()) ?? Math.max(this.#fed, this.#reached);
    return Math.min(Math.max(position - from, 0), to - from);
  }

  /** How far grep came in a file that it reads by itself; undefined where bytes are handed to it. */
  async #position(): Promise<number | undefined> {
    const { descriptor } = this.#planned.part;
    return descriptor === undefined ? this.#quickTo : positionOf(descriptor);
  }

  /** grep met the end of a file that was longer when it was looked at. */
  async #endsEarly(): Promise<boolean> {
    const { part, to } = this.#planned;
    return part.bytes !== undefined && ((await this.#position()) ?? to) < to;
  }

  #judge(end: GrepEnd, grep: Grep): void {
    if (this.#enough) this.#context.progress.cut('LINES');
    else if (!this.#context.signal.aborted) this.#judgeEnd(end, grep);
  }

  #judgeEnd({ how, message }: GrepEnd, grep: Grep): void {
    const { name } = this.#planned.part;
    if (how === 'cpu') {
      outOfCpu(this.#context, name);
      this.done = true;
    } else if (how === 'memory') {
      this.#partly(`${MEMORY_KIB_MAX / 1024} MiB of memory were not enough, for a line that long or for this pattern`);
    } else if (how === 'failed') {
      this.#partly(message === '' ? 'grep was ended by others' : message);
    } else if (grep.feedError !== undefined) {
      this.#partly(messageOf(grep.feedError));
    } else if (isDamaged(grep)) {
      this.#partly(`it is damaged: ${message}`);
    }
  }

  #partly(why: string): void {
    this.#context.progress.say(`${this.#planned.part.name} was searched in part only: ${why}`, 'PROBLEM');
  }
}

export function outOfCpu({ search, progress }: Pick<PartContext, 'search' | 'progress'>, name: string): void {
  progress.say(
    `stopped after ${formatDuration(search.cpuMs)} of processor time, in ${name}: ask for more of it, for a simpler pattern, or for less time`,
    'CPU',
  );
}

/** grep met the end of all that it was to read. */
function isThrough({ how }: GrepEnd, grep: Grep): boolean {
  return how === 'ok' && grep.feedError === undefined && !isDamaged(grep);
}

function isDamaged({ gzipCode = 0 }: Grep): boolean {
  return gzipCode !== 0 && gzipCode !== NOT_READ;
}

/** Where an open file is read next: whoever got it from this process moves it too. */
async function positionOf(descriptor: number): Promise<number> {
  const text = await readFile(`/proc/self/fdinfo/${descriptor}`, 'utf8').catch(() => '');
  return Number(/^pos:\s*(\d+)$/m.exec(text)?.[1] ?? 0);
}

/** Where the next line begins, at or behind `from`. */
async function lineStart(bytes: LogBytes, from: number, to: number): Promise<number> {
  const chunk = await bytes.read(from - 1, Math.min(LINE_LOOK_BYTES_MAX, to - from + 1));
  const end = chunk.indexOf(0x0a);
  return end < 0 ? from : Math.min(from + end, to);
}
