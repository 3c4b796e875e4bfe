/** A series is one counter with one set of labels. What may be one, for the library, the agent and the center alike. */

export type CounterKind = 'counter' | 'gauge';

export interface SeriesDefinition {
  readonly name: string;
  readonly kind: CounterKind;
  readonly help: string;
  readonly unit: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface Point {
  readonly definition: SeriesDefinition;
  /** Counters: sum since the process began. Gauges: the value. */
  readonly value: number;
  /** Wall-clock milliseconds since the Unix epoch. */
  readonly timeMs: number;
}

/** What a program that counts says in one go. */
export interface Batch {
  readonly uid: string;
  readonly service: string;
  readonly startedMs: number;
  /** Some of its points have been acknowledged before. */
  readonly resumed: boolean;
  readonly final: boolean;
  readonly points: readonly Point[];
}

export type RefusalReason =
  | 'INVALID_NAME'
  | 'INVALID_LABELS'
  | 'INVALID_VALUE'
  | 'DECREASING'
  | 'KIND_MISMATCH'
  | 'UNDEFINED'
  | 'TOO_MANY_SERIES';

export interface Refusal {
  readonly reason: RefusalReason;
  readonly message: string;
}

/** A refusal of one point of a batch. */
export interface PointRefusal extends Refusal {
  /** Place of the point in its batch. */
  readonly index: number;
}

/** Series of one service on one machine, all its processes together. */
export const SERIES_PER_SERVICE_MAX = 2_000;
/** Points in one batch. */
export const BATCH_POINTS_MAX = 500;
/** Characters of a definition's help and unit that are kept. */
export const HELP_MAX = 512;
export const UNIT_MAX = 32;
export const LABELS_MAX = 16;
export const LABEL_VALUE_MAX = 256;

const NAME_PATTERN = /^[A-Za-z_][A-Za-z0-9_.:-]{0,127}$/;
/** Names with two underscores in front are ours. */
const LABEL_NAME_PATTERN = /^(?!__)[A-Za-z_][A-Za-z0-9_.-]{0,63}$/;

/** The same text for the same name and labels, whatever the order of the labels. */
export function seriesKey({ name, labels }: Pick<SeriesDefinition, 'name' | 'labels'>): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([name, ...pairs.flat()]);
}

/** Why a name cannot be a counter's, or undefined. */
export function wrongName(name: string): Refusal | undefined {
  if (NAME_PATTERN.test(name)) return undefined;
  return {
    reason: 'INVALID_NAME',
    message: `"${name.slice(0, 128)}" cannot be a counter's name: use at most 128 letters, digits and _ . : -, beginning with a letter`,
  };
}

/** Why a name cannot be a label's, or undefined. */
export function wrongLabelName(name: string): Refusal | undefined {
  if (LABEL_NAME_PATTERN.test(name)) return undefined;
  return {
    reason: 'INVALID_LABELS',
    message: `"${name.slice(0, 64)}" cannot be a label's name: use at most 64 letters, digits and _ . -, beginning with a letter`,
  };
}

/** Why a definition cannot be taken, or undefined. */
export function wrongDefinition({ name, labels }: SeriesDefinition): Refusal | undefined {
  const names = Object.keys(labels);
  if (names.length > LABELS_MAX) {
    return { reason: 'INVALID_LABELS', message: `"${name}" has ${names.length} labels, the limit is ${LABELS_MAX}` };
  }
  const long = names.find((label) => (labels[label] ?? '').length > LABEL_VALUE_MAX);
  if (long !== undefined) {
    return {
      reason: 'INVALID_LABELS',
      message: `label "${long}" of "${name}" is longer than ${LABEL_VALUE_MAX} characters: shorten it`,
    };
  }
  return wrongName(name) ?? names.map(wrongLabelName).find((wrong) => wrong !== undefined);
}

/** Why a value cannot be taken, or undefined. */
export function wrongValue({ definition, value }: Point): Refusal | undefined {
  if (!Number.isFinite(value)) {
    return {
      reason: 'INVALID_VALUE',
      message: `the value of "${definition.name}" is ${value}: it must be a finite number`,
    };
  }
  if (definition.kind === 'counter' && value < 0) {
    return {
      reason: 'INVALID_VALUE',
      message: `counter "${definition.name}" is ${value}: a counter only grows, use a gauge`,
    };
  }
  return undefined;
}

/** Why a counter cannot go on from `seen` to this point, which makes its total `total`; a gauge always can. */
export function wrongStep({ definition, value }: Point, seen: number, total: number): Refusal | undefined {
  const { kind, name } = definition;
  if (kind !== 'counter') return undefined;
  if (value < seen) return decreasing(name, seen, value);
  if (Number.isFinite(total)) return undefined;
  return { reason: 'INVALID_VALUE', message: `"${name}" would become larger than any number: count in a larger unit` };
}

function decreasing(name: string, from: number, to: number): Refusal {
  return {
    reason: 'DECREASING',
    message: `counter "${name}" fell from ${from} to ${to}: a counter only grows, use a gauge`,
  };
}
