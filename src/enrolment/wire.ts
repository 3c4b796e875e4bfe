import { CenterService, TokenKind as WireTokenKind } from '../../generated/muster/v1/center.js';
import { createClient, type Channel } from '../rpc/client.js';

/** The calls by which a party gets its certificates from the center. */

/** What the owner of a token becomes. */
export type TokenKind = 'agent' | 'operator' | 'queue';

const WIRE_KINDS = {
  agent: WireTokenKind.AGENT,
  operator: WireTokenKind.OPERATOR,
  queue: WireTokenKind.QUEUE,
} as const satisfies Record<TokenKind, WireTokenKind>;

/** A certificate as the center gives it; both PEM. */
export interface SignedCertificate {
  readonly certificate: string;
  readonly ca: string;
}

export interface JoinQuestion {
  /** The whole text of the token. */
  readonly token: string;
  /** PKCS#10, DER. */
  readonly request: Uint8Array;
  readonly kind: TokenKind;
  /** Empty: the name that the token is for. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly nowMs: number;
}

export interface JoinAnswer extends SignedCertificate {
  readonly site: string;
  /** The machine's id; empty for others. */
  readonly machine: string;
}

export async function askToJoin(channel: Channel, question: JoinQuestion): Promise<JoinAnswer> {
  const { token, request, name, labels, nowMs, kind } = question;
  return createClient(CenterService, channel).join({
    token,
    certificateRequest: Buffer.from(request),
    name,
    labels: { ...labels },
    now: new Date(nowMs),
    kind: WIRE_KINDS[kind],
  });
}

export async function askToRenew(
  channel: Channel,
  request: Uint8Array,
  signal?: AbortSignal,
): Promise<SignedCertificate> {
  const question = { certificateRequest: Buffer.from(request) };
  return createClient(CenterService, channel).renew(question, signal ? { signal } : {});
}
