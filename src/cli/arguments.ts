import { InvalidArgumentError } from 'commander';
import { messageOf } from '../kit/errors.js';
import { parseDuration, parseSize } from '../kit/durations.js';
import { parseSelector } from '../model/selector.js';

/** Readers of option values: a mistake becomes wrong usage (exit status 2) with what was expected. */

export function durationArgument(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

/** Bytes. */
export function sizeArgument(text: string): number {
  try {
    return parseSize(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
}

export function countArgument(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count)) {
    throw new InvalidArgumentError('expected a whole number, for example 100');
  }
  return count;
}

/** A count of which 0 would be nothing to do. */
export function someArgument(text: string): number {
  const count = countArgument(text);
  if (count === 0) throw new InvalidArgumentError('expected 1 or more');
  return count;
}

export function portArgument(text: string): number {
  const port = countArgument(text);
  if (port > 65_535) throw new InvalidArgumentError('expected a port from 0 to 65535');
  return port;
}

/** Collects repeated `--label key=value`. */
export function labelArgument(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('expected key=value, for example role=web');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** Which machines. An empty one, as of an unset variable, is refused: it would mean all of them. */
export function selectorArgument(text: string): string {
  if (text.trim() === '') {
    throw new InvalidArgumentError('it is empty: leave the option out to mean every machine');
  }
  try {
    parseSelector(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
  return text;
}
