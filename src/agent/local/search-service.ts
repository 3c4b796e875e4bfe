import type { SearchLocalLogsRequest, SearchLocalLogsResponse } from '../../../generated/muster/v1/agent.js';
import type { Clock } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';
import type { LogHit } from '../../model/log-search.js';
import type { CallContext } from '../../rpc/types.js';
import { fromWireSearch, toWireHit, toWireReport } from '../../wire/log-search.js';
import type { SearchLogs } from '../link/searches.js';
import type { LocalApi } from './api.js';
import type { FactsSource } from './facts.js';
import type { LocalSearchSlots } from './search-slots.js';

export interface LocalSearchOptions {
  readonly api: LocalApi;
  readonly facts: FactsSource;
  readonly search: SearchLogs;
  readonly localSearchSlots: LocalSearchSlots;
  readonly clock: Clock;
}

/** A search ends when its caller has taken nothing for so long: others wait for its place. */
export const READER_STALLED_MS = 30_000;

/**
 * Hits as they are found, at last what was looked at. A caller who does not read holds the search back, for READER_STALLED_MS at most.
 * @throws denied, invalid, not_found; deadline for a caller who stopped reading
 */
export async function* searchLocalLogs(
  { api, facts, search, localSearchSlots, clock }: LocalSearchOptions,
  request: SearchLocalLogsRequest,
  { principal, signal }: Pick<CallContext, 'principal' | 'signal'>,
): AsyncGenerator<SearchLocalLogsResponse> {
  const { service } = api.get(principal, request.service);
  const prepared = await search(service, fromWireSearch(request.search));
  const { machineName } = facts.agent();
  const held = new HeldSearch(prepared.hits(signal), await localSearchSlots.take(principal));
  try {
    for (let next = await held.next(); next.done !== true; next = await held.next()) {
      const hits = next.value.map((hit) => toWireHit(hit, service, machineName));
      // While the caller does not read, nothing after the yield runs: the timer alone can end the search.
      const timer = clock.after(READER_STALLED_MS, () => {
        held.stall();
      });
      try {
        yield { hits, report: undefined };
      } finally {
        timer.cancel();
      }
      if (held.stalled) throw stalledReader();
    }
  } finally {
    await held.end();
  }
  yield { hits: [], report: toWireReport(prepared.report()) };
}

/** A search that runs, and the place it has. */
class HeldSearch {
  readonly #hits: AsyncIterator<readonly LogHit[]>;
  readonly #giveBack: () => void;
  #ended: Promise<void> | undefined;
  stalled = false;

  constructor(hits: AsyncIterable<readonly LogHit[]>, giveBack: () => void) {
    this.#hits = hits[Symbol.asyncIterator]();
    this.#giveBack = giveBack;
  }

  next(): Promise<IteratorResult<readonly LogHit[]>> {
    return this.#hits.next();
  }

  stall(): void {
    this.stalled = true;
    // Whoever reads on, or leaves, hears of a failure through end().
    this.end().catch(() => undefined);
  }

  /** Ends what runs of it, and gives its place back; once. */
  end(): Promise<void> {
    this.#ended ??= this.#end();
    return this.#ended;
  }

  async #end(): Promise<void> {
    try {
      await this.#hits.return?.();
    } finally {
      this.#giveBack();
    }
  }
}

function stalledReader(): MusterError {
  const waited = formatDuration(READER_STALLED_MS);
  const message = `this search was ended, as nothing of it was read for ${waited} and others wait for its place: read its hits as they come, or ask for fewer lines`;
  return new MusterError('deadline', message, { reason: 'READER_STALLED' });
}
