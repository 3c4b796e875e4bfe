/** When a line was written, as the usual formats say near the line's start. Pure. */

export interface LineTime {
  /** Wall-clock milliseconds since the Unix epoch. */
  readonly ms: number;
  /** What the text can tell apart: 1, 1000 or 60000 milliseconds. */
  readonly precisionMs: number;
}

/** Characters of a line that are looked at: a time further behind is part of what the line tells. */
export const TIME_CHARACTERS = 512;
/** Where a time that is not marked as one by a bracket or a key may begin at most. */
const INDEX_MAX = 80;
const DAY_MS = 86_400_000;

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const MONTH = '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)';
const CLOCK = String.raw`\d\d:\d\d:\d\d(?:[.,]\d{1,9})?`;
const ZONE = String.raw`(?: ?(?:Z|UTC|GMT)\b| ?[+-]\d\d:?\d\d(?!\d))`;

/** One alternative a format: the leftmost one is the line's time. */
const FORMATS = new RegExp(
  [
    // 2026-11-23T12:00:00.123Z, 2026-11-23 12:00:00,123 +0100, 2026-11-23 12:00
    String.raw`(?<!\d)(?<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?${ZONE}?)(?!\d)`,
    // nginx error, Go: 2026/11/23 12:00:00
    String.raw`(?<!\d)(?<slashes>\d{4}/\d\d/\d\d ${CLOCK}${ZONE}?)`,
    // access logs: [23/Nov/2026:12:00:00 +0000]
    String.raw`\[(?<access>\d\d/${MONTH}/\d{4}:${CLOCK}(?: [+-]\d{4})?)\]`,
    // Apache error: [Mon Nov 23 12:00:00.123456 2026]
    String.raw`(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?<asctime>${MONTH} {1,2}\d{1,2} ${CLOCK} \d{4})`,
    // Redis and mail: 23 Nov 2026 12:00:00.123
    String.raw`(?<!\d)(?<dayfirst>\d{1,2} ${MONTH} \d{4} ${CLOCK}${ZONE}?)`,
    // syslog: Nov 23 12:00:00
    String.raw`(?<syslog>\b${MONTH} {1,2}\d{1,2} ${CLOCK})`,
  ].join('|'),
);

const EPOCH = /^\[?(?<seconds>1\d{9}|[2-9]\d{9})(?:(?<millis>\d{3})|\.(?<fraction>\d{1,9}))?(?![\d.])/;
const JSON_TIME =
  /"(?:time|timestamp|@timestamp|ts|datetime|date|t)"\s*:\s*(?:"(?<text>[^"]{1,64})"|(?<number>\d{10,13}(?:\.\d{1,9})?)(?![\d.]))/;

type Fields = Readonly<Record<string, string | undefined>>;

/**
 * The time a line carries; undefined where it carries none. A line that begins with white space goes on from the one before and has none.
 * @param referenceMs about when the line was written, for formats without a year
 */
export function timeOf(line: string, referenceMs: number): LineTime | undefined {
  const head = line.slice(0, TIME_CHARACTERS);
  if (head === '' || /^\s/.test(head)) return undefined;
  if (head.startsWith('{')) return jsonTime(head, referenceMs);
  return epochTime(EPOCH.exec(head)?.groups) ?? textTime(head, referenceMs);
}

function jsonTime(head: string, referenceMs: number): LineTime | undefined {
  const groups: Fields = JSON_TIME.exec(head)?.groups ?? {};
  if (groups['number'] !== undefined) return epochTime(EPOCH.exec(groups['number'])?.groups);
  return groups['text'] === undefined ? undefined : timeOf(groups['text'], referenceMs);
}

function epochTime(groups: Fields | undefined): LineTime | undefined {
  if (groups?.['seconds'] === undefined) return undefined;
  const { millis, fraction } = groups;
  const ms = millis === undefined ? millisOf(fraction) : Number(millis);
  const precisionMs = millis === undefined && fraction === undefined ? 1000 : 1;
  return { ms: Number(groups['seconds']) * 1000 + ms, precisionMs };
}

function textTime(head: string, referenceMs: number): LineTime | undefined {
  const found = FORMATS.exec(head);
  if (!found) return undefined;
  const groups: Fields = found.groups ?? {};
  const { iso, slashes, access, dayfirst } = groups;
  if (access !== undefined) return dayFirstTime(access);
  if (found.index > INDEX_MAX) return undefined;
  if (iso !== undefined || slashes !== undefined) return numericTime(iso ?? slashes ?? '');
  return dayfirst === undefined ? monthFirstTime(groups, referenceMs) : dayFirstTime(dayfirst);
}

function numericTime(text: string): LineTime | undefined {
  const [, year, month, day, rest] = /^(\d{4})[-/](\d\d)[-/](\d\d)[T ](.*)$/.exec(text) ?? [];
  return assemble({ year: Number(year), month: Number(month), day: Number(day) }, rest ?? '');
}

function dayFirstTime(text: string): LineTime | undefined {
  const [, day, month, year, rest] = /^(\d{1,2})[/ ](\w{3})[/ ](\d{4})[: ](.*)$/.exec(text) ?? [];
  return assemble({ year: Number(year), month: monthOf(month), day: Number(day) }, rest ?? '');
}

/** `Nov 23 12:00:00`, with the year behind it or none. */
function monthFirstTime({ asctime, syslog }: Fields, referenceMs: number): LineTime | undefined {
  const [, month, day, clock, year] = /^(\w{3}) +(\d{1,2}) (\S+)(?: (\d{4}))?$/.exec(asctime ?? syslog ?? '') ?? [];
  const date = { month: monthOf(month), day: Number(day) };
  if (year !== undefined) return assemble({ ...date, year: Number(year) }, clock ?? '');
  const written = new Date(referenceMs).getFullYear();
  const inYear = assemble({ ...date, year: written }, clock ?? '');
  // A log of last December read in January.
  if (inYear && inYear.ms <= referenceMs + DAY_MS) return inYear;
  return assemble({ ...date, year: written - 1 }, clock ?? '');
}

function monthOf(name: string | undefined): number {
  return MONTHS.indexOf((name ?? '').toLowerCase()) + 1;
}

interface CalendarDate {
  readonly year: number;
  readonly month: number;
  readonly day: number;
}

interface TimeOfDay {
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly millis: number;
  readonly precisionMs: number;
  /** Undefined: the machine's own zone. */
  readonly offsetMs: number | undefined;
}

function timeOfDay(text: string): TimeOfDay | undefined {
  const found = /^(\d\d):(\d\d)(?::(\d\d))?(?:[.,](\d+))? ?(.*)$/.exec(text);
  const [, hour, minute, second, fraction, zone] = found ?? [];
  const time = { hour: Number(hour), minute: Number(minute), second: Number(second ?? 0) };
  if (!found || time.hour > 23 || time.minute > 59 || time.second > 60) return undefined;
  const whole = second === undefined ? 60_000 : 1000;
  return {
    ...time,
    millis: millisOf(fraction),
    precisionMs: fraction === undefined ? whole : 1,
    offsetMs: zoneOffsetMs(zone ?? ''),
  };
}

/** @param clock the time of day, and the zone where one is said */
function assemble(date: CalendarDate, clock: string): LineTime | undefined {
  const time = timeOfDay(clock);
  const { year, month, day } = date;
  if (!time || month < 1 || month > 12 || day < 1 || day > daysIn(date)) return undefined;
  const { hour, minute, second, millis, precisionMs, offsetMs } = time;
  const ms =
    offsetMs === undefined
      ? new Date(year, month - 1, day, hour, minute, second, millis).getTime()
      : Date.UTC(year, month - 1, day, hour, minute, second, millis) - offsetMs;
  return { ms, precisionMs };
}

function daysIn({ year, month }: CalendarDate): number {
  return new Date(Date.UTC(year, month, 0)).getUTCDate();
}

function zoneOffsetMs(zone: string): number | undefined {
  if (zone === 'Z' || zone === 'UTC' || zone === 'GMT') return 0;
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(zone) ?? [];
  if (sign === undefined) return undefined;
  const ms = (Number(hours) * 60 + Number(minutes)) * 60_000;
  return sign === '-' ? -ms : ms;
}

function millisOf(fraction: string | undefined): number {
  return fraction === undefined ? 0 : Number(fraction.padEnd(3, '0').slice(0, 3));
}
