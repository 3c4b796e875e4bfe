import { MusterError } from '../kit/errors.js';
import { matchesGlob } from '../kit/glob.js';
import { didYouMean } from '../kit/suggest.js';

/**
 * Which machines: `role=web,zone!=b,env in (prod,stage),machine=web-*`. Commas mean and.
 * A `*` in a value stands for any characters. The key `machine` is the machine's name or id.
 *
 *   selector = [ term *( "," term ) ]
 *   term     = key ( "=" | "==" | "!=" ) value
 *            | key [ "not" ] "in" "(" value *( "," value ) ")"
 *            | [ "!" ] key                                          the label is there, or is not
 */
export interface Term {
  readonly key: string;
  readonly negated: boolean;
  /** One of these, each may hold `*`; undefined: the label is there, whatever its value. */
  readonly values: readonly string[] | undefined;
}

export interface Selector {
  readonly terms: readonly Term[];
}

/** What a selector looks at. */
export interface Selectable {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The key that means the machine itself; no label may be called so. */
export const MACHINE_KEY = 'machine';
/** Matches every machine. */
export const EVERYTHING: Selector = { terms: [] };

const SELECTOR_CHARACTERS_MAX = 4096;
const KEY = /[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?/y;
const VALUE = /[A-Za-z0-9._/:@+*-]*/y;
const LABELS_MAX = 64;
const LABEL_KEY_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE_PATTERN = /^[A-Za-z0-9._/:@+-]{0,128}$/;

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get done(): boolean {
    return this.#at >= this.#text.length;
  }

  /** Takes `word` if it comes next, after white space. */
  take(word: string): boolean {
    this.#space();
    if (!this.#text.startsWith(word, this.#at)) return false;
    this.#at += word.length;
    return true;
  }

  /** Takes a word made of letters if it comes next as a whole word. */
  takeWord(word: string): boolean {
    this.#space();
    const found = this.#match(/[A-Za-z]+/y);
    if (found !== word) return false;
    this.#at += word.length;
    return true;
  }

  read(pattern: RegExp, expected: string): string {
    this.#space();
    const found = this.#match(pattern);
    if (found === undefined) throw this.error(expected);
    this.#at += found.length;
    this.#space();
    return found;
  }

  error(expected: string): MusterError {
    this.#space();
    const found = this.done ? 'its end' : `"${this.#text.slice(this.#at, this.#at + 12)}"`;
    return new MusterError(
      'invalid',
      `selector "${this.#text}", column ${this.#at + 1}: expected ${expected}, found ${found}. Write it like role=web,zone!=b,env in (prod,stage),machine=web-*`,
      {
        reason: 'SELECTOR',
        fields: [{ field: 'selector', description: `column ${this.#at + 1}: expected ${expected}` }],
      },
    );
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text)?.[0];
  }

  #space(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at += 1;
  }
}

function readValue(reader: Reader): string {
  return reader.read(VALUE, 'a value');
}

function readList(reader: Reader): string[] {
  if (!reader.take('(')) throw reader.error('"(" after in');
  const values = [readValue(reader)];
  while (reader.take(',')) values.push(readValue(reader));
  if (!reader.take(')')) throw reader.error('"," or ")"');
  return values;
}

function readTerm(reader: Reader): Term {
  if (reader.take('!')) return { key: reader.read(KEY, 'a label'), negated: true, values: undefined };
  const key = reader.read(KEY, 'a label');
  if (reader.take('!=')) return { key, negated: true, values: [readValue(reader)] };
  if (reader.take('==') || reader.take('=')) return { key, negated: false, values: [readValue(reader)] };
  if (reader.takeWord('in')) return { key, negated: false, values: readList(reader) };
  if (reader.takeWord('notin')) return { key, negated: true, values: readList(reader) };
  if (reader.takeWord('not')) {
    if (!reader.takeWord('in')) throw reader.error('"in" after not');
    return { key, negated: true, values: readList(reader) };
  }
  return { key, negated: false, values: undefined };
}

/**
 * Reads a selector. Empty text selects everything.
 * @throws invalid with the column and what was expected there
 */
export function parseSelector(text: string): Selector {
  if (text.trim() === '') return EVERYTHING;
  if (text.length > SELECTOR_CHARACTERS_MAX) {
    throw new MusterError(
      'invalid',
      `a selector may have at most ${SELECTOR_CHARACTERS_MAX} characters, this one has ${text.length}`,
    );
  }
  const reader = new Reader(text);
  const terms = [readTerm(reader)];
  while (reader.take(',')) terms.push(readTerm(reader));
  reader.take('');
  if (!reader.done) throw reader.error('"," or the end');
  return { terms };
}

function formatTerm(term: Term): string {
  const { key, negated, values } = term;
  if (!values) return negated ? `!${key}` : key;
  if (values.length === 1) return `${key}${negated ? '!=' : '='}${values.join()}`;
  return `${key} ${negated ? 'not in' : 'in'} (${values.join(',')})`;
}

/** The text of a selector; parseSelector reads it back. */
export function formatSelector(selector: Selector): string {
  return selector.terms.map(formatTerm).join(',');
}

function holds(term: Term, machine: Selectable): boolean {
  const actual = term.key === MACHINE_KEY ? [machine.name, machine.id] : labelValues(machine, term.key);
  const wanted = term.values;
  const matched = wanted
    ? actual.some((value) => wanted.some((pattern) => matchesGlob(pattern, value)))
    : actual.length > 0;
  return matched !== term.negated;
}

function labelValues(machine: Selectable, key: string): string[] {
  const value = Object.hasOwn(machine.labels, key) ? machine.labels[key] : undefined;
  return value === undefined ? [] : [value];
}

/** Whether every term holds. A term with `!=` or `not in` holds too where the label is not there. */
export function matches(selector: Selector, machine: Selectable): boolean {
  return selector.terms.every((term) => holds(term, machine));
}

/** What of a machine made each term hold: `role=web, zone=a, no canary`. Empty for a selector without terms. */
export function explain(selector: Selector, machine: Selectable): string {
  return selector.terms.map((term) => explainTerm(term, machine)).join(', ');
}

function explainTerm({ key }: Term, machine: Selectable): string {
  if (key === MACHINE_KEY) return `machine=${machine.name}`;
  const [value] = labelValues(machine, key);
  return value === undefined ? `no ${key}` : `${key}=${value}`;
}

const LISTED = ' See "muster machines" for what there is.';

/**
 * For a selector that a person typed to look at what is there: a label or machine that nothing has is said, with the nearest one.
 * @throws not_found
 */
export function requireKnown(selector: Selector, machines: readonly Selectable[]): void {
  if (machines.length === 0) return;
  const keys = new Set(machines.flatMap(({ labels }) => Object.keys(labels)));
  for (const { key, values } of selector.terms) {
    if (key !== MACHINE_KEY && !keys.has(key)) {
      const named = values === undefined && machines.some(({ name }) => name === key);
      const hint = named ? ` Did you mean ${MACHINE_KEY}=${key}?` : didYouMean(key, [...keys, MACHINE_KEY]);
      throw new MusterError('not_found', `no machine has the label "${key}".${hint || LISTED}`, {
        reason: 'LABEL_UNKNOWN',
      });
    }
    if (key === MACHINE_KEY) requireMachines(values ?? [], machines);
  }
}

function requireMachines(values: readonly string[], machines: readonly Selectable[]): void {
  for (const value of values) {
    if (value.includes('*') || machines.some(({ id, name }) => id === value || name === value)) continue;
    const hint = didYouMean(
      value,
      machines.map(({ name }) => name),
    );
    throw new MusterError('not_found', `there is no machine "${value}".${hint || LISTED}`, {
      reason: 'MACHINE_UNKNOWN',
    });
  }
}

/**
 * Labels as a selector can name them.
 * @throws invalid naming each label that cannot be used
 */
export function assertLabels(labels: Readonly<Record<string, string>>): void {
  const fields = Object.entries(labels).flatMap(([key, value]) => labelMistakes(key, value));
  if (Object.keys(labels).length > LABELS_MAX) {
    fields.push({ field: 'labels', description: `at most ${LABELS_MAX} labels` });
  }
  if (fields.length > 0) {
    const first = fields.map(({ field, description }) => `${field}: ${description}`).join('; ');
    throw new MusterError('invalid', `these labels cannot be used: ${first}`, { reason: 'LABELS', fields });
  }
}

function labelMistakes(key: string, value: string): { field: string; description: string }[] {
  const field = `labels.${key}`;
  if (key === MACHINE_KEY || key === '__proto__') return [{ field, description: `"${key}" is reserved` }];
  if (!LABEL_KEY_PATTERN.test(key)) {
    return [
      {
        field,
        description:
          'a label is 1 to 63 letters, digits, ".", "_", "/" or "-", beginning and ending with a letter or digit',
      },
    ];
  }
  if (!LABEL_VALUE_PATTERN.test(value)) {
    return [{ field, description: 'a value is at most 128 letters, digits, ".", "_", "/", ":", "@", "+" or "-"' }];
  }
  return [];
}
