import {
  Strategy,
  type CenterService,
  type Command,
  type SearchCoverage,
  type SearchLogsRequest,
  type SearchLogsResponse,
} from '../../../generated/muster/v1/center.js';
import type { LogHit } from '../../../generated/muster/v1/types.js';
import { sleep } from '../../kit/clock.js';
import { isCode, MusterError } from '../../kit/errors.js';
import { SEARCH_LINES_DEFAULT } from '../../model/log-search.js';
import type { Client } from '../../rpc/types.js';
import { fromDuration, toDuration } from '../../wire/time.js';
import type { Io } from '../io.js';
import { allPages } from '../paging.js';
import { coverageOf, type Seen } from './coverage.js';
import { PrintedHits } from './hits.js';

/** How long a center that went away is waited for. */
const PATIENCE_MS = 60_000;
const AGAIN_MS = 500;
/** When the center comes back its agents do, a little later: a search that goes on waits for them. */
const AGENTS_RETURN_MS = 30_000;
/** Characters of names in one selector, well below what a selector may have. */
const NAMES_CHARACTERS_MAX = 3000;

type Center = Pick<Client<typeof CenterService>, 'searchLogs' | 'listTargets' | 'listMachines'>;

/** Told of what is found, one after the other. A listener that takes its time holds the search back. */
export interface SearchListener {
  /** So many machines are searched. */
  readonly began: (machines: number) => void;
  /** `skipped`: a line before it, that had been told of already, was left out. */
  readonly hit: (hit: LogHit, skipped: boolean) => Promise<void>;
  readonly away: () => Promise<void>;
  readonly again: (machines: number) => Promise<void>;
}

export interface Searched {
  readonly seen: Seen;
  /** Each machine's own end, as far as it was told. */
  readonly ended: readonly Command[];
  /** Matching lines that were told of. */
  readonly hits: number;
  readonly end: 'ended' | 'cancelled' | 'lost';
  /** By name, when machines that were not searched were last heard of, where they are not connected. */
  readonly silentSince: ReadonlyMap<string, Date>;
}

/**
 * One search of a user, over ends of the center: what of it was cut off is searched again on the machines whose end was not seen, and
 * what was told of is not told of again.
 */
export class SearchFollower {
  readonly #io: Io;
  readonly #center: Center;
  readonly #request: SearchLogsRequest;
  readonly #linesMax: number;
  readonly #listener: SearchListener;
  readonly #printed = new PrintedHits();
  readonly #ended = new Map<string, Command>();
  /** Matching lines told of, by machine. */
  readonly #hits = new Map<string, number>();
  /** Machines of which the last line was left out. */
  readonly #skipping = new Set<string>();
  #machines = 0;
  /** Names of the machines still to be searched; undefined until a first search was cut off. */
  #rest: string[] | undefined;
  #operation: string | undefined;
  /** The center's own word, where one search saw it all. */
  #coverage: SearchCoverage | undefined;
  /** Until when (monotonic) a center that is away is waited for; undefined while it is there. */
  #patientUntilMs: number | undefined;

  constructor(io: Io, center: Center, request: SearchLogsRequest, listener: SearchListener) {
    this.#io = io;
    this.#center = center;
    this.#request = request;
    this.#linesMax = request.search?.maxLines || SEARCH_LINES_DEFAULT;
    this.#listener = listener;
  }

  /** How far it is, for people. */
  get progress(): string {
    const away = this.#patientUntilMs === undefined ? '' : '; the center cannot be reached';
    return `searching: ${this.#ended.size} of ${this.#machines} machines done, ${this.#found} found${away}`;
  }

  /** @throws what the center refuses */
  async run(): Promise<Searched> {
    for (;;) {
      try {
        if (this.#patientUntilMs !== undefined) await this.#findRest();
        await this.#searchRest();
        return { ...this.#result('ended'), silentSince: await this.#silentSince() };
      } catch (error) {
        if (this.#io.signal.aborted) return this.#result('cancelled');
        if (!isCode(error, 'unavailable', 'cancelled', 'deadline')) throw error;
      }
      const nowMs = this.#io.clock.monotonic();
      if (this.#patientUntilMs === undefined) await this.#listener.away();
      this.#patientUntilMs ??= nowMs + PATIENCE_MS;
      if (nowMs > this.#patientUntilMs) return this.#result('lost');
      await sleep(this.#io.clock, AGAIN_MS, this.#io.signal).catch(() => undefined);
    }
  }

  /** After a search was cut off: what of it is still to be searched. Where it had not begun, that is all of it. */
  async #findRest(): Promise<void> {
    let names = this.#rest;
    const operation = this.#operation;
    if (names === undefined && operation !== undefined) {
      const targets = await allPages(
        (page) => this.#center.listTargets({ ...page, operation, outcomes: [] }),
        (page) => page.targets,
      );
      names = targets.map(({ machineName }) => machineName);
    }
    this.#rest = names?.filter((name) => !this.#ended.has(name));
  }

  async #searchRest(): Promise<void> {
    if (this.#rest === undefined) {
      await this.#search(this.#request);
      return;
    }
    while (this.#rest.length > 0) {
      const names = firstNames(this.#rest);
      const left = this.#linesMax - this.#hitsOfEnded();
      if (left <= 0) return;
      await this.#listener.again(names.length);
      await this.#searchOn(names, left);
      this.#rest = this.#rest.slice(names.length);
    }
  }

  async #searchOn(names: readonly string[], maxLines: number): Promise<void> {
    const { selector, search, strategy } = this.#request;
    const queueFor = toDuration(Math.max(AGENTS_RETURN_MS, fromDuration(strategy?.queueFor) ?? 0));
    const only = `machine in (${names.join(',')})`;
    try {
      await this.#search({
        ...this.#request,
        selector: selector === '' ? only : `${selector},${only}`,
        search: search && { ...search, maxLines },
        strategy: { ...(strategy ?? Strategy.fromPartial({})), queueFor },
      });
    } catch (error) {
      // They have been removed meanwhile: they stay among those that had not answered.
      if (!isCode(error, 'not_found')) throw error;
    }
  }

  /** @throws unavailable when it was cut off */
  async #search(request: SearchLogsRequest): Promise<void> {
    let coverage: SearchCoverage | undefined;
    this.#printed.nextRound();
    for await (const message of this.#center.searchLogs(request, { signal: this.#io.signal })) {
      this.#patientUntilMs = undefined;
      await this.#take(message);
      coverage = message.coverage ?? coverage;
    }
    // A center that ends in good order ends its streams.
    if (coverage === undefined) throw new MusterError('unavailable', 'the center ended the search');
    if (this.#rest === undefined) this.#coverage = coverage;
  }

  async #take({ operation, hits, ended }: SearchLogsResponse): Promise<void> {
    if (operation !== undefined && this.#rest === undefined) {
      this.#operation = operation.id;
      this.#machines = operation.counts?.total ?? 0;
      this.#listener.began(this.#machines);
    }
    for (const hit of hits) await this.#takeHit(hit);
    for (const target of ended) {
      this.#ended.set(target.machineName, target);
      this.#printed.forget(target.machineName);
    }
  }

  async #takeHit(hit: LogHit): Promise<void> {
    const { machineName, context } = hit;
    if (this.#printed.take(hit)) {
      this.#skipping.add(machineName);
      return;
    }
    if (!context) this.#hits.set(machineName, (this.#hits.get(machineName) ?? 0) + 1);
    await this.#listener.hit(hit, this.#skipping.delete(machineName));
  }

  /** Only to say more: without an answer there is less to say. */
  async #silentSince(): Promise<ReadonlyMap<string, Date>> {
    const names = firstNames(
      this.#result('ended').seen.coverage.gaps.flatMap(({ machineName, outcome }) =>
        outcome === 'OUTCOME_SUCCEEDED' ? [] : [machineName],
      ),
    );
    if (names.length === 0) return new Map();
    const request = { selector: `machine in (${names.join(',')})`, pageSize: names.length, pageToken: '' };
    const { machines } = await this.#center.listMachines(request).catch(() => ({ machines: [] }));
    return new Map(
      machines.flatMap(({ name, online, lastContact }) => (online || !lastContact ? [] : [[name, lastContact]])),
    );
  }

  get #found(): number {
    let sum = 0;
    for (const hits of this.#hits.values()) sum += hits;
    return sum;
  }

  #hitsOfEnded(): number {
    let sum = 0;
    for (const name of this.#ended.keys()) sum += this.#hits.get(name) ?? 0;
    return sum;
  }

  #result(end: Searched['end']): Searched {
    const ended = [...this.#ended.values()];
    const seen = this.#coverage ? { coverage: this.#coverage, unanswered: 0 } : coverageOf(ended, this.#machines);
    return { seen, ended, hits: this.#found, end, silentSince: new Map() };
  }
}

/** As many of the names, from the first, as one selector holds; at least one. */
function firstNames(names: readonly string[]): string[] {
  let characters = 0;
  const end = names.findIndex((name) => (characters += name.length + 1) > NAMES_CHARACTERS_MAX);
  return names.slice(0, end < 0 ? names.length : Math.max(1, end));
}
