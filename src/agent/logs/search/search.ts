import type { FileHandle } from 'node:fs/promises';
import type { Clock } from '../../../kit/clock.js';
import { messageOf, MusterError } from '../../../kit/errors.js';
import type { LogHit, LogSearch, SearchReport } from '../../../model/log-search.js';
import type { LoggedService } from '../files.js';
import { shareBytes } from './budget.js';
import { Grep, type GrepEnd, type GrepInput } from './grep.js';
import { JournalSearch } from './journal.js';
import type { Searched } from './names.js';
import { outOfCpu, PartSearch, type PartContext, type ReleaseAt } from './one.js';
import { partsOf, unpackedPart, type LogGuard, type Part, type PartSlot } from './part.js';
import { lookAt, planOf, type Look, type Planned } from './plan.js';
import { Progress } from './report.js';

export interface SearchParts {
  readonly clock: Clock;
  readonly guard: (name: string) => LogGuard;
  /** Unpacks a compressed file into one without a name. @throws why it could not */
  readonly unpack: (descriptor: number, size: number, signal: AbortSignal) => Promise<FileHandle>;
  readonly releaseAt: ReleaseAt;
}

/** Files kept open from the beginning, so that rotating, compressing or removing them changes nothing; more are opened when their turn comes. */
export const HELD_FILES_MAX = 64;
const PATTERN_CPU_MS = 5000;

/** One search in the logs of a service. */
export interface RunningSearch {
  /**
   * Hits file by file, the oldest lines of a log first; ends by itself. Nothing is read ahead while a batch is not taken; leaving the loop
   * ends the search.
   * @throws invalid for a pattern that grep does not take
   */
  hits(signal: AbortSignal): AsyncGenerator<readonly LogHit[]>;
  /** What was looked at so far. */
  report(): SearchReport;
}

/** A part with what is to be searched of it, and how it is opened where it is not kept open. */
interface Turn {
  readonly slot: PartSlot;
  readonly planned: Planned;
}

/** Without a look it cannot be searched. */
interface SlotLook {
  readonly slot: PartSlot;
  readonly look: Look | undefined;
}

export class FileSearch implements RunningSearch {
  readonly #logged: LoggedService;
  readonly #searched: Searched;
  readonly #search: LogSearch;
  readonly #parts: SearchParts;
  readonly #progress: Progress;
  readonly #open = new Set<Part>();
  /** The search of the next part, begun already. */
  #ahead: PartSearch | undefined;

  constructor(logged: LoggedService, searched: Searched, search: LogSearch, parts: SearchParts) {
    this.#logged = logged;
    this.#searched = searched;
    this.#search = search;
    this.#parts = parts;
    this.#progress = new Progress(parts.clock);
  }

  report(): SearchReport {
    return this.#progress.report();
  }

  async *hits(signal: AbortSignal): AsyncGenerator<readonly LogHit[]> {
    let over = false;
    try {
      await this.#tryPattern(signal);
      over = yield* this.#searchFiles(this.#withinBudget(await this.#plan(signal)), signal);
      over = over || (yield* this.#searchJournal(signal));
      over = over || !signal.aborted;
    } catch (error) {
      over = true;
      throw error;
    } finally {
      if (!over) this.#progress.cut('CANCELLED');
      await this.#ahead?.abandon();
      for (const part of [...this.#open]) await this.#close(part);
    }
  }

  /** Before anything is searched, so that a bad pattern is an error and not a problem of each file. */
  async #tryPattern(signal: AbortSignal): Promise<void> {
    const input: GrepInput = { source: 'nothing', skipBytes: 0, takeBytes: undefined, gzip: false };
    const search = this.#search;
    const grep = new Grep(input, { search, linesMax: undefined, cpuMs: PATTERN_CPU_MS, signal });
    grep.discard();
    const end = await grep.ended;
    this.#progress.cpuMs += end.cpuMs;
    if (end.how !== 'ok' && !signal.aborted) throw badPattern(end);
  }

  async #plan(signal: AbortSignal): Promise<Turn[]> {
    const turns: Turn[] = [];
    for (const name of this.#searched.names) {
      if (signal.aborted) break;
      const room = Math.max(HELD_FILES_MAX - this.#open.size, 0);
      const slots = await partsOf(this.#logged, name, this.#parts.guard(name), { room, signal });
      turns.push(...(await this.#planLog(slots, signal)));
    }
    this.#progress.filesTotal += turns.length;
    return turns;
  }

  async #planLog(slots: readonly PartSlot[], signal: AbortSignal): Promise<Turn[]> {
    const looks = await this.#looks(slots, signal);
    const turns: Turn[] = [];
    for (const [index, { slot, look }] of looks.entries()) {
      if (!look) continue;
      if (!look.outside) turns.push({ slot, planned: this.#planOf(look, looks[index - 1]?.look) });
      if (look.outside || slot.late) await this.#close(look.part);
    }
    return turns;
  }

  /** The newest is looked at first: where it begins says where the one before it ends. */
  async #looks(slots: readonly PartSlot[], signal: AbortSignal): Promise<SlotLook[]> {
    const looks: SlotLook[] = [];
    for (const slot of [...slots].reverse()) {
      if (!signal.aborted) looks.unshift({ slot, look: await this.#look(slot, looks[0]?.look?.firstMs) });
      // It is open already, and closed with the others.
      else if (!slot.late) await this.#opened(slot).catch(() => undefined);
    }
    return looks;
  }

  #planOf(look: Look, before: Look | undefined): Planned {
    const { service } = this.#logged;
    return planOf(look, before, (fromMs, toMs) => this.#parts.releaseAt(service, fromMs, Math.max(toMs - fromMs, 1)));
  }

  /** Undefined: it cannot be searched, which is said. */
  async #look(slot: PartSlot, nextMs: number | undefined): Promise<Look | undefined> {
    try {
      const part = await this.#opened(slot);
      if (!part) throw new MusterError('unavailable', 'it was removed meanwhile');
      return await lookAt(part, this.#search, nextMs);
    } catch (error) {
      this.#progress.filesTotal += 1;
      this.#progress.say(`${slot.name} was not searched: ${messageOf(error)}`, 'PROBLEM');
      return undefined;
    }
  }

  async #opened(slot: PartSlot): Promise<Part | undefined> {
    const part = await slot.open();
    if (part) this.#open.add(part);
    return part;
  }

  async #close(part: Part): Promise<void> {
    this.#open.delete(part);
    await part.close();
  }

  /** The newest bytes there are, in their order. */
  #withinBudget(turns: readonly Turn[]): Turn[] {
    const { bytesMax } = this.#search;
    const wanted = turns.map(({ planned: { part, from, to } }) => ({
      bytes: to - from,
      modifiedMs: part.modifiedMs,
      divisible: part.bytes !== undefined,
    }));
    const shares = shareBytes(wanted, bytesMax);
    const cut = turns.filter(({ planned: { from, to } }, index) => (shares[index] ?? 0) < to - from);
    if (cut.length > 0) {
      const names = cut.length > 3 ? `${cut.length} files` : cut.map(({ slot }) => slot.name).join(', ');
      this.#progress.say(`older lines, in ${names}, were left out: there are more than ${bytesMax} bytes`, 'BYTES');
    }
    return turns.flatMap((turn, index) => {
      const share = shares[index] ?? 0;
      const { from, to } = turn.planned;
      return share === 0 && to > from ? [] : [{ ...turn, planned: { ...turn.planned, from: to - share } }];
    });
  }

  #context(signal: AbortSignal): PartContext {
    const { clock, releaseAt } = this.#parts;
    const { service } = this.#logged;
    return { clock, releaseAt, service, search: this.#search, progress: this.#progress, signal };
  }

  /** @returns whether the search is over */
  async *#searchFiles(turns: readonly Turn[], signal: AbortSignal): AsyncGenerator<readonly LogHit[], boolean> {
    for (const [index, turn] of turns.entries()) {
      if (signal.aborted) return false;
      if (this.#search.cpuMs <= this.#progress.cpuMs) {
        outOfCpu(this.#context(signal), turn.slot.name);
        return true;
      }
      const search = this.#ahead ?? (await this.#begin(turn, signal));
      const next = turns[index + 1];
      this.#ahead = next && this.#canBeginEarly(next) ? await this.#begin(next, signal) : undefined;
      if (!search) continue;
      yield* search.hits();
      await this.#close(search.part);
      if (search.done) return true;
    }
    return false;
  }

  /** @returns whether the search is over */
  async *#searchJournal(signal: AbortSignal): AsyncGenerator<readonly LogHit[], boolean> {
    const { journal } = this.#searched;
    if (journal && !signal.aborted) yield* new JournalSearch(journal, this.#context(signal)).hits();
    return !signal.aborted;
  }

  /** The next grep starts while this one ends. Not where processor time is what matters: it is shared out one after the other. */
  #canBeginEarly({ slot, planned }: Turn): boolean {
    return (
      !this.#search.regex &&
      !slot.late &&
      !planned.unpack &&
      planned.part.descriptor !== undefined &&
      planned.to > planned.from
    );
  }

  /** Undefined: it cannot be searched, which is said, or there is nothing in it. */
  async #begin(turn: Turn, signal: AbortSignal): Promise<PartSearch | undefined> {
    const planned = await this.#ready(turn, signal);
    if (!planned) return undefined;
    if (planned.remark !== undefined) this.#progress.say(planned.remark);
    const search = new PartSearch(planned, this.#context(signal));
    try {
      await search.begin();
      return search;
    } catch (error) {
      this.#progress.say(`${turn.slot.name} was not searched: ${messageOf(error)}`, 'PROBLEM');
      return undefined;
    }
  }

  /** Opens what was not kept open, and unpacks what has to be. Undefined: that failed, which is said, or it holds nothing. */
  async #ready({ slot, planned }: Turn, signal: AbortSignal): Promise<Planned | undefined> {
    try {
      const now = slot.late ? await this.#reopened(slot, planned) : planned;
      const ready = now.unpack ? await this.#unpacked(now, signal) : now;
      // What a compressed one says of its length proves nothing: only gzip knows whether it is empty.
      if (!ready.outside && (ready.to > ready.from || !ready.part.bytes)) return ready;
      await this.#close(ready.part);
      this.#progress.files += 1;
    } catch (error) {
      this.#progress.say(`${slot.name} was not searched: ${messageOf(error)}`, 'PROBLEM');
    }
    return undefined;
  }

  async #reopened(slot: PartSlot, planned: Planned): Promise<Planned> {
    const part = await this.#opened(slot);
    if (!part) throw new MusterError('unavailable', 'it was removed meanwhile');
    if (part.name === planned.part.name) return { ...planned, part };
    // It was compressed meanwhile.
    return { ...planned, ...(await lookAt(part, this.#search, planned.lastMs)) };
  }

  async #unpacked(planned: Planned, signal: AbortSignal): Promise<Planned> {
    const { part } = planned;
    const file = await this.#parts.unpack(part.descriptor ?? -1, part.size, signal);
    await this.#close(part);
    const unpacked = unpackedPart(part, file, (await file.stat()).size);
    this.#open.add(unpacked);
    const look = await lookAt(unpacked, this.#search, undefined);
    return { ...planned, ...look, wantedFrom: look.from };
  }
}

function badPattern({ how, message }: GrepEnd): MusterError {
  const why: Partial<Record<GrepEnd['how'], string>> = {
    cpu: `preparing it alone takes more than ${PATTERN_CPU_MS / 1000} s of processor time: make it simpler`,
    memory: 'preparing it takes more memory than a search may use: make it simpler',
  };
  const text = why[how] ?? (message === '' ? 'grep could not be run' : message);
  const fields = [{ field: 'pattern', description: text }];
  return new MusterError('invalid', `this pattern cannot be searched for: ${text}`, { reason: 'PATTERN', fields });
}
