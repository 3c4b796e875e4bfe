import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { colours } from './colours.js';
import { formatDuration } from '../kit/durations.js';
import { inert, inertLine } from './inert.js';
import type { GlobalOptions, Io } from './io.js';

/** One column of a table: its heading and how to get its text. */
export interface Column<Row> {
  readonly heading: string;
  readonly text: (row: Row) => string;
  readonly right?: boolean;
}

/** Writes and waits until the stream has room; a reader that has gone away (EPIPE) ends the program quietly elsewhere. */
export async function write(stream: Writable, text: string): Promise<void> {
  if (!stream.write(text)) await once(stream, 'drain');
}

/** What a command says: tables and lines for people, JSON for programs. */
export class Output {
  readonly json: boolean;
  readonly #io: Io;

  constructor(io: Io, options: GlobalOptions) {
    this.#io = io;
    this.json = options.json === true;
  }

  /** One line (or several) for people, made inert: much of it comes from services and peers. Nothing in JSON mode. */
  async line(text: string): Promise<void> {
    if (!this.json) await write(this.#io.stdout, `${inert(text)}\n`);
  }

  /** One JSON document (or one object of a stream) for programs; nothing for people. */
  async document(value: unknown): Promise<void> {
    if (this.json) await write(this.#io.stdout, `${JSON.stringify(value)}\n`);
  }

  /** A note beside the result, to standard error, for people only. */
  async note(text: string): Promise<void> {
    if (!this.json) await write(this.#io.stderr, `${inert(text)}\n`);
  }

  /** Rows under headings; nothing at all where there are no rows: the caller says what that means. */
  async table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): Promise<void> {
    if (!this.json && rows.length > 0) await write(this.#io.stdout, renderTable(rows, columns));
  }
}

/** Rows under headings, padded with spaces; every cell is made inert. */
export function renderTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = rows.map((row) => columns.map((column) => inertLine(column.text(row)) || '-'));
  const widths = columns.map((column, index) =>
    Math.max(column.heading.length, ...cells.map((line) => line[index]?.length ?? 0)),
  );
  const renderLine = (line: readonly string[], colour: (text: string, column: string) => string): string =>
    line
      .map((cell, index) => {
        const column = columns[index];
        const width = widths[index] ?? 0;
        const last = index === columns.length - 1 && column?.right !== true;
        const padded = column?.right === true ? cell.padStart(width) : last ? cell : cell.padEnd(width);
        return colour(padded, column?.heading ?? '');
      })
      .join('  ')
      .trimEnd();
  const head = renderLine(
    columns.map((column) => column.heading),
    (text) => colours.bold(text),
  );
  const body = cells.map((line) => renderLine(line, colourOf));
  return `${[head, ...body].join('\n')}\n`;
}

/** The columns in which any row says something: a table is to fit the terminal. */
export function telling<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): Column<Row>[] {
  return columns.filter(({ text }) => rows.some((row) => text(row) !== ''));
}

const COLOURS: Readonly<Record<string, (text: string) => string>> = {
  RUNNING: colours.green,
  PASSING: colours.green,
  online: colours.green,
  SUCCEEDED: colours.green,
  STARTING: colours.yellow,
  STOPPING: colours.yellow,
  WARNING: colours.yellow,
  BACKOFF: colours.yellow,
  UNKNOWN: colours.yellow,
  PARTIAL: colours.yellow,
  PAUSED: colours.yellow,
  WAITING: colours.yellow,
  EXPIRED: colours.yellow,
  FATAL: colours.red,
  CRITICAL: colours.red,
  FAILED: colours.red,
  offline: colours.red,
  STOPPED: colours.dim,
};

function colourOf(text: string, heading: string): string {
  return ['STATE', 'HEALTH', 'STATUS', 'SEVERITY', 'OUTCOME'].includes(heading) ? coloured(text) : text;
}

/** In the colour of its first word, where that is a state or an outcome. */
export function coloured(text: string): string {
  const paint = COLOURS[text.trim().split(' ')[0] ?? ''];
  return paint ? paint(text) : text;
}

/** `3m 20s` since then, or `-`. */
export function ago(date: Date | undefined, nowMs: number): string {
  return date === undefined ? '-' : formatDuration(Math.max(0, nowMs - date.getTime()));
}

/** `14:02:09` today, `2026-11-20 14:02` before; the machine's own time zone. */
export function clockTime(date: Date | undefined, nowMs: number): string {
  if (date === undefined) return '-';
  const pad = (value: number): string => String(value).padStart(2, '0');
  const now = new Date(nowMs);
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  if (date.toDateString() === now.toDateString()) return `${time}:${pad(date.getSeconds())}`;
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time}`;
}

/** The last word of an enum's wire name: `SERVICE_STATE_RUNNING` under `SERVICE_STATE` is `RUNNING`. */
export function enumWord(prefix: string, wire: string): string {
  return wire.startsWith(`${prefix}_`) ? wire.slice(prefix.length + 1) : wire;
}
