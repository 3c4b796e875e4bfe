import { MusterError } from '../kit/errors.js';
import { shown } from './names.js';

/** Which paths of a tree are meant: all below a path that was named, and the directories on the way to it. */
export class Selection {
  #all = false;
  readonly #children = new Map<string, Selection>();

  /** @throws invalid for a path that leads outside */
  static of(paths: readonly string[]): Selection {
    const root = new Selection();
    for (const path of paths) {
      let at = root;
      for (const part of partsOf(path)) at = at.#add(part);
      at.#all = true;
    }
    return root;
  }

  static everything(): Selection {
    return Selection.of(['.']);
  }

  /** This one was named, or is below one that was. */
  get all(): boolean {
    return this.#all;
  }

  /** What of a directory on the way is meant, in the order of trees. */
  get names(): readonly string[] {
    return [...this.#children.keys()].sort(inTreeOrder);
  }

  /** Undefined: nothing of it. */
  child(name: string): Selection | undefined {
    return this.#all ? this : this.#children.get(name);
  }

  /** Undefined: nothing of this path. */
  at(parts: readonly string[]): Selection | undefined {
    return parts.reduce<Selection | undefined>((at, part) => at?.child(part), this);
  }

  #add(part: string): Selection {
    const child = this.#children.get(part) ?? new Selection();
    this.#children.set(part, child);
    return child;
  }
}

/** Of the names in one directory. */
export function inTreeOrder(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** @throws invalid for a path that leads outside */
export function partsOf(path: string): readonly string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (path === '' || path.startsWith('/') || path.includes('\0') || parts.includes('..')) {
    throw new MusterError(
      'invalid',
      `${shown(path)} is not a path below the root: name it without a leading "/" and without ".."`,
    );
  }
  return parts;
}
