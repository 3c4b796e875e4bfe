import { createHash } from 'node:crypto';
import { appliedAfter, type AppliedReport } from '../../config/applied.js';
import { parseConfig } from '../../config/document.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { NAME_PATTERN } from '../../kit/ids.js';
import { didYouMean } from '../../kit/suggest.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { ConfigSource, FleetDirectory } from '../ports.js';
import {
  etagOf,
  machineOf,
  revisionId,
  scopeId,
  type StoredReport,
  type ConfigDocument,
  type ConfigHead,
  type PublishedRequest,
} from './documents.js';
import { ServiceConfig, type MergedConfig } from './merged.js';

/** Revisions of a service that are kept. */
export const REVISIONS_MAX = 1_000;
/** Machines of one service that may have a document of their own. */
export const OVERRIDES_MAX = 10_000;
/** Request ids of a service that are remembered. */
const REQUESTS_MAX = 100;
const COMMENT_MAX = 1_000;
const ERROR_MAX = 2_000;
/** Reports deleted in one batch. */
const FORGET_BATCH_MAX = 500;
/** A page of revisions ends after this many bytes of text. */
const PAGE_BYTES_MAX = 1024 * 1024;

/** A scope as its caller names it: the machine by id or name, or empty. */
export interface ScopeName {
  readonly service: string;
  readonly machine: string;
}

export interface Publication {
  readonly scope: ScopeName;
  readonly text: string;
  /** Empty: whatever is stored; `new`: only if nothing is. */
  readonly etag: string;
  readonly comment: string;
  readonly requestId: string;
  readonly by: string;
}

/** How one machine stands. */
export interface AdoptionFact {
  readonly machine: string;
  readonly machineName: string;
  readonly online: boolean;
  readonly desired: number;
  readonly held: number;
  readonly applied: number;
  readonly error: string;
  readonly reportedMs: number | undefined;
}

interface Entry {
  head: ConfigHead;
  readonly config: ServiceConfig;
}

/**
 * The configurations of all services: documents with history on disk, parsed and merged in memory.
 *
 * Documents in the store: `config/head/SERVICE`, `config/document/SERVICE:MACHINE` (newest), `config/revision/SERVICE:NUMBER`
 * (immutable, the last REVISIONS_MAX), `config/applied/SERVICE:MACHINE`. A publication is one batch.
 */
export class Configs implements ConfigSource {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #fleet: FleetDirectory;
  readonly #heads: Documents<ConfigHead>;
  readonly #documents: Documents<ConfigDocument>;
  readonly #revisions: Documents<ConfigDocument>;
  readonly #reports: Documents<StoredReport>;
  readonly #entries = new Map<string, Entry>();
  readonly #applied = new Map<string, StoredReport>();
  readonly #listeners = new Set<(service: string) => void>();
  readonly #publishing = new KeyedMutex();

  private constructor(store: Store, clock: Clock, fleet: FleetDirectory) {
    this.#store = store;
    this.#clock = clock;
    this.#fleet = fleet;
    this.#heads = new Documents<ConfigHead>(store, 'config/head/');
    this.#documents = new Documents<ConfigDocument>(store, 'config/document/');
    this.#revisions = new Documents<ConfigDocument>(store, 'config/revision/');
    this.#reports = new Documents<StoredReport>(store, 'config/applied/');
  }

  /** @throws as Store.range */
  static async open(store: Store, options: { clock: Clock; fleet: FleetDirectory }): Promise<Configs> {
    const configs = new Configs(store, options.clock, options.fleet);
    for await (const { id, value } of configs.#heads.list()) {
      configs.#entries.set(id, { head: value, config: new ServiceConfig() });
    }
    for await (const { value } of configs.#documents.list()) {
      const values = parseConfig(value.text);
      configs.#entries.get(value.service)?.config.set(value.machine, { revision: value.revision, values });
    }
    for await (const { id, value } of configs.#reports.list()) configs.#applied.set(id, value);
    return configs;
  }

  revisionOf(service: string, machine: string): { readonly revision: number; readonly hash: string } {
    return this.merged(service, machine);
  }

  onChange(listener: (service: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The merged configuration on a machine, by id; of an empty machine, what the service has everywhere. */
  merged(service: string, machine: string): MergedConfig {
    const config = this.#entries.get(service)?.config ?? new ServiceConfig();
    return config.on(machine, this.#fleet.findMachine(machine)?.name ?? machine);
  }

  /** The newest revision of any of the service's documents; 0 where there is none. */
  newest(service: string): number {
    return this.#entries.get(service)?.head.revision ?? 0;
  }

  /**
   * The document of a scope: the newest, or as it was at a revision; one with revision 0 where nothing was stored.
   * @throws not_found for an unknown service, machine or revision
   */
  async document(scope: ScopeName, revision = 0): Promise<ConfigDocument> {
    const { service, machine } = this.#resolve(scope);
    const nothing = { service, machine, text: '', revision: 0, publishedMs: 0, publishedBy: '', comment: '' };
    if (revision === 0) return (await this.#documents.get(scopeId(service, machine)))?.value ?? nothing;
    const newest = this.newest(service);
    if (revision > newest || revision <= newest - REVISIONS_MAX) {
      throw new MusterError(
        'not_found',
        `${service} has no revision ${revision}: the newest is ${newest}, and the last ${REVISIONS_MAX} are kept`,
        { reason: 'REVISION_UNKNOWN' },
      );
    }
    const cursor = { prefix: `${service}:`, after: revisionId(service, revision + 1), reverse: true };
    for await (const { value } of this.#revisions.list(cursor)) if (value.machine === machine) return value;
    return nothing;
  }

  /** @throws invalid, not_found */
  validate(scope: ScopeName, text: string): ReturnType<typeof parseConfig> {
    this.#resolve(scope);
    return parseConfig(text);
  }

  /**
   * Replaces a scope's document. Resolves once durable.
   * @throws invalid; not_found; conflict with reason ETAG_MISMATCH; exhausted; as Store.write
   */
  async publish(publication: Publication): Promise<ConfigDocument> {
    const { service, machine } = this.#resolve(publication.scope);
    const values = parseConfig(publication.text);
    return this.#publishing.run(service, async () => {
      const repeated = await this.#repeated(service, publication);
      if (repeated) return repeated;
      const stored = (await this.#documents.get(scopeId(service, machine)))?.value;
      requireEtag(publication.etag, stored);
      if (publication.text === (stored?.text ?? '')) return stored ?? this.document(publication.scope);
      this.#requireRoom(service, machine);
      const next = await this.#write(machine, service, publication);
      this.#entries.get(service)?.config.set(machine, { revision: next.revision, values });
      for (const listener of this.#listeners) listener(service);
      return next;
    });
  }

  /** A page of publications, newest first, with where the next page begins; undefined at the end. */
  async revisions(
    service: string,
    { limit, before }: { readonly limit: number; readonly before?: number | undefined },
  ): Promise<{ readonly documents: readonly ConfigDocument[]; readonly next: number | undefined }> {
    this.#requireService(service);
    const documents: ConfigDocument[] = [];
    const cursor = before === undefined ? {} : { after: revisionId(service, before) };
    let bytes = 0;
    for await (const { value } of this.#revisions.list({ prefix: `${service}:`, reverse: true, ...cursor })) {
      if (documents.length >= limit || bytes > PAGE_BYTES_MAX) return { documents, next: documents.at(-1)?.revision };
      documents.push(value);
      bytes += value.text.length;
    }
    return { documents, next: undefined };
  }

  /** Notes what a service on a machine said; `error` is empty when it took the revision. Resolves once durable. */
  async reportApplied({ service, machine }: ScopeName, report: AppliedReport): Promise<void> {
    // A report of what was never published can only come from a machine that is confused, one of a removed machine is late.
    if (report.revision < 1 || report.revision > this.newest(service)) return;
    if (!this.#fleet.findMachine(machine)) return;
    const id = scopeId(service, machine);
    const before = this.#applied.get(id);
    const reportedMs = this.#clock.now();
    const next: StoredReport = {
      applied: appliedAfter(before?.applied ?? 0, report),
      error: report.error.slice(0, ERROR_MAX),
      failed: report.error === '' ? 0 : report.revision,
      reportedMs,
    };
    await this.#reports.put(id, next);
    this.#applied.set(id, next);
  }

  /** Forgets what services on machines that were removed have said. Resolves once durable. @throws as Store.write */
  async forgetRemoved(): Promise<void> {
    const gone = [...this.#applied.keys()].filter((id) => !this.#fleet.findMachine(machineOf(id)));
    for (let start = 0; start < gone.length; start += FORGET_BATCH_MAX) {
      const batch = gone.slice(start, start + FORGET_BATCH_MAX);
      await this.#store.write(batch.map((id) => this.#reports.deleting(id)));
      for (const id of batch) this.#applied.delete(id);
    }
  }

  /** @throws not_found for a service nobody knows */
  adoption(service: string): AdoptionFact[] {
    this.#requireService(service);
    return this.#fleet.instancesOf(service).map(({ machine, configHeld, configApplied }) => {
      const report = this.#applied.get(scopeId(service, machine.id));
      return {
        machine: machine.id,
        machineName: machine.name,
        online: machine.online,
        desired: this.merged(service, machine.id).revision,
        held: configHeld,
        applied: report?.applied ?? configApplied,
        error: report?.error ?? '',
        reportedMs: report?.reportedMs,
      };
    });
  }

  /** The machine of a scope by id. @throws not_found naming the nearest; invalid */
  #resolve({ service, machine }: ScopeName): ScopeName {
    this.#requireService(service);
    return { service, machine: machine === '' ? '' : this.#fleet.machine(machine).id };
  }

  #requireService(service: string): void {
    if (this.#entries.has(service)) return;
    const known = [...this.#fleet.serviceNames(), ...this.#entries.keys()];
    if (known.includes(service) && NAME_PATTERN.test(service)) return;
    if (service === '') throw new MusterError('invalid', 'name the service', { reason: 'SERVICE_NEEDED' });
    const hint = didYouMean(service, known) || ' Add the service first.';
    throw new MusterError('not_found', `there is no service "${service}".${hint}`, { reason: 'SERVICE_UNKNOWN' });
  }

  #requireRoom(service: string, machine: string): void {
    const config = this.#entries.get(service)?.config;
    if (machine === '' || !config || config.has(machine) || config.overrides < OVERRIDES_MAX) return;
    throw new MusterError(
      'exhausted',
      `${service} has documents for ${OVERRIDES_MAX} machines, which is the limit: put what they share into the service's document`,
    );
  }

  /** What was published before under the same request id. @throws invalid when it was something else */
  async #repeated(service: string, publication: Publication): Promise<ConfigDocument | undefined> {
    const { requestId, scope } = publication;
    if (requestId === '') return undefined;
    const request = this.#entries.get(service)?.head.requests.find(({ id }) => id === requestId);
    if (!request) return undefined;
    if (request.digest !== digestOf(publication)) {
      throw new MusterError('invalid', `request id "${requestId}" was used for another publication: use a new one`, {
        reason: 'REQUEST_ID_REUSED',
      });
    }
    const published = await this.#revisions.get(revisionId(service, request.revision));
    return published?.value ?? this.document(scope);
  }

  async #write(machine: string, service: string, publication: Publication): Promise<ConfigDocument> {
    const entry = this.#entries.get(service);
    const revision = (entry?.head.revision ?? 0) + 1;
    const { text, by, comment, requestId } = publication;
    const document: ConfigDocument = {
      service,
      machine,
      text,
      revision,
      publishedMs: this.#clock.now(),
      publishedBy: by,
      comment: comment.slice(0, COMMENT_MAX),
    };
    const request: PublishedRequest[] =
      requestId === '' ? [] : [{ id: requestId, revision, digest: digestOf(publication) }];
    const requests = [...(entry?.head.requests ?? []), ...request].slice(-REQUESTS_MAX);
    const head: ConfigHead = { revision, requests };
    await this.#store.write([
      this.#heads.putting(service, head),
      this.#documents.putting(scopeId(service, machine), document),
      this.#revisions.putting(revisionId(service, revision), document),
      this.#revisions.deleting(revisionId(service, Math.max(0, revision - REVISIONS_MAX))),
    ]);
    if (entry) entry.head = head;
    else this.#entries.set(service, { head, config: new ServiceConfig() });
    return document;
  }
}

function digestOf({ scope, text }: Publication): string {
  return createHash('sha256')
    .update(JSON.stringify([scope.service, scope.machine, text]))
    .digest('hex');
}

function requireEtag(etag: string, stored: ConfigDocument | undefined): void {
  const current = etagOf(stored);
  if (etag === '' || etag === current || (etag === 'new' && current === '')) return;
  const advice =
    current === ''
      ? 'nothing is stored any more'
      : `the document is now at revision ${stored?.revision ?? 0}, published by ${stored?.publishedBy ?? ''}`;
  throw new MusterError('conflict', `${advice}: read it again, then publish your change on top of it`, {
    reason: 'ETAG_MISMATCH',
    metadata: { etag: current },
  });
}
