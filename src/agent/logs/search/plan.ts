import type { LogSearch } from '../../../model/log-search.js';
import type { Part } from './part.js';
import { DISORDER_MS, stretchOf, type Stretch, type TimeSpan } from './stretch.js';

/** What of a part is searched. */
export interface Planned {
  readonly part: Part;
  readonly from: number;
  readonly to: number;
  /** Where it would begin if there were room for all of it: `from` is behind that in a part that is cut short. */
  readonly wantedFrom: number;
  /** Of its lines that carry no time; empty where it cannot be known. */
  readonly release: string;
  /** Every line of it is in the asked time: none has to be looked at again. */
  readonly inside: boolean;
  /** What a line without a time belongs to at its beginning. */
  readonly earlierMs: number | undefined;
  /** Its lines have to be looked at one by one, so it must be unpacked. */
  readonly unpack: boolean;
  /** Something to be known about it. */
  readonly remark: string | undefined;
  readonly firstMs: number | undefined;
  readonly lastMs: number | undefined;
}

/** Lines may seem to be written so much later than their file was: a service may tell the time of another zone without saying so. */
const FUTURE_MS = 24 * 60 * 60_000;

export function hasSpan({ sinceMs, untilMs }: TimeSpan): boolean {
  return sinceMs !== undefined || untilMs !== undefined;
}

/** Undefined: all of it was written outside the asked time. */
export async function planPart(
  part: Part,
  search: Pick<LogSearch, 'sinceMs' | 'untilMs'>,
  earlierMs: number | undefined,
): Promise<Planned | undefined> {
  if (part.modifiedMs + FUTURE_MS < (search.sinceMs ?? part.modifiedMs)) return undefined;
  if (!part.bytes) return planPacked(part, search, earlierMs);
  const stretch = await stretchOf(part.bytes, search, part.modifiedMs);
  const { from, to, first, last, inside } = stretch;
  if (!touches(stretch, search, part.modifiedMs)) return undefined;
  return {
    part,
    from,
    to,
    wantedFrom: from,
    release: '',
    inside: inside || first === undefined,
    earlierMs: earlierMs ?? first?.ms,
    unpack: false,
    remark: hasSpan(search) ? remarkOn(part, stretch) : undefined,
    ...seen(first?.ms, last?.ms, search),
  };
}

/** The times there are, as far as they were asked for. */
function seen(
  firstMs: number | undefined,
  lastMs: number | undefined,
  { sinceMs = -Infinity, untilMs = Infinity }: TimeSpan,
): Pick<Planned, 'firstMs' | 'lastMs'> {
  return {
    firstMs: firstMs === undefined ? undefined : Math.max(firstMs, sinceMs),
    lastMs: lastMs === undefined ? undefined : Math.min(lastMs, untilMs - 1),
  };
}

/** Its lines cannot be looked at here and there; its first one and its last write say where it stands. */
function planPacked(part: Part, search: TimeSpan, earlierMs: number | undefined): Planned | undefined {
  const { firstMs, modifiedMs, size } = part;
  const { sinceMs = -Infinity, untilMs = Infinity } = search;
  if (firstMs !== undefined && firstMs - DISORDER_MS >= untilMs) return undefined;
  const inside = (firstMs ?? -Infinity) - DISORDER_MS >= sinceMs && modifiedMs + DISORDER_MS < untilMs;
  return {
    part,
    from: 0,
    wantedFrom: 0,
    release: '',
    to: size,
    inside,
    earlierMs,
    unpack: !inside,
    remark: undefined,
    ...seen(firstMs, undefined, search),
  };
}

function touches(
  { first, last, ordered }: Stretch,
  { sinceMs = -Infinity, untilMs = Infinity }: TimeSpan,
  modifiedMs: number,
): boolean {
  if (!first || !last) return modifiedMs >= sinceMs;
  if (!ordered) return true;
  return last.ms + DISORDER_MS >= sinceMs && first.ms - DISORDER_MS < untilMs;
}

function remarkOn({ name }: Part, { first, ordered }: Stretch): string | undefined {
  if (!first) return `no line of ${name} carries a time that is understood: all of it was searched`;
  return ordered
    ? undefined
    : `the lines of ${name} are not in the order of their times: all of them were looked at, and chosen by their own`;
}
