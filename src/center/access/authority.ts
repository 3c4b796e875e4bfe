import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { createPublicKey, randomBytes, webcrypto } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { makeDirectory, readFileIfThere, writeFileDurably } from '../../kit/files.js';
import { newId } from '../../kit/ids.js';
import { Secret } from '../../kit/secret.js';
import { principalUri, type Principal } from '../../rpc/principal.js';

/** Life of the CA's own certificate. */
export const CA_LIFETIME_MS = 3650 * 24 * 3_600_000;
/** Life of every other certificate. */
export const LEAF_LIFETIME_MS = 24 * 3_600_000;
/** A certificate is valid from a little before it was made, for peers whose clock is a little behind. */
export const BACKDATE_MS = 5 * 60_000;
/** Largest certificate request that is looked at. */
const REQUEST_BYTES_MAX = 16 * 1024;

const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNING_ALGORITHM = { name: 'ECDSA', hash: 'SHA-256' } as const;
const SERIAL_BYTES = 16;
/** Curves of keys that are signed, by OpenSSL's names: P-256 and P-384. */
const CURVES = ['prime256v1', 'secp384r1'];

type KeyPair = webcrypto.CryptoKeyPair;

/** The public half of a key, as a leaf is made for it. */
export type LeafKey = x509.PublicKey | webcrypto.CryptoKey;

/** What a certificate shall say. */
export interface LeafRequest {
  readonly publicKey: LeafKey;
  readonly principal: Principal;
  /** Names of a server; none for a party that only calls. */
  readonly dnsNames?: readonly string[];
  readonly lifetimeMs?: number;
}

export interface Leaf {
  readonly certificatePem: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

function serialNumber(): string {
  const bytes = randomBytes(SERIAL_BYTES);
  // A serial number is a positive integer: the top bit is its sign; the next one makes the length fixed.
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0);
  return bytes.toString('hex');
}

async function generateKeys(): Promise<KeyPair> {
  return webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
}

async function toPem(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

async function fromPem(pem: string): Promise<webcrypto.CryptoKey> {
  const der = x509.PemConverter.decodeFirst(pem);
  return webcrypto.subtle.importKey('pkcs8', der, KEY_ALGORITHM, false, ['sign']);
}

/** A new key pair and its private half as PEM. */
export async function newKey(): Promise<{ publicKey: webcrypto.CryptoKey; privateKeyPem: Secret }> {
  const keys = await generateKeys();
  return { publicKey: keys.publicKey, privateKeyPem: new Secret(await toPem(keys.privateKey)) };
}

function lost(directory: string): MusterError {
  return new MusterError(
    'precondition',
    `ca.pem is missing in ${directory}, and this center has a site already: a new CA would lock out every machine. ` +
      'Restore the folder from a backup. If the CA is lost for good, start a new site with another --data directory and join the machines anew',
    { reason: 'CA_MISSING' },
  );
}

/** The site's certificate authority. Its key is in DATA/ca, mode 0600, and never leaves the center. */
export class Authority {
  readonly #certificate: x509.X509Certificate;
  readonly #key: webcrypto.CryptoKey;
  readonly #clock: Clock;
  /** The site's name in every certificate. */
  readonly site: string;
  readonly caPem: string;
  /** SHA-256 of the CA certificate's DER, hex: what a join token carries. */
  readonly caHash: string;
  readonly expiresMs: number;

  private constructor(options: {
    certificate: x509.X509Certificate;
    key: webcrypto.CryptoKey;
    site: string;
    caHash: string;
    clock: Clock;
  }) {
    this.#certificate = options.certificate;
    this.#key = options.key;
    this.#clock = options.clock;
    this.site = options.site;
    this.caHash = options.caHash;
    this.caPem = `${options.certificate.toString('pem')}\n`;
    this.expiresMs = options.certificate.notAfter.getTime();
  }

  /**
   * The authority in `directory`; made at the first start. `mayMake` false: the site exists already, so one that is gone is never replaced.
   * The key is written before the certificate: a key without a certificate has signed nothing and is replaced.
   * @throws precondition when it is gone and may not be made, or the key of an existing certificate is missing; data_loss when the files cannot be read
   */
  static async open(directory: string, clock: Clock, { mayMake = true } = {}): Promise<Authority> {
    await makeDirectory(directory, 0o700);
    await chmod(directory, 0o700);
    const certificatePem = await readFileIfThere(join(directory, 'ca.pem'));
    if (certificatePem === undefined) {
      if (!mayMake) throw lost(directory);
      await Authority.#make(directory, clock);
    }
    return Authority.#load(directory, clock);
  }

  /** Signs a certificate for `principal`. */
  async sign(request: LeafRequest): Promise<Leaf> {
    const nowMs = this.#clock.now();
    const notBeforeMs = nowMs - BACKDATE_MS;
    const notAfterMs = Math.min(nowMs + (request.lifetimeMs ?? LEAF_LIFETIME_MS), this.expiresMs);
    const names = (request.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value }));
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: `CN=${request.principal.kind}`,
      issuer: this.#certificate.subject,
      notBefore: new Date(notBeforeMs),
      notAfter: new Date(notAfterMs),
      signingAlgorithm: SIGNING_ALGORITHM,
      signingKey: this.#key,
      publicKey: request.publicKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usagesOf(request.principal)),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: principalUri(this.site, request.principal) },
          ...names,
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate),
      ],
    });
    return { certificatePem: `${certificate.toString('pem')}\n`, notBeforeMs, notAfterMs };
  }

  static async #make(directory: string, clock: Clock): Promise<void> {
    const keys = await generateKeys();
    const site = newId('site');
    const nowMs = clock.now();
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      serialNumber: serialNumber(),
      name: `CN=Muster CA, O=${site}`,
      notBefore: new Date(nowMs - BACKDATE_MS),
      notAfter: new Date(nowMs + CA_LIFETIME_MS),
      signingAlgorithm: SIGNING_ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    });
    await writeFileDurably(join(directory, 'key.pem'), await toPem(keys.privateKey), 0o600);
    await writeFileDurably(join(directory, 'ca.pem'), `${certificate.toString('pem')}\n`, 0o600);
  }

  static async #load(directory: string, clock: Clock): Promise<Authority> {
    const [certificatePem, keyPem] = await Promise.all(
      ['ca.pem', 'key.pem'].map((name) => readFileIfThere(join(directory, name))),
    );
    if (certificatePem === undefined || keyPem === undefined) {
      throw new MusterError(
        'precondition',
        `the CA's key is missing in ${directory}: restore it from a backup of the center's data directory`,
        {
          reason: 'CA_KEY_MISSING',
        },
      );
    }
    try {
      const certificate = new x509.X509Certificate(certificatePem);
      const key = await fromPem(keyPem);
      const site = certificate.subjectName.getField('O')[0];
      if (site === undefined) throw new MusterError('data_loss', 'the CA certificate names no site');
      const caHash = Buffer.from(await certificate.getThumbprint('SHA-256')).toString('hex');
      return new Authority({ certificate, key, site, caHash, clock });
    } catch (error) {
      throw new MusterError(
        'data_loss',
        `the CA in ${directory} cannot be read: restore it from a backup of the center's data directory`,
        {
          reason: 'CA_DAMAGED',
          cause: error,
        },
      );
    }
  }
}

function usagesOf(principal: Principal): string[] {
  const { clientAuth, serverAuth } = x509.ExtendedKeyUsage;
  switch (principal.kind) {
    case 'center':
    case 'queue':
    case 'service':
      return [serverAuth, clientAuth];
    case 'anonymous':
    case 'operator':
    case 'agent':
      return [clientAuth];
  }
}

/**
 * The public key of a certificate request (PKCS#10, DER), whose signature proves that the caller has the private key. Its names are not read.
 * @throws invalid
 */
export async function keyOfRequest(request: Uint8Array): Promise<LeafKey> {
  if (request.length === 0 || request.length > REQUEST_BYTES_MAX) {
    throw new MusterError(
      'invalid',
      `certificate_request must be a PKCS#10 request in DER of at most ${REQUEST_BYTES_MAX} bytes`,
      {
        reason: 'CERTIFICATE_REQUEST',
      },
    );
  }
  const parsed = await readRequest(request);
  const key = createPublicKey({ key: Buffer.from(parsed.publicKey.rawData), format: 'der', type: 'spki' });
  const curve = key.asymmetricKeyDetails?.namedCurve ?? '';
  if (key.asymmetricKeyType === 'ec' && CURVES.includes(curve)) return parsed.publicKey;
  throw new MusterError(
    'invalid',
    `the key of the certificate request is ${key.asymmetricKeyType ?? 'unknown'} ${curve}: use ECDSA P-256 or P-384`,
    { reason: 'KEY_KIND' },
  );
}

async function readRequest(request: Uint8Array): Promise<x509.Pkcs10CertificateRequest> {
  try {
    const parsed = new x509.Pkcs10CertificateRequest(Uint8Array.from(request));
    if (await parsed.verify()) return parsed;
  } catch (error) {
    throw new MusterError('invalid', 'certificate_request cannot be read: send a PKCS#10 request in DER', {
      reason: 'CERTIFICATE_REQUEST',
      cause: error,
    });
  }
  throw new MusterError(
    'invalid',
    'the signature of the certificate request is wrong: sign it with the key it is for',
    {
      reason: 'CERTIFICATE_REQUEST',
    },
  );
}
