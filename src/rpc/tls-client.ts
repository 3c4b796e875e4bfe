import { X509Certificate } from 'node:crypto';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { credentials, type ChannelCredentials } from '@grpc/grpc-js';
import { MusterError, messageOf } from '../kit/errors.js';
import { namedPrincipal, serverName } from './certificates.js';
import { PEER_CHECK_MARK } from './connection-errors.js';
import type { IdentitySource } from './identity.js';
import { describePrincipal, type Principal, type PrincipalKind } from './principal.js';

/** Whom a client trusts and as whom it calls. Either `identity`, or `caPem` where there is none yet (joining). */
export interface ClientTls {
  /** Presented to the server; its CA and site are what the server must have. */
  readonly identity?: IdentitySource;
  /** The trusted CA where there is no identity. */
  readonly caPem?: string;
  /** The server's site, where there is no identity; any when left out. */
  readonly site?: string;
  /** What the server must be, default `center`. */
  readonly expect?: Exclude<PrincipalKind, 'anonymous'>;
  /** A further demand on who the server is; throws to refuse it. */
  readonly verify?: (principal: Principal) => void;
}

/** The TLS name this client asks for. */
export function expectedServerName(tls: ClientTls): string {
  return serverName(tls.expect ?? 'center');
}

/** Credentials of the moment: a renewed identity needs new ones. @throws invalid */
export function clientCredentials(tls: ClientTls): ChannelCredentials {
  const identity = tls.identity?.current();
  const caPem = identity?.caPem ?? tls.caPem;
  if (caPem === undefined)
    throw new MusterError('invalid', 'a CA is needed to verify the server: join or log in first');
  const site = identity?.site ?? tls.site;
  return credentials.createSsl(
    Buffer.from(caPem),
    identity ? Buffer.from(identity.privateKeyPem.reveal()) : null,
    identity ? Buffer.from(identity.certificatePem) : null,
    {
      checkServerIdentity: (host, certificate) =>
        checkServer(host, certificate, { ...tls, ...(site === undefined ? {} : { site }) }),
    },
  );
}

/** The chain is already verified: this asks whether that server is the one meant. Returns the objection, as node:tls wants it. */
function checkServer(host: string, certificate: PeerCertificate, tls: ClientTls): Error | undefined {
  const { site, expect = 'center', verify } = tls;
  try {
    // Services and agents are told apart by their URI name alone; the site's own servers carry their name as DNS name too.
    const wrongName = expect === 'center' || expect === 'queue' ? checkServerIdentity(host, certificate) : undefined;
    if (wrongName) return wrongName;
    const named = namedPrincipal(new X509Certificate(certificate.raw));
    if (named.principal.kind !== expect)
      return objection(`it is ${describePrincipal(named.principal)}, not a ${expect}`);
    if (site !== undefined && named.site !== site)
      return objection(`it is of the site "${named.site}", not of "${site}"`);
    verify?.(named.principal);
    return undefined;
  } catch (error) {
    return objection(messageOf(error));
  }
}

function objection(text: string): Error {
  return new Error(`${PEER_CHECK_MARK}${text}`);
}
