import type { SearchLocalLogsRequest, SearchLocalLogsResponse } from '../../../generated/muster/v1/agent.js';
import type { Slots } from '../../kit/slots.js';
import type { CallContext } from '../../rpc/types.js';
import { fromWireSearch, toWireHit, toWireReport } from '../../wire/log-search.js';
import type { SearchLogs } from '../link/searches.js';
import type { LocalApi } from './api.js';
import type { FactsSource } from './facts.js';

export interface LocalSearchOptions {
  readonly api: LocalApi;
  readonly facts: FactsSource;
  readonly search: SearchLogs;
  /** Of the searches that run at once on this machine. */
  readonly searchSlots: Slots;
}

/** Hits as they are found, at last what was looked at. A caller who does not read holds the search back. */
export async function* searchLocalLogs(
  { api, facts, search, searchSlots }: LocalSearchOptions,
  request: SearchLocalLogsRequest,
  { principal, signal }: CallContext,
): AsyncGenerator<SearchLocalLogsResponse> {
  const { service } = api.get(principal, request.service);
  const prepared = await search(service, fromWireSearch(request.search));
  const { machineName } = facts.agent();
  const giveBack = await searchSlots.take();
  try {
    for await (const batch of prepared.hits(signal)) {
      yield { hits: batch.map((hit) => toWireHit(hit, service, machineName)), report: undefined };
    }
  } finally {
    giveBack();
  }
  yield { hits: [], report: toWireReport(prepared.report()) };
}
