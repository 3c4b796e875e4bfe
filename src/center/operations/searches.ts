import { onAbort } from '../../kit/tasks.js';
import type { LogSearch } from '../../model/log-search.js';
import type { CommandRecord } from '../commands/command.js';
import { isSettled } from '../commands/command.js';
import { Handoff } from '../output/handoff.js';
import type { Output, Outputs } from '../output/outputs.js';
import type { OperationView } from './ledger.js';
import type { Operations, OperationWish } from './operations.js';

/** What whoever asked for a search hears, in order; `over` is the last. */
export type SearchEvent<B> =
  | { readonly kind: 'begun'; readonly operation: OperationView }
  | { readonly kind: 'hits'; readonly target: CommandRecord; readonly batch: B }
  /** Nothing more comes from this target. */
  | { readonly kind: 'ended'; readonly target: CommandRecord }
  | {
      readonly kind: 'over';
      readonly targets: readonly CommandRecord[];
      /** Matching lines that were given. */
      readonly hits: number;
      /** Ids of machines of which some matching lines were left out, since there were enough. */
      readonly clipped: ReadonlySet<string>;
    };

export interface SearchesOptions<B> {
  readonly operations: Operations;
  readonly outputs: Outputs<B>;
  /** The front of a batch with at most `room` matching lines; how many it has; whether something was left out. */
  readonly clip: (batch: B, room: number) => { readonly batch: B; readonly hits: number; readonly clipped: boolean };
}

/** Searches in logs: operations whose targets send what they find to whoever asked, and only while that one listens. */
export class Searches<B> {
  readonly #options: SearchesOptions<B>;

  constructor(options: SearchesOptions<B>) {
    this.#options = options;
  }

  /**
   * Starts the search and gives what comes of it. Whoever stops iterating, or aborts, ends it.
   * @throws as Operations.start
   */
  async *run(
    wish: OperationWish & { readonly search: LogSearch },
    signal: AbortSignal,
  ): AsyncGenerator<SearchEvent<B>> {
    const search = new Search(this.#options, wish.search.linesMax);
    const offAbort = onAbort(signal, () => void search.leave());
    try {
      yield { kind: 'begun', operation: await search.begin(wish) };
      yield* search.events();
    } finally {
      offAbort();
      await search.leave();
    }
  }
}

/** One search under way. */
class Search<B> {
  readonly #options: SearchesOptions<B>;
  readonly #linesMax: number;
  /** Each target has at most one batch and its end in it. */
  readonly #handoff = new Handoff<SearchEvent<B>>();
  /** By target. */
  readonly #outputs = new Map<string, Output<B>>();
  readonly #pumps = new Map<string, Promise<void>>();
  readonly #told = new Set<string>();
  readonly #clipped = new Set<string>();
  readonly #unlisten: () => void;
  #operation = '';
  #hits = 0;
  #over = false;

  constructor(options: SearchesOptions<B>, linesMax: number) {
    this.#options = options;
    this.#linesMax = linesMax;
    this.#unlisten = options.operations.ledger.changes.listen((id) => {
      this.#changed(id);
    });
  }

  begin(wish: OperationWish): Promise<OperationView> {
    return this.#options.operations.start(wish, (id) => {
      this.#operation = id;
    });
  }

  async *events(): AsyncGenerator<SearchEvent<B>> {
    // It may have ended while it was begun.
    this.#changed(this.#operation);
    yield* this.#handoff;
    const targets = this.#options.operations.ledger.targetsOf(this.#operation);
    yield { kind: 'over', targets, hits: this.#hits, clipped: this.#clipped };
  }

  /** Nobody listens any more. */
  async leave(): Promise<void> {
    this.#unlisten();
    this.#handoff.abandon();
    for (const output of this.#outputs.values()) output.leave();
    const { operations } = this.#options;
    if (this.#operation !== '') {
      await operations.satisfy(this.#operation, { cause: 'reader', message: 'whoever asked for it has left' });
    }
  }

  #changed(id: string): void {
    const { ledger } = this.#options.operations;
    if (id === this.#operation) {
      if (ledger.get(id)?.endedMs !== undefined) void this.#finish();
      return;
    }
    const target = ledger.target(id);
    if (target?.turn?.operation !== this.#operation) return;
    // Before the order is sent: what is on disk as delivered is sent only after this.
    if (target.outcome === 'DELIVERED' && !this.#pumps.has(id)) this.#open(target);
    if (isSettled(target)) void this.#tellEnd(id);
  }

  #open(target: CommandRecord): void {
    this.#pumps.set(target.id, this.#pump(target));
  }

  /** Takes what a target sends, until it has no more or there is enough. Never rejects: how the target fared, its outcome says. */
  async #pump(target: CommandRecord): Promise<void> {
    let output: Output<B> | undefined;
    try {
      output = this.#options.outputs.open(target.id, target.machine);
      this.#outputs.set(target.id, output);
      for await (const batch of output) if (!(await this.#give(target, batch))) break;
    } catch {
      // The agent is told that nobody waits, or said itself what went wrong.
    } finally {
      output?.leave();
      this.#outputs.delete(target.id);
    }
  }

  /** @returns whether more is wanted */
  async #give(target: CommandRecord, given: B): Promise<boolean> {
    const { batch, hits, clipped } = this.#options.clip(given, this.#linesMax - this.#hits);
    this.#hits += hits;
    if (clipped) this.#clipped.add(target.machine);
    if (hits > 0 || !clipped) await this.#handoff.put({ kind: 'hits', target, batch });
    if (this.#hits < this.#linesMax) return true;
    const message = `${this.#linesMax} matching lines were found, as many as asked for`;
    await this.#options.operations.satisfy(this.#operation, { cause: 'enough', message });
    return false;
  }

  async #tellEnd(id: string): Promise<void> {
    if (this.#told.has(id)) return;
    this.#told.add(id);
    // Its agent ends a search after all its hits were taken; one that was never begun has none.
    const output = this.#outputs.get(id);
    if (output?.answered === false) output.leave();
    await this.#pumps.get(id);
    const target = this.#options.operations.ledger.target(id);
    if (target) await this.#handoff.put({ kind: 'ended', target });
  }

  async #finish(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    const { ledger } = this.#options.operations;
    const targets = ledger.targetsOf(this.#operation);
    // One whose outcome is unknown may hang on to its call: nothing more is taken from it.
    for (const { id } of targets.filter((target) => !isSettled(target))) this.#outputs.get(id)?.leave();
    await Promise.all(targets.map(({ id }) => this.#tellEnd(id)));
    this.#handoff.close();
  }
}
