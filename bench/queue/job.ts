import type { Endpoint } from './port.js';

/** What a client process does, and what is said between it and the bench. */

export interface PublishJob {
  readonly kind: 'publish';
  readonly endpoint: Endpoint;
  readonly topic: string;
  readonly payloadBytes: number;
  /** Messages sent and not yet acknowledged, at most. */
  readonly inFlight: number;
  /** Messages a second; 0: as many as are acknowledged. */
  readonly perSecond: number;
  /** Stops by itself after so many messages; 0: when told to. */
  readonly total: number;
}

export interface ConsumeJob {
  readonly kind: 'consume';
  readonly endpoint: Endpoint;
  readonly topic: string;
  /** A consumer of each, on connections of their own. */
  readonly subscriptions: readonly string[];
  readonly stalled: boolean;
  /** Payloads carry the time of their sending. */
  readonly stamped: boolean;
  /** Tries again until the server is there; else the first failure is final. */
  readonly patient: boolean;
}

export type Job = PublishJob | ConsumeJob;

export type Order =
  /** Begins: connects and consumes, or sends; a publisher that has finished goes on. Answered by `begun`. */
  | 'begin'
  /** Answered by `figures`, which then begin anew but for `count`. */
  | 'read'
  /** A publisher sends no more. Answered by `finished` when all it sent is acknowledged. */
  | 'finish'
  /** Closes and exits. */
  | 'end';

export interface Figures {
  /** Messages acknowledged to a publisher, or received by a consumer, since it began. */
  readonly count: number;
  /** When, in the time all processes share. */
  readonly atMs: number;
  /** When the first was acknowledged or received; 0: none yet. */
  readonly firstMs: number;
  /** When the newest was. */
  readonly lastMs: number;
  /** Milliseconds from sending to acknowledgement, or to receiving; of many, some. */
  readonly samples: readonly number[];
}

export type Report =
  | { readonly kind: 'ready' }
  | { readonly kind: 'begun' }
  | { readonly kind: 'figures'; readonly figures: Figures }
  | { readonly kind: 'finished'; readonly figures: Figures }
  | { readonly kind: 'failed'; readonly message: string };
