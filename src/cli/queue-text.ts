import { isUtf8 } from 'node:buffer';
import { InvalidArgumentError } from 'commander';
import type { Duration } from '../../generated/google/protobuf/duration.js';
import type { Message, Position } from '../../generated/muster/v1/queue.js';
import type { Start } from '../client/queue/subscription-settings.js';
import { formatDuration, parseDuration, parseSize } from '../kit/durations.js';
import { isCode, messageOf, MusterError } from '../kit/errors.js';
import { fromDuration, toDuration } from '../wire/time.js';

/** Words of the queue's commands: what is typed, and what is shown. */

/** A place in a topic as it was typed; times that count back from now are known only when the command runs. */
export type TypedPosition = (nowMs: number) => Position;

/** `earliest`, `latest`, a sequence, a time (ISO 8601), or how long ago (`10m`). */
export function positionArgument(text: string): TypedPosition {
  if (text === 'earliest') return () => ({ at: { $case: 'earliest', value: {} } });
  if (text === 'latest') return () => ({ at: { $case: 'latest', value: {} } });
  if (/^\d+$/.test(text)) return () => ({ at: { $case: 'sequence', value: Number(text) } });
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : NaN;
  if (!Number.isNaN(time)) return () => ({ at: { $case: 'time', value: new Date(time) } });
  const agoMs = agoOf(text);
  return (nowMs) => ({ at: { $case: 'time', value: new Date(nowMs - agoMs) } });
}

/** The place as the library has it. */
export function startOf({ at }: Position): Start {
  switch (at?.$case) {
    case 'earliest':
      return 'earliest';
    case 'sequence':
      return { sequence: at.value };
    case 'time':
      return { time: at.value };
    case 'latest':
    case undefined:
      return 'latest';
  }
}

function agoOf(text: string): number {
  try {
    return parseDuration(text);
  } catch {
    throw new InvalidArgumentError(
      'expected earliest, latest, a sequence, a time such as 2026-11-20T14:00:00Z, or how long ago, such as 10m',
    );
  }
}

export function sizeArgument(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

/** Comma-separated names; an empty text is none. */
export function namesArgument(text: string): string[] {
  return text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
}

export function optionalDuration(ms: number | undefined): Duration | undefined {
  return ms === undefined ? undefined : toDuration(ms);
}

/** `2m`, or what stands for "not at all". */
export function durationText(duration: Duration | undefined, none: string): string {
  const ms = fromDuration(duration);
  return ms === undefined || ms === 0 ? none : formatDuration(ms);
}

/** What was typed cannot be meant. */
export function usage(message: string): MusterError {
  return new MusterError('invalid', message, { reason: 'USAGE' });
}

/** What `read` finds, or undefined where there is no such thing. */
export async function ifThere<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (isCode(error, 'not_found')) return undefined;
    throw error;
  }
}

/** How to make what is to be removed helps nobody: says what lists them instead. */
export async function removing<T>(work: Promise<T>, list: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!isCode(error, 'not_found')) throw error;
    const message = error.message.replace(/ To make it: .*$/s, '');
    const listing = error.reason === 'UNKNOWN_TOPIC' ? 'muster topics' : list;
    throw new MusterError('not_found', `${message} "${listing}" lists those there are.`, {
      ...(error.reason === undefined ? {} : { reason: error.reason }),
      cause: error,
    });
  }
}

export function rateText(perSecond: number): string {
  return `${perSecond >= 100 ? String(Math.round(perSecond)) : perSecond.toFixed(1)}/s`;
}

/** The payload for people: text as it is, other bytes in base 64. */
export function payloadText(payload: Buffer): string {
  return isUtf8(payload) ? payload.toString('utf8') : `(${payload.length} bytes, base64) ${payload.toString('base64')}`;
}

/** What a message has besides its payload, for people: `key=k a=1`. */
export function extrasText({ attributes, key }: Pick<Message, 'attributes' | 'key'>): string {
  const pairs = Object.entries(attributes).map(([name, value]) => `${name}=${value}`);
  return [...(key === '' ? [] : [`key ${key}`]), ...pairs].join(', ');
}

/** The fields that are there. */
export function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
