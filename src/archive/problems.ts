/** What is to be known of a backup, for people: so much of it and no more. */
export const TREE_PROBLEMS_MAX = 20;

export class Problems {
  readonly #first: string[] = [];
  #more = 0;

  get any(): boolean {
    return this.#first.length > 0;
  }

  add(problem: string): void {
    if (this.#first.length < TREE_PROBLEMS_MAX - 1) this.#first.push(problem);
    else this.#more += 1;
  }

  /** At most TREE_PROBLEMS_MAX: the last says how many more there are. */
  list(): readonly string[] {
    return this.#more === 0 ? this.#first : [...this.#first, `${this.#more} more such problems`];
  }
}
