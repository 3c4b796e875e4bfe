import { onAbort } from '../../kit/tasks.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import type { LogSearch, SearchReport } from '../../model/log-search.js';
import type { CommandRecord } from '../commands/command.js';
import { isSettled } from '../commands/command.js';
import { Handoff } from '../output/handoff.js';
import type { Output, Outputs } from '../output/outputs.js';
import type { OperationView } from './ledger.js';
import type { Operations } from './operations.js';
import type { OperationWish } from './records.js';

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

/** How much more of a target is wanted. */
export interface SearchRoom {
  /** Matching lines. */
  readonly lines: number;
  /** Lines that may stand around a matching one. */
  readonly around: number;
  /** Taken of this target before: matching lines, and lines around them. */
  readonly hitsBefore: number;
  readonly contextBefore: number;
}

export interface Clipped<B> {
  readonly batch: B;
  /** Matching lines in it. */
  readonly hits: number;
  /** Lines around them. */
  readonly context: number;
  /** Some matching lines were left out. */
  readonly clipped: boolean;
}

export interface SearchesOptions<B> {
  readonly operations: Operations;
  readonly outputs: Outputs<B>;
  /** What is taken of a batch, its front. @throws invalid for one that no honest agent sends: then nothing more is taken of its target */
  readonly clip: (batch: B, room: SearchRoom) => Clipped<B>;
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
    const search = new Search(this.#options, wish.search);
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
  readonly #search: LogSearch;
  /** Each target has at most one batch and its end in it. */
  readonly #handoff = new Handoff<SearchEvent<B>>();
  /** The newest of each target: one that is ordered again is taken from again. */
  readonly #takings = new Map<string, Taking<B>>();
  readonly #tellings = new Map<string, Promise<void>>();
  readonly #clipped = new Set<string>();
  readonly #unlisten: () => void;
  #operation = '';
  #hits = 0;
  #over = false;

  constructor(options: SearchesOptions<B>, search: LogSearch) {
    this.#options = options;
    this.#search = search;
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
    const found = this.#options.operations.ledger.targetsOf(this.#operation);
    const targets = found.map((target) => this.#witnessed(target));
    yield { kind: 'over', targets, hits: this.#hits, clipped: this.#clipped };
  }

  /** Nobody listens any more. Never rejects. */
  async leave(): Promise<void> {
    this.#unlisten();
    this.#handoff.abandon();
    for (const { output } of this.#takings.values()) output?.leave();
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
    if (target.outcome === 'DELIVERED') this.#expect(target);
    if (isSettled(target)) void this.#tellEnd(id);
  }

  /** Takes what a target sends; not twice at once, but anew when it is ordered again after its contact was lost. */
  #expect(target: CommandRecord): void {
    const before = this.#takings.get(target.id);
    if (before && before.failure === undefined && before.output?.failure === undefined) return;
    const taking: Taking<B> = { output: undefined, failure: undefined, end: 'open', hits: 0, context: 0, done: DONE };
    try {
      taking.output = this.#options.outputs.open(target.id, target.machine);
    } catch (error) {
      taking.failure = messageOf(error);
    }
    taking.done = this.#take(target, taking, before?.done ?? DONE);
    this.#takings.set(target.id, taking);
  }

  /** Until the target has no more or there is enough. Never rejects: how it went, the taking says. */
  async #take(target: CommandRecord, taking: Taking<B>, before: Promise<void>): Promise<void> {
    const { output } = taking;
    await before;
    if (!output) return;
    try {
      for await (const batch of output) {
        if (await this.#give(target, taking, batch)) continue;
        taking.end = 'enough';
        return;
      }
      if (!output.failure) taking.end = 'whole';
    } catch (error) {
      taking.failure = messageOf(error);
    } finally {
      output.leave();
    }
  }

  /** @returns whether more is wanted */
  async #give(target: CommandRecord, taking: Taking<B>, given: B): Promise<boolean> {
    const { linesMax, before, after } = this.#search;
    const { hits: hitsBefore, context: contextBefore } = taking;
    const room = { lines: linesMax - this.#hits, around: before + after, hitsBefore, contextBefore };
    const { batch, hits, context, clipped } = this.#options.clip(given, room);
    this.#hits += hits;
    taking.hits += hits;
    taking.context += context;
    if (clipped) this.#clipped.add(target.machine);
    if (hits > 0 || (context > 0 && !clipped)) await this.#handoff.put({ kind: 'hits', target, batch });
    if (this.#hits < linesMax) return true;
    const message = `${linesMax} matching lines were found, as many as asked for`;
    await this.#options.operations.satisfy(this.#operation, { cause: 'enough', message });
    return false;
  }

  /** Once for each target; the same promise to all who ask. */
  #tellEnd(id: string): Promise<void> {
    const telling = this.#tellings.get(id) ?? this.#tellEndNow(id);
    this.#tellings.set(id, telling);
    return telling;
  }

  async #tellEndNow(id: string): Promise<void> {
    const taking = this.#takings.get(id);
    // An agent ends a search after all its hits were taken: what has not ended by now will not. A batch in hand is still given.
    taking?.output?.end(lost());
    await taking?.done;
    const target = this.#options.operations.ledger.target(id);
    if (target) await this.#handoff.put({ kind: 'ended', target: this.#witnessed(target) });
  }

  async #finish(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    const targets = this.#options.operations.ledger.targetsOf(this.#operation);
    // One whose outcome is unknown may hang on to its call: nothing more is taken from it.
    for (const { id } of targets.filter((target) => !isSettled(target))) this.#takings.get(id)?.output?.leave();
    await Promise.all(targets.map(({ id }) => this.#tellEnd(id)));
    this.#handoff.close();
  }

  /** The target as this search saw it: what its agent found and what came here may be two things. */
  #witnessed(target: CommandRecord): CommandRecord {
    const loss = target.outcome === 'SUCCEEDED' ? this.#lossOf(target) : undefined;
    if (loss === undefined) return target;
    const search = target.result?.search ?? NOTHING_SEEN;
    const limits = [...new Set([...search.limits, 'PROBLEM' as const])];
    return {
      ...target,
      result: { ...target.result, search: { ...search, limits, problems: [...search.problems, loss] } },
    };
  }

  /** Why not all that a target found was given; undefined: it was, or only as much was as was asked for. */
  #lossOf({ id, machine, result }: CommandRecord): string | undefined {
    const taking = this.#takings.get(id);
    const found = result?.search?.hits;
    if (taking === undefined || found === undefined) return LOST;
    if (taking.end !== 'open' && taking.hits === found) return undefined;
    if (this.#hits >= this.#search.linesMax) {
      this.#clipped.add(machine);
      return undefined;
    }
    if (taking.end !== 'open') return `${found} matching lines were found and ${taking.hits} came: ${LOST}`;
    return lossText(taking.failure);
  }
}

function lossText(why = LOST): string {
  return why === LOST ? LOST : `${LOST} (${why})`;
}

/** What came of one order for a target. */
interface Taking<B> {
  /** Undefined: nobody could wait for it. */
  output: Output<B> | undefined;
  /** Why not all of it was taken. */
  failure: string | undefined;
  /** `whole`: the agent sent all it had; `enough`: nothing more was wanted; `open`: neither, so far. */
  end: 'open' | 'whole' | 'enough';
  hits: number;
  context: number;
  /** Resolves when nothing more is taken. */
  done: Promise<void>;
}

const DONE = Promise.resolve();
const LOST = 'matching lines may have been lost on the way: search again';

function lost(): MusterError {
  return new MusterError('unavailable', LOST, { reason: 'OUTPUT_LOST' });
}

/** Of an agent that did not say what it looked at. */
const NOTHING_SEEN: SearchReport = {
  files: 0,
  filesTotal: 0,
  bytes: 0,
  hits: 0,
  firstMs: undefined,
  lastMs: undefined,
  limits: [],
  problems: [],
  tookMs: 0,
};
