import { matchesGlob } from '../kit/glob.js';

/**
 * Whether a path, by its components, is left out: a pattern without `/` is matched with the last name, so that it leaves out files and whole
 * directories of that name anywhere; one with `/` with the whole path below the root. `*` is any characters of one name, `**` any number of
 * directories. Linear in pattern times path.
 */
export class Excludes {
  readonly #names: readonly string[];
  readonly #paths: readonly (readonly string[])[];

  constructor(patterns: readonly string[]) {
    const clean = patterns.map((pattern) => pattern.replace(/^(\.?\/)+/, '').replace(/\/+$/, '')).filter(Boolean);
    this.#names = clean.filter((pattern) => !pattern.includes('/'));
    this.#paths = clean.filter((pattern) => pattern.includes('/')).map((pattern) => pattern.split('/'));
  }

  has(parts: readonly string[]): boolean {
    const name = parts.at(-1) ?? '';
    return (
      this.#names.some((pattern) => matchesGlob(pattern, name)) ||
      this.#paths.some((pattern) => matchesParts(pattern, parts))
    );
  }
}

/** `reached[n]`: the pattern so far is all of the first n components. */
function matchesParts(pattern: readonly string[], parts: readonly string[]): boolean {
  let reached = [true, ...parts.map(() => false)];
  for (const piece of pattern) {
    const next = reached.map(() => false);
    for (const [count, yes] of reached.entries()) {
      if (piece === '**') next[count] = yes || (count > 0 && next[count - 1] === true);
      else if (count > 0) next[count] = reached[count - 1] === true && matchesGlob(piece, parts[count - 1] ?? '');
    }
    reached = next;
  }
  return reached.at(-1) === true;
}
