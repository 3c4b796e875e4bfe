import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import assert from 'node:assert/strict';
import { X509Certificate, webcrypto } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Authority, keyOfRequest, newKey } from '../../../../src/center/access/authority.js';
import { CENTER_DNS_NAME, CenterLeaf } from '../../../../src/center/access/leaf.js';
import { ManualClock, systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { certificateRequest, generateKey } from '../../../../src/rpc/certificate-request.js';
import { namedPrincipal } from '../../../../src/rpc/certificates.js';
import { waitFor } from '../../../support/waiting.js';

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'muster-ca-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

describe('authority', () => {
  it('is made once, for its owner alone, and found again', async (t) => {
    const path = await directory(t);
    const first = await Authority.open(path, systemClock);
    const again = await Authority.open(path, systemClock);
    assert.deepEqual([again.site, again.caHash, again.caPem], [first.site, first.caHash, first.caPem]);
    assert.match(first.caHash, /^[0-9a-f]{64}$/);
    assert.equal((await stat(path)).mode & 0o777, 0o700);
    const ca = new X509Certificate(first.caPem);
    assert.equal(ca.ca, true);
    assert.equal(ca.verify(ca.publicKey), true);
    const other = await Authority.open(await directory(t), systemClock);
    assert.notEqual(other.site, first.site);
  });

  it('is never replaced silently: a missing or damaged key is said', async (t) => {
    const path = await directory(t);
    await Authority.open(path, systemClock);
    const key = join(path, 'key.pem');
    const kept = await readFile(key, 'utf8');
    await rm(key);
    await assert.rejects(Authority.open(path, systemClock), { reason: 'CA_KEY_MISSING' });
    await writeFile(key, kept.replace(/[A-Za-z]{6}/g, 'AAAAAA'));
    await assert.rejects(Authority.open(path, systemClock), { reason: 'CA_DAMAGED' });
  });

  it('is not made anew for a site that exists: its machines would be locked out', async (t) => {
    const path = await directory(t);
    await Authority.open(path, systemClock);
    await rm(join(path, 'ca.pem'));
    const key = await readFile(join(path, 'key.pem'), 'utf8');
    await assert.rejects(Authority.open(path, systemClock, { mayMake: false }), { reason: 'CA_MISSING' });
    assert.equal(await readFile(join(path, 'key.pem'), 'utf8'), key);
  });

  it('makes a new key where one was left without a certificate', async (t) => {
    const path = await directory(t);
    await Authority.open(path, systemClock);
    const before = await readFile(join(path, 'key.pem'), 'utf8');
    await rm(join(path, 'ca.pem'));
    await Authority.open(path, systemClock);
    assert.notEqual(await readFile(join(path, 'key.pem'), 'utf8'), before);
  });

  it('signs leaves that say who they are for, for a day, and that can sign nothing', async (t) => {
    const authority = await Authority.open(await directory(t), systemClock);
    const publicKey = await keyOfRequest(certificateRequest(await generateKey()));
    const principal = { kind: 'service', machine: 'm-1', service: 'orders' } as const;
    const leaf = await authority.sign({ publicKey, principal, dnsNames: ['service.muster'] });
    const certificate = new X509Certificate(leaf.certificatePem);
    assert.deepEqual(namedPrincipal(certificate), { site: authority.site, principal });
    assert.equal(certificate.verify(new X509Certificate(authority.caPem).publicKey), true);
    assert.equal(certificate.ca, false);
    assert.match(certificate.subjectAltName ?? '', /DNS:service\.muster/);
    const hours = (leaf.notAfterMs - Date.now()) / 3_600_000;
    assert.ok(hours > 23.9 && hours <= 24);
  });

  it('refuses weak keys', async () => {
    const algorithm = {
      name: 'RSASSA-PKCS1-v1_5',
      hash: 'SHA-256',
      publicExponent: new Uint8Array([1, 0, 1]),
      modulusLength: 1024,
    };
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const request = await x509.Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: algorithm });
    await assert.rejects(keyOfRequest(new Uint8Array(request.rawData)), { reason: 'KEY_KIND' });
  });
});

describe("the center's own certificate", () => {
  it('is renewed at two thirds of its life, with a new key, and those who use it are told', async (t) => {
    const clock = new ManualClock(Date.now());
    const authority = await Authority.open(await directory(t), clock);
    const leaf = await CenterLeaf.make({ authority, clock, logger: silentLogger, lifetimeMs: 3_600_000 });
    const first = leaf.current();
    assert.match(new X509Certificate(first.certificatePem).subjectAltName ?? '', new RegExp(CENTER_DNS_NAME));
    const renewals: string[] = [];
    leaf.onChange(({ certificatePem }) => renewals.push(certificatePem));
    const controller = new AbortController();
    const running = leaf.run(controller.signal).catch(() => undefined);
    await clock.advance(30 * 60_000);
    assert.equal(renewals.length, 0);
    await waitFor('the renewal', async () => {
      if (renewals.length === 0) await clock.advance(60_000);
      return renewals.length > 0;
    });
    assert.equal(renewals.length, 1);
    assert.notEqual(leaf.current().privateKeyPem.reveal(), first.privateKeyPem.reveal());
    controller.abort();
    await running;
    assert.equal(clock.pending, 0);
  });

  it('has a key of its own each time', async () => {
    const [one, two] = [await newKey(), await newKey()];
    assert.notEqual(one.privateKeyPem.reveal(), two.privateKeyPem.reveal());
    assert.equal(String(one.privateKeyPem), '[secret]');
  });
});
