import { createPrivateKey, createPublicKey, generateKeyPair, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { Secret } from '../kit/secret.js';

/**
 * A key and a certificate request for it. The request is written by hand: a PKCS#10 without names and attributes is four nested
 * DER values, and the agent should not keep a certificate library in memory for it.
 */

const DER = { integer: 0x02, bitString: 0x03, sequence: 0x30, attributes: 0xa0 } as const;
/** AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758): an OID, no parameters. */
const ECDSA_WITH_SHA256 = Buffer.from('300a06082a8648ce3d040302', 'hex');

/** A new private key, ECDSA P-256, as PKCS#8 PEM. */
export async function generateKey(): Promise<Secret> {
  const { privateKey } = await promisify(generateKeyPair)('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return new Secret(privateKey);
}

/** A PKCS#10 request (RFC 2986), DER, for the key. It has no names: the center decides them. */
export function certificateRequest(key: Secret): Uint8Array {
  const privateKey = createPrivateKey(key.reveal());
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  const version = der(DER.integer, Buffer.of(0));
  const noNames = der(DER.sequence);
  const info = der(DER.sequence, version, noNames, publicKey, der(DER.attributes));
  const signature = der(DER.bitString, Buffer.of(0), sign('sha256', info, privateKey));
  return der(DER.sequence, info, ECDSA_WITH_SHA256, signature);
}

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(tag), derLength(content.length), content]);
}

function derLength(length: number): Buffer {
  if (length < 0x80) return Buffer.of(length);
  if (length < 0x100) return Buffer.of(0x81, length);
  return Buffer.of(0x82, length >> 8, length & 0xff);
}
