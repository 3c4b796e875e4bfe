import { X509Certificate } from 'node:crypto';
import { MusterError } from '../kit/errors.js';
import { parsePrincipalUri, type Principal } from './principal.js';

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** The DNS name in the certificate of a server of this kind; clients ask for it, so that addresses may change. */
export function serverName(kind: 'center' | 'queue' | 'agent' | 'service' | 'operator'): string {
  return `${kind}.muster`;
}

/**
 * The certificates in a PEM text, in order.
 * @throws invalid when one cannot be read or there is none
 */
export function readCertificates(pem: string): X509Certificate[] {
  const blocks = pem.match(PEM_BLOCK) ?? [];
  if (blocks.length === 0) throw new MusterError('invalid', 'there is no certificate in this PEM text');
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new MusterError('invalid', 'a certificate in this PEM text is damaged', { cause: error });
  }
}

/**
 * The URI names of a certificate. Node.js prints names as `URI:value, DNS:value` and quotes, as JSON, each value that
 * holds a comma or a quote, so a value cannot pretend to be a name of its own.
 */
export function uriNames(certificate: X509Certificate): string[] {
  const names: string[] = [];
  const entry = /(?:^|, )([A-Za-z][A-Za-z ]*):("(?:[^"\\]|\\.)*"|[^,]*)/y;
  const text = certificate.subjectAltName ?? '';
  for (let found = entry.exec(text); found; found = entry.exec(text)) {
    const [, type, value = ''] = found;
    if (type === 'URI') names.push(value.startsWith('"') ? String(JSON.parse(value)) : value);
  }
  return names;
}

/**
 * Who a certificate is for. Does not check who signed it.
 * @throws unauthenticated unless the certificate carries exactly one URI name of this system
 */
export function namedPrincipal(certificate: X509Certificate): { site: string; principal: Principal } {
  const names = uriNames(certificate).filter((name) => name.startsWith('muster://'));
  const [name] = names;
  if (name === undefined || names.length > 1) {
    throw new MusterError('unauthenticated', 'the certificate does not name exactly one party of this system', {
      reason: 'CERTIFICATE_NAME',
    });
  }
  return parsePrincipalUri(name);
}

/** When a certificate ends, milliseconds since the Unix epoch. */
export function notAfterMs(certificate: X509Certificate): number {
  return Date.parse(certificate.validTo);
}

/** When a certificate begins, milliseconds since the Unix epoch. */
export function notBeforeMs(certificate: X509Certificate): number {
  return Date.parse(certificate.validFrom);
}

/** A certificate followed by the CA, as a server presents it: the first contact of a machine finds the CA in it. */
export function chainPem(certificatePem: string, caPem: string): string {
  const known = new Set(readCertificates(certificatePem).map((certificate) => certificate.fingerprint256));
  const missing = readCertificates(caPem).filter((certificate) => !known.has(certificate.fingerprint256));
  return [certificatePem.trimEnd(), ...missing.map((certificate) => certificate.toString().trimEnd()), ''].join('\n');
}
