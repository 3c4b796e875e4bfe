import type { Principal } from '../rpc/principal.js';
import type { TokenKind } from './wire.js';

/** What everyone who joined a site with a token and stayed knows of it. */
export interface Membership {
  readonly site: string;
  /** Address of the center, `host:port`. */
  readonly center: string;
  readonly name: string;
}

/** What differs between those who join and stay: how they are told apart, what they keep, and the words for it. */
export interface Party<M extends Membership> {
  readonly kind: TokenKind;
  /** The membership's file in the data directory. */
  readonly file: string;
  readonly directoryMode: number;
  /** What its file holds beside site, center and name; undefined where that is not a membership. */
  readonly read: (membership: Membership, fields: Readonly<Record<string, unknown>>) => M | undefined;
  /** What must be in the file, for people. */
  readonly fields: string;
  /** Whether a certificate that names the principal is this member's. */
  readonly owns: (membership: M, principal: Principal) => boolean;
  readonly words: PartyWords;
}

export interface PartyWords {
  /** `this machine` */
  readonly whose: string;
  /** `machine`: certificates are of one. */
  readonly noun: string;
  /** Said where there is no membership yet. */
  readonly notJoined: string;
  /** What the server does once its clock is right. */
  readonly then: string;
  /** The command that makes a token with which `name` joins anew. */
  readonly token: (name: string) => string;
  /** What goes on although the certificate ended. */
  readonly meanwhile: string;
  /** What joining anew leaves as it is. */
  readonly stays: string;
  /** What to do to belong to another site. */
  readonly move: string;
}
