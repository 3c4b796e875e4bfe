import type { Part } from './part.js';
import { DISORDER_MS, stretchOf, type Stretch, type TimeSpan } from './stretch.js';

/** What a look at a part has shown. Times are wall-clock milliseconds. */
export interface Look {
  readonly part: Part;
  /** No line of it can be in the asked time. */
  readonly outside: boolean;
  /** Every line of it is in the asked time: none has to be looked at again. */
  readonly inside: boolean;
  readonly from: number;
  readonly to: number;
  /** Its lines have to be looked at one by one, so it must be unpacked. */
  readonly unpack: boolean;
  /** Something to be known about it. */
  readonly remark: string | undefined;
  /** Of its first and its last line that carry a time, as far as that is known. */
  readonly firstMs: number | undefined;
  readonly lastMs: number | undefined;
}

/** What of a part is searched. */
export interface Planned extends Look {
  /** Where it would begin if there were room for all of it: `from` is behind that in a part that is cut short. */
  readonly wantedFrom: number;
  /** Of its lines that carry no time; empty where it cannot be known. */
  readonly release: string;
  /** What a line without a time belongs to at its beginning. */
  readonly earlierMs: number | undefined;
}

export function hasSpan({ sinceMs, untilMs }: TimeSpan): boolean {
  return sinceMs !== undefined || untilMs !== undefined;
}

/** @param nextMs of the first line of the part behind it, as far as that is known */
export async function lookAt(part: Part, span: TimeSpan, nextMs: number | undefined): Promise<Look> {
  if (!part.bytes) return lookAtPacked(part, span, nextMs);
  const stretch = await stretchOf(part.bytes, span, part.modifiedMs);
  const { first, last } = stretch;
  return {
    part,
    outside: isOutside(stretch, span, part.modifiedMs),
    inside: stretch.inside || !first,
    from: stretch.from,
    to: stretch.to,
    unpack: false,
    remark: hasSpan(span) ? remarkOn(part, stretch) : undefined,
    firstMs: first?.ms,
    lastMs: last?.ms,
  };
}

/** Its lines cannot be looked at here and there; its first one, and the first one of what follows it, say where it stands. */
function lookAtPacked(part: Part, span: TimeSpan, nextMs: number | undefined): Look {
  const { firstMs, modifiedMs, size } = part;
  const { sinceMs = -Infinity, untilMs = Infinity } = span;
  const lastMs = nextMs ?? modifiedMs;
  const outside = lastMs + DISORDER_MS < sinceMs || (firstMs !== undefined && firstMs - DISORDER_MS >= untilMs);
  const inside = (firstMs ?? -Infinity) - DISORDER_MS >= sinceMs && lastMs + DISORDER_MS < untilMs;
  const unpack = hasSpan(span) && !inside && !outside;
  return { part, outside, inside, from: 0, to: size, unpack, remark: undefined, firstMs, lastMs: undefined };
}

function isOutside({ first, last, ordered }: Stretch, span: TimeSpan, modifiedMs: number): boolean {
  const { sinceMs = -Infinity, untilMs = Infinity } = span;
  if (!first || !last) return modifiedMs < sinceMs;
  return ordered && (last.ms + DISORDER_MS < sinceMs || first.ms - DISORDER_MS >= untilMs);
}

function remarkOn({ name }: Part, { first, ordered }: Stretch): string | undefined {
  if (!first) return `no line of ${name} carries a time that is understood: all of it was searched`;
  return ordered
    ? undefined
    : `the lines of ${name} are not in the order of their times: all of them were looked at, and chosen by their own`;
}

/** Whether one version ran all the time between; empty where none or several did. */
export type ReleaseBetween = (fromMs: number, toMs: number) => string;

/** @param before the part before it in the log */
export function planOf(look: Look, before: Look | undefined, releaseBetween: ReleaseBetween): Planned {
  const { part, from, firstMs } = look;
  const begunMs = firstMs ?? before?.part.modifiedMs;
  return {
    ...look,
    wantedFrom: from,
    release: begunMs === undefined ? '' : releaseBetween(begunMs, part.modifiedMs),
    earlierMs: before?.lastMs ?? firstMs,
  };
}

/** The times of a part as far as they were asked for. */
export function seenTimes({ firstMs, lastMs }: Look, { sinceMs = -Infinity, untilMs = Infinity }: TimeSpan): number[] {
  return [
    ...(firstMs === undefined ? [] : [Math.max(firstMs, sinceMs)]),
    ...(lastMs === undefined ? [] : [Math.min(lastMs, untilMs - 1)]),
  ];
}
