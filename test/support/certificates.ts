import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { Secret } from '../../src/kit/secret.js';
import type { Identity } from '../../src/rpc/identity.js';
import { principalUri, type Principal } from '../../src/rpc/principal.js';

/** Certificates for tests: an authority of one's own, and leaves with whatever is wrong with them. */

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR_MS = 3_600_000;

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface LeafOptions {
  readonly principal: Principal;
  readonly site?: string;
  readonly validity?: Validity;
  /** Names beside the URI. Default: the DNS name of a server of that kind, and localhost. */
  readonly dns?: readonly string[];
  /** Instead of the principal's own. */
  readonly uris?: readonly string[];
  /** A certificate request (DER) whose key it is for; the private key that comes with it is then of no use. */
  readonly request?: Uint8Array;
}

export interface Authority {
  readonly caPem: string;
  readonly site: string;
  issue(options: LeafOptions): Promise<Identity>;
}

function lasting(fromMs: number, toMs: number): Validity {
  return { notBefore: new Date(Date.now() + fromMs), notAfter: new Date(Date.now() + toMs) };
}

export const validities = {
  now: () => lasting(-HOUR_MS, HOUR_MS),
  past: () => lasting(-2 * HOUR_MS, -HOUR_MS),
  future: () => lasting(HOUR_MS, 2 * HOUR_MS),
  lasting: (ms: number) => lasting(-HOUR_MS, ms),
};

function serial(): string {
  return Buffer.from(webcrypto.getRandomValues(new Uint8Array(15)))
    .toString('hex')
    .replace(/^./, '1');
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function privatePem(keys: webcrypto.CryptoKeyPair): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
}

/** A new CA for `site`. */
export async function createAuthority(site = 'test'): Promise<Authority> {
  const keys = await generateKeys();
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: `CN=Muster CA ${site}`,
    ...lasting(-3 * HOUR_MS, 24 * HOUR_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const caPem = ca.toString('pem');
  const issue = async (options: LeafOptions): Promise<Identity> => {
    const { principal, validity = validities.now(), uris, dns = [`${principal.kind}.muster`, 'localhost'] } = options;
    const leafKeys = await generateKeys();
    const names = uris ?? [principalUri(options.site ?? site, principal)];
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: serial(),
      subject: 'CN=test',
      issuer: ca.subject,
      ...validity,
      signingAlgorithm: ALGORITHM,
      publicKey: options.request
        ? new x509.Pkcs10CertificateRequest(new Uint8Array(options.request)).publicKey
        : leafKeys.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth, x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension([
          ...names.map((value) => ({ type: 'url' as const, value })),
          ...dns.map((value) => ({ type: 'dns' as const, value })),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
      ],
    });
    return { certificatePem: leaf.toString('pem'), privateKeyPem: new Secret(await privatePem(leafKeys)), caPem, site };
  };
  return { caPem, site, issue };
}
