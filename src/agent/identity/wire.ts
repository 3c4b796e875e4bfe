import { CenterService, TokenKind } from '../../../generated/muster/v1/center.js';
import { createClient, type Channel } from '../../rpc/client.js';
import type { SignedCertificate } from './identity.js';

/** The calls about certificates that an agent makes at the center. */

export interface JoinQuestion {
  /** The whole text of the token. */
  readonly token: string;
  /** PKCS#10, DER. */
  readonly request: Uint8Array;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly nowMs: number;
}

export interface JoinAnswer extends SignedCertificate {
  readonly site: string;
  /** The machine's id. */
  readonly machine: string;
}

export async function askToJoin(channel: Channel, question: JoinQuestion, signal?: AbortSignal): Promise<JoinAnswer> {
  const { token, request, name, labels, nowMs } = question;
  return createClient(CenterService, channel).join(
    {
      token,
      certificateRequest: Buffer.from(request),
      name,
      labels: { ...labels },
      now: new Date(nowMs),
      kind: TokenKind.AGENT,
    },
    signal ? { signal } : {},
  );
}

export async function askToRenew(
  channel: Channel,
  request: Uint8Array,
  signal: AbortSignal,
): Promise<SignedCertificate> {
  return createClient(CenterService, channel).renew({ certificateRequest: Buffer.from(request) }, { signal });
}

export async function askForService(
  channel: Channel,
  service: string,
  request: Uint8Array,
): Promise<SignedCertificate> {
  return createClient(CenterService, channel).signServiceCertificate({
    service,
    certificateRequest: Buffer.from(request),
  });
}
