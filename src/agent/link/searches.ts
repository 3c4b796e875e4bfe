import { CenterService, type UploadOutputRequest } from '../../../generated/muster/v1/center.js';
import { isCode, MusterError } from '../../kit/errors.js';
import { onAbort } from '../../kit/tasks.js';
import type { LogHit, LogSearch, SearchReport } from '../../model/log-search.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { toWireHit } from '../../wire/log-search.js';
import type { CommandSearches, SearchOrder } from '../commands/runner.js';

/** A search that is ready to run. */
export interface PreparedSearch {
  /** Waits for its reader between batches; ends early when the signal aborts. @throws invalid */
  hits(signal: AbortSignal): AsyncIterable<readonly LogHit[]>;
  /** What was looked at so far. */
  report(): SearchReport;
}

/** Looks up what there is to search. @throws not_found */
export type SearchLogs = (service: string, search: LogSearch) => Promise<PreparedSearch>;

export interface SearchesOptions {
  readonly search: SearchLogs;
  readonly channel: () => Channel | undefined;
  readonly machineName: () => string;
}

/**
 * Sends hits to the center as they are found, each search in a call of its own beside the session. A center that takes them slowly holds
 * the search back; one that takes no more ends it. Only an upload that was sent to its end and answered is complete: the report of any
 * other says that it was cancelled, however far the search itself had come.
 */
export class Searches implements CommandSearches {
  readonly #options: SearchesOptions;

  constructor(options: SearchesOptions) {
    this.#options = options;
  }

  async run(order: SearchOrder, signal: AbortSignal): Promise<SearchReport> {
    const prepared = await this.#options.search(order.service, order.search);
    const channel = this.#options.channel();
    if (!channel) throw new MusterError('unavailable', 'this machine has left its center while it was to search');
    const controller = new AbortController();
    const release = onAbort(signal, () => {
      controller.abort();
    });
    const source = new Source(order, prepared, this.#options.machineName());
    let answered = false;
    try {
      await createClient(CenterService, channel).uploadOutput(source.messages(controller.signal), { signal });
      answered = true;
    } catch (error) {
      // That nobody reads on (there was enough, or whoever asked has left) is no failure of this machine, but hits may be lost.
      if (!signal.aborted && !isCode(error, 'cancelled')) throw error;
    } finally {
      release();
      // The center may have ended the call while the next hit was being looked for.
      controller.abort();
      if (source.begun) await source.ended;
    }
    const report = prepared.report();
    return answered && source.sent ? report : cutShort(report);
  }
}

function cutShort(report: SearchReport): SearchReport {
  return report.limits.includes('CANCELLED') ? report : { ...report, limits: [...report.limits, 'CANCELLED'] };
}

/** The messages of one search; `ended` resolves when nothing of it runs any more. */
class Source {
  readonly ended: Promise<void>;
  begun = false;
  /** Its last message was taken to be sent. */
  sent = false;
  readonly #order: SearchOrder;
  readonly #prepared: PreparedSearch;
  readonly #machineName: string;
  #end: () => void = () => undefined;

  constructor(order: SearchOrder, prepared: PreparedSearch, machineName: string) {
    this.#order = order;
    this.#prepared = prepared;
    this.#machineName = machineName;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  async *messages(signal: AbortSignal): AsyncGenerator<UploadOutputRequest> {
    const { command, service } = this.#order;
    try {
      this.begun = true;
      yield { command, lines: [], hits: [], error: '' };
      for await (const batch of this.#prepared.hits(signal)) {
        const hits = batch.map((hit) => toWireHit(hit, service, this.#machineName));
        yield { command: '', lines: [], hits, error: '' };
      }
      this.sent = true;
    } finally {
      this.#end();
    }
  }
}
