import 'reflect-metadata';
import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { test } from 'node:test';
import { Pkcs10CertificateRequest } from '@peculiar/x509';
import { certificateRequest, generateKey } from '../../../src/rpc/certificate-request.js';

test('the request is read and its signature holds in an independent implementation', async () => {
  for (let round = 0; round < 5; round += 1) {
    const key = await generateKey();
    const request = new Pkcs10CertificateRequest(new Uint8Array(certificateRequest(key)));
    assert.equal(await request.verify(), true);
    assert.equal(request.subject, '');
    assert.deepEqual(
      Buffer.from(request.publicKey.rawData),
      createPublicKey(key.reveal()).export({ type: 'spki', format: 'der' }),
    );
  }
});

test('a changed request does not verify', async () => {
  const request = Buffer.from(certificateRequest(await generateKey()));
  const key = createPublicKey((await generateKey()).reveal()).export({ type: 'spki', format: 'der' });
  const at = request.indexOf(key.subarray(0, 26));
  key.copy(request, at);
  assert.equal(await new Pkcs10CertificateRequest(new Uint8Array(request)).verify(), false);
});
