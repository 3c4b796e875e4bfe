import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { MusterError } from '../kit/errors.js';
import { Secret } from '../kit/secret.js';
import { signedText, type Signature, type SignedKind } from '../model/release.js';

/** Ed25519 signatures of releases and modules (RFC 8032), over the text of signedText. */

const PUBLIC_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** What precedes the 32 bytes in a DER SubjectPublicKeyInfo of Ed25519 (RFC 8410). */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/** What is signed: which archive it is, and what it is called. */
export interface SignedFacts {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the archive, 64 hexadecimal digits. */
  readonly digest: string;
}

export interface SigningKey {
  /** Raw, 32 bytes, base64. */
  readonly publicKey: string;
  /** PKCS #8, PEM. */
  readonly privateKey: Secret;
}

export function generateSigningKey(): SigningKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return {
    publicKey: rawOf(publicKey.export({ type: 'spki', format: 'der' })),
    privateKey: new Secret(privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()),
  };
}

/** @throws invalid for a key that is not a PEM of an Ed25519 private key */
export function signArtifact(privateKey: Secret, kind: SignedKind, facts: SignedFacts): Signature {
  const key = privateKeyOf(privateKey);
  const publicKey = rawOf(createPublicKey(key).export({ type: 'spki', format: 'der' }));
  const signature = sign(null, Buffer.from(signedText(kind, facts)), key);
  return { publicKey, signature: signature.toString('base64') };
}

/** Whether the signature's own key made it, over these facts. Says nothing of who holds that key. */
export function isSignedBy(kind: SignedKind, facts: SignedFacts, { publicKey, signature }: Signature): boolean {
  const raw = Buffer.from(publicKey, 'base64');
  const bytes = Buffer.from(signature, 'base64');
  if (raw.length !== PUBLIC_KEY_BYTES || bytes.length !== SIGNATURE_BYTES) return false;
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' });
    return verify(null, Buffer.from(signedText(kind, facts)), key, bytes);
  } catch {
    // 32 bytes that are no point of the curve.
    return false;
  }
}

/** A short name of a public key, for people: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes. */
export function keyId(publicKey: string): string {
  return createHash('sha256').update(Buffer.from(publicKey, 'base64')).digest('hex').slice(0, 16);
}

function rawOf(spki: Buffer): string {
  return spki.subarray(-PUBLIC_KEY_BYTES).toString('base64');
}

function privateKeyOf(privateKey: Secret): ReturnType<typeof createPrivateKey> {
  try {
    const key = createPrivateKey(privateKey.reveal());
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch {
    // Said below, without the text of the key.
  }
  throw new MusterError('invalid', 'this is not an Ed25519 private key in PEM: give the file that holds one');
}
