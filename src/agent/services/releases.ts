import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { InstanceReport } from '../../model/instance.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { ServiceControl, ServicesChange } from '../ports.js';

/** A version of a service, and since when it ran: wall-clock milliseconds. */
export interface ReleaseSpan {
  readonly version: string;
  readonly sinceMs: number;
}

interface Stored {
  /** Rising; what ran before the first one is not known. */
  readonly spans: readonly ReleaseSpan[];
}

/** Changes of version remembered for each service; beyond it the oldest are forgotten. */
export const RELEASES_KEPT = 100;

/** Which version of each service ran when, kept on disk: what a line of an old log is told by. */
export class Releases {
  readonly #documents: Documents<Stored>;
  readonly #logger: Logger;
  readonly #spans = new Map<string, readonly ReleaseSpan[]>();
  readonly #writing = new KeyedMutex();

  private constructor(store: Store, logger: Logger) {
    this.#documents = new Documents<Stored>(store, 'release/');
    this.#logger = logger;
  }

  /** @throws as Documents.all */
  static async open(store: Store, logger: Logger): Promise<Releases> {
    const releases = new Releases(store, logger);
    for (const { id, value } of await releases.#documents.all()) releases.#spans.set(id, value.spans);
    return releases;
  }

  /** Hears from now on what starts. Returns how to stop. */
  follow(control: Pick<ServiceControl, 'onChange'>): () => void {
    return control.onChange((change) => {
      this.#heard(change);
    });
  }

  /**
   * The version that ran at a time; empty where that is not known, or a change of version is nearer than the time can tell.
   * @param precisionMs what the time can tell apart
   */
  at(service: string, ms: number, precisionMs: number): string {
    const spans = this.#spans.get(service) ?? [];
    const before = spans.findLast(({ sinceMs }) => sinceMs <= ms);
    const after = spans.findLast(({ sinceMs }) => sinceMs < ms + precisionMs);
    return before === after ? (before?.version ?? '') : '';
  }

  #heard({ service, report }: ServicesChange): void {
    if (!report) {
      if (this.#spans.delete(service)) this.#store(service);
      return;
    }
    const spans = this.#spans.get(service) ?? [];
    const next = nextSpan(spans.at(-1), report);
    if (!next) return;
    this.#spans.set(service, [...spans, next].slice(-RELEASES_KEPT));
    this.#store(service);
  }

  #store(service: string): void {
    const write = async (): Promise<void> => {
      const spans = this.#spans.get(service);
      if (spans) await this.#documents.put(service, { spans });
      else await this.#documents.delete(service);
    };
    this.#writing.run(service, write).catch((error: unknown) => {
      this.#logger.warn('since when this version of a service runs could not be stored', { service, error });
    });
  }
}

/** Undefined: what runs is the version known, or nothing is known to run. */
function nextSpan(last: ReleaseSpan | undefined, report: InstanceReport): ReleaseSpan | undefined {
  const { state, pid, version, startedMs } = report;
  // Its manifest may name the next version already while the one before still runs or is being replaced.
  const runs = state === 'RUNNING' || (state === 'STARTING' && pid > 0);
  if (!runs || startedMs === undefined || version === last?.version) return undefined;
  return startedMs > (last?.sinceMs ?? -Infinity) ? { version, sinceMs: startedMs } : undefined;
}
