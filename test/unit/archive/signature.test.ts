import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, it } from 'node:test';
import { generateSigningKey, isSignedBy, keyId, signArtifact } from '../../../src/archive/signature.js';
import { isCode } from '../../../src/kit/errors.js';
import { Secret } from '../../../src/kit/secret.js';

const facts = { name: 'orders', version: '1.2.3', digest: 'a'.repeat(64) };

describe('a signature', () => {
  it('holds for what was signed and nothing else', () => {
    const { publicKey, privateKey } = generateSigningKey();
    const signature = signArtifact(privateKey, 'release', facts);
    assert.equal(signature.publicKey, publicKey);
    assert.ok(isSignedBy('release', facts, signature));
    assert.ok(!isSignedBy('module', facts, signature));
    for (const other of [{ name: 'order' }, { version: '1.2.4' }, { digest: 'b'.repeat(64) }]) {
      assert.ok(!isSignedBy('release', { ...facts, ...other }, signature));
    }
    assert.ok(!isSignedBy('release', facts, { ...signature, publicKey: generateSigningKey().publicKey }));
  });

  it('does not hold where it is damaged', () => {
    const { privateKey } = generateSigningKey();
    const signature = signArtifact(privateKey, 'release', facts);
    for (const [field, value] of [
      ['signature', ''],
      ['signature', Buffer.alloc(64).toString('base64')],
      ['signature', Buffer.alloc(63, 1).toString('base64')],
      ['publicKey', ''],
      ['publicKey', Buffer.alloc(32, 0xff).toString('base64')],
      ['publicKey', 'not base64'],
    ] as const) {
      assert.ok(!isSignedBy('release', facts, { ...signature, [field]: value }), `${field} ${value}`);
    }
  });

  it('is made with an Ed25519 key, which is never shown', () => {
    const { publicKey, privateKey } = generateSigningKey();
    assert.equal(Buffer.from(publicKey, 'base64').length, 32);
    assert.equal(
      keyId(publicKey),
      createHash('sha256').update(Buffer.from(publicKey, 'base64')).digest('hex').slice(0, 16),
    );
    assert.ok(!inspect(privateKey).includes('PRIVATE'));
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
    for (const wrong of ['', 'garbage', rsa.toString()]) {
      const says = (error: unknown): boolean => isCode(error, 'invalid') && !error.message.includes(wrong || 'PRIVATE');
      assert.throws(() => signArtifact(new Secret(wrong), 'release', facts), says);
    }
  });
});
