import { createHash } from 'node:crypto';
import { colours } from '../colours.js';
import { LogHit } from '../../../generated/muster/v1/types.js';
import { inertLine } from '../inert.js';
import type { Io } from '../io.js';
import { write, type Output } from '../output.js';

/** Hits remembered as printed, over all machines; a hit beyond may be printed twice after the center went away. */
const PRINTED_MAX = 200_000;

interface Printed {
  times: number;
  /** In which round it was last seen, and how often there. */
  round: number;
  seen: number;
}

/**
 * Which hits have been printed of machines that may be searched again, in rounds. The same line may well be there twice (in a journal,
 * which has no line numbers), so printings are counted. Holds at most PRINTED_MAX.
 */
export class PrintedHits {
  readonly #machines = new Map<string, Map<string, Printed>>();
  #count = 0;
  #round = 0;

  /** What comes now may have been printed before. */
  nextRound(): void {
    this.#round += 1;
  }

  /** False where it is to be printed, and counts as printed; true where that was done in an earlier round. */
  take(hit: LogHit): boolean {
    const printed = this.#entryOf(hit);
    if (printed === undefined) return false;
    if (printed.round !== this.#round) {
      printed.round = this.#round;
      printed.seen = 0;
    }
    printed.seen += 1;
    if (printed.seen <= printed.times) return true;
    printed.times += 1;
    return false;
  }

  /** The machine will not be searched again. */
  forget(machineName: string): void {
    this.#count -= this.#machines.get(machineName)?.size ?? 0;
    this.#machines.delete(machineName);
  }

  /** Undefined where no more can be remembered. */
  #entryOf(hit: LogHit): Printed | undefined {
    const hits = this.#machines.get(hit.machineName) ?? new Map<string, Printed>();
    this.#machines.set(hit.machineName, hits);
    const key = keyOf(hit);
    const known = hits.get(key);
    if (known !== undefined || this.#count >= PRINTED_MAX) return known;
    const added: Printed = { times: 0, round: this.#round, seen: 0 };
    hits.set(key, added);
    this.#count += 1;
    return added;
  }
}

/** The text counts too: at the same place there may be another line by now. */
function keyOf({ file, line, time, text }: LogHit): string {
  const place = `${file}\0${line}\0${time?.getTime() ?? ''}\0${text}`;
  return createHash('sha1').update(place).digest('base64').slice(0, 16);
}

/** What the printer has to know of the search. */
export interface Shown {
  /** Painted where it stands, in a search for plain text. */
  readonly pattern: string;
  readonly regex: boolean;
  readonly ignoreCase: boolean;
  /** Lines around hits are shown. */
  readonly context: boolean;
}

/** `app.log:123:`, or with dashes; a journal has no line numbers. */
function placeOf({ file, line, context }: LogHit): string {
  const mark = context ? '-' : ':';
  return `${inertLine(file)}${line > 0 ? `${mark}${line}` : ''}${mark}`;
}

/** Prints hits as grep does: `machine file:line: text`, lines around them with dashes. */
export class HitPrinter {
  readonly #io: Io;
  readonly #output: Output;
  readonly #shown: Shown;
  readonly #literal: RegExp | undefined;
  #last: Pick<LogHit, 'machineName' | 'file'> | undefined;
  /** Several machines: each line says its own. */
  several = true;
  /** What is to be written before a line. */
  before: () => string = () => '';

  constructor(io: Io, output: Output, shown: Shown) {
    this.#io = io;
    this.#output = output;
    this.#shown = shown;
    const escaped = shown.pattern.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
    if (io.terminal && !shown.regex) this.#literal = new RegExp(escaped, shown.ignoreCase ? 'giu' : 'gu');
  }

  /** `skipped`: a line before it was left out. */
  async print(hit: LogHit, skipped: boolean): Promise<void> {
    if (this.#output.json) {
      await this.#output.document({ hit: LogHit.toJSON(hit) });
      return;
    }
    const { machineName, context, text, truncated } = hit;
    const prefix = this.several && machineName !== '' ? `${inertLine(machineName)} ` : '';
    const body = context ? inertLine(text) : this.#painted(text);
    const line = `${prefix}${placeOf(hit)} ${body}${truncated ? '…' : ''}\n`;
    await write(this.#io.stdout, `${this.before()}${this.#separator(hit, skipped)}${line}`);
  }

  /** Between groups of lines that stand together. */
  #separator({ machineName, file, separate }: LogHit, skipped: boolean): string {
    const last = this.#last;
    this.#last = { machineName, file };
    if (!this.#shown.context || last === undefined) return '';
    return skipped || separate || last.machineName !== machineName || last.file !== file ? '--\n' : '';
  }

  #painted(text: string): string {
    if (this.#literal === undefined) return inertLine(text);
    let painted = '';
    let from = 0;
    for (const { index, 0: found } of text.matchAll(this.#literal)) {
      painted += `${inertLine(text.slice(from, index))}${colours.bold(colours.red(inertLine(found)))}`;
      from = index + found.length;
    }
    return painted + inertLine(text.slice(from));
  }
}
