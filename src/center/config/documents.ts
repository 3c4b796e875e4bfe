/** What the center stores of configurations. */

/** One publication of one document. `machine` is an id, or empty for the service's document everywhere. */
export interface ConfigDocument {
  readonly service: string;
  readonly machine: string;
  /** As published; empty where the publication removed the document. */
  readonly text: string;
  /** Number of the publication; rises over all documents of the service. 0: nothing was ever published. */
  readonly revision: number;
  /** Wall-clock milliseconds. */
  readonly publishedMs: number;
  readonly publishedBy: string;
  readonly comment: string;
}

/** `config/head/SERVICE` */
export interface ConfigHead {
  /** Of the newest publication of any of the service's documents. */
  readonly revision: number;
  /** The last request ids, oldest first, so that a retry changes nothing. */
  readonly requests: readonly PublishedRequest[];
}

export interface PublishedRequest {
  readonly id: string;
  readonly revision: number;
  /** Of what was asked for. */
  readonly digest: string;
}

/** `config/applied/SERVICE:MACHINE`: what the service there said last. */
export interface StoredReport {
  /** Revision it runs with; 0 if none. */
  readonly applied: number;
  /** Why it did not take `failed`; empty when it took what it has. */
  readonly error: string;
  readonly failed: number;
  /** Wall-clock milliseconds. */
  readonly reportedMs: number;
}

/** What a caller must hold to replace a document; empty where nothing is stored. */
export function etagOf(document: ConfigDocument | undefined): string {
  return document && document.text !== '' ? `r${document.revision}` : '';
}

/** Key of a scope. Neither a service's name nor a machine's id holds a colon. */
export function scopeId(service: string, machine: string): string {
  return `${service}:${machine}`;
}

/** The machine of a scope's key. */
export function machineOf(id: string): string {
  return id.slice(id.indexOf(':') + 1);
}

const REVISION_DIGITS = 12;

/** Key of a revision: in order of numbers. */
export function revisionId(service: string, revision: number): string {
  return `${service}:${String(revision).padStart(REVISION_DIGITS, '0')}`;
}
