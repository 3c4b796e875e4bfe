import { constants } from 'node:crypto';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { MusterError } from '../kit/errors.js';
import { chainPem, namedPrincipal, notAfterMs, notBeforeMs } from './certificates.js';
import type { Identity } from './identity.js';
import type { Principal } from './principal.js';

/** What a connection's client certificate says. A refusal fails every call on the connection, with its reason. */
export type Admission =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'known'; readonly principal: Principal; readonly notAfterMs: number }
  | { readonly kind: 'refused'; readonly refusal: MusterError };

/** The TLS settings that change when the server's certificate is renewed. */
export function contextOptions(identity: Identity): SecureContextOptions {
  return {
    cert: chainPem(identity.certificatePem, identity.caPem),
    key: identity.privateKeyPem.reveal(),
    ca: identity.caPem,
    minVersion: 'TLSv1.2',
    // A resumed session would carry the verdict on a certificate from an earlier handshake: every connection is judged anew.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
}

/** Judges the client certificate of a finished handshake. */
export function admit(socket: TLSSocket, site: string, nowMs: number): Admission {
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) return { kind: 'anonymous' };
  try {
    const from = notBeforeMs(certificate);
    const until = notAfterMs(certificate);
    if (nowMs >= until) {
      throw refused(
        'CERTIFICATE_EXPIRED',
        `your certificate expired at ${certificate.validTo}: renew it, or join again`,
      );
    }
    if (nowMs < from) {
      throw refused(
        'CERTIFICATE_NOT_YET_VALID',
        `your certificate is valid only from ${certificate.validFrom}: set the clocks of both machines right`,
      );
    }
    if (!socket.authorized) throw notOurs(socket);
    const named = namedPrincipal(certificate);
    if (named.site !== site) {
      throw refused('CERTIFICATE_OTHER_SITE', `your certificate is of the site "${named.site}", this is "${site}"`);
    }
    return { kind: 'known', principal: named.principal, notAfterMs: until };
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    return { kind: 'refused', refusal: error };
  }
}

function notOurs(socket: TLSSocket): MusterError {
  // Typed as an Error, given as OpenSSL's code.
  const code = String(socket.authorizationError);
  return refused(
    'CERTIFICATE_WRONG_CA',
    `your certificate is not one this site's CA issued for calling (${code}): join this site, or log in to it`,
  );
}

function refused(reason: string, message: string): MusterError {
  return new MusterError('unauthenticated', message, { reason });
}
