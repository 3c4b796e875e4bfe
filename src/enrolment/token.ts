import { MusterError } from '../kit/errors.js';
import type { Clock } from '../kit/clock.js';
import type { Secret } from '../kit/secret.js';
import { PORTS } from '../model/places.js';
import { formatToken, parseToken, type JoinToken } from '../model/token.js';
import { formatAddress, parseAddress } from '../rpc/addresses.js';
import { certificateHash, fetchCaByHash } from '../rpc/ca-by-hash.js';
import { certificateRequest } from '../rpc/certificate-request.js';
import { readCertificates } from '../rpc/certificates.js';
import { openChannel } from '../rpc/client.js';
import type { Principal } from '../rpc/principal.js';
import { fits, principalOf } from './files.js';
import { askToJoin, type JoinAnswer, type JoinQuestion } from './wire.js';

/** A center that has proved itself by the CA hash in a token; nothing was sent to it yet. */
export interface FoundCenter {
  readonly token: JoinToken;
  /** `host:port` */
  readonly address: string;
  readonly caPem: string;
  readonly site: string;
}

/**
 * Finds the center and has it prove itself by the CA hash in the token.
 * @param center `host` or `host:port`
 * @param instead what to do with a socket file, which nobody joins at
 * @throws invalid (token, address); unavailable (no connection); unauthenticated (a fake center, or another site's)
 */
export async function findCenter(
  center: string,
  tokenText: string,
  { instead, clock }: { readonly instead: string; readonly clock?: Clock },
): Promise<FoundCenter> {
  const token = parseToken(tokenText);
  const address = parseAddress(center, PORTS.centerGrpc);
  if (address.kind === 'unix') {
    throw new MusterError('invalid', `"${center}" is a socket file: ${instead}`, { reason: 'USAGE' });
  }
  const { caPem, site } = await fetchCaByHash(address.host, address.port, token.caHash, clock);
  return { token, address: formatAddress(address), caPem, site };
}

export interface TokenUse extends Pick<JoinQuestion, 'kind' | 'name' | 'labels' | 'nowMs'> {
  /** The private key that the certificate is for; it stays here. */
  readonly key: Secret;
  /** Whether what was given is what was asked for. */
  readonly isMine: (principal: Principal, answer: JoinAnswer) => boolean;
  /** For whom the certificate is, in words. */
  readonly whose: string;
}

/**
 * Exchanges the token for a certificate, and checks that it is for this key, of this site and of the CA that was found.
 * @throws what the center refuses with; internal, reason WRONG_CERTIFICATE
 */
export async function useToken(found: FoundCenter, use: TokenUse): Promise<JoinAnswer> {
  const { token, address, caPem, site } = found;
  const { key, kind, name, labels, nowMs } = use;
  const channel = openChannel({ address, tls: { caPem, site }, peer: 'the center' });
  try {
    const request = certificateRequest(key);
    const answer = await askToJoin(channel, { token: formatToken(token), request, kind, name, labels, nowMs });
    assertSound(answer, found, use);
    return answer;
  } finally {
    channel.close();
  }
}

function assertSound(answer: JoinAnswer, { site, token }: FoundCenter, { key, isMine, whose }: TokenUse): void {
  const principal = principalOf(answer.certificate);
  const sound =
    principal !== undefined &&
    fits(answer.certificate, key.reveal()) &&
    isMine(principal, answer) &&
    answer.site === site &&
    readCertificates(answer.ca).some((ca) => certificateHash(ca) === token.caHash);
  if (sound) return;
  throw new MusterError(
    'internal',
    `the center answered with a certificate that is not for ${whose}; nothing was changed here`,
    { reason: 'WRONG_CERTIFICATE' },
  );
}
