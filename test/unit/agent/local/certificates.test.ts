import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceCertificates } from '../../../../src/agent/local/certificates.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode, MusterError } from '../../../../src/kit/errors.js';
import { createAuthority } from '../../../support/certificates.js';

const HOUR_MS = 3_600_000;

test('made anew at two thirds, used to its end while the center is away, and then said', async () => {
  const authority = await createAuthority();
  const clock = new ManualClock(Date.now());
  let away = false;
  let made = 0;
  const certificates = new ServiceCertificates({
    clock,
    sign: async (service, request) => {
      if (away) throw new MusterError('unavailable', 'the center is away');
      made += 1;
      const validity = { notBefore: new Date(clock.now() - 300_000), notAfter: new Date(clock.now() + 24 * HOUR_MS) };
      const { certificatePem, caPem } = await authority.issue({
        principal: { kind: 'service', machine: 'm-1', service },
        request,
        validity,
      });
      return { certificate: certificatePem, ca: caPem };
    },
  });
  const first = await certificates.get('orders');
  await clock.advance(15 * HOUR_MS);
  assert.equal((await certificates.get('orders')).certificate, first.certificate);
  await clock.advance(1.1 * HOUR_MS);
  away = true;
  assert.equal((await certificates.get('orders')).certificate, first.certificate);
  await clock.advance(8 * HOUR_MS);
  await assert.rejects(certificates.get('orders'), (error) => isCode(error, 'unavailable'));
  away = false;
  const [again, same] = await Promise.all([certificates.get('orders'), certificates.get('orders')]);
  assert.notEqual(again.certificate, first.certificate);
  assert.equal(again.certificate, same.certificate);
  assert.equal(made, 2);
});

test('a certificate for another key is refused', async () => {
  const authority = await createAuthority();
  const certificates = new ServiceCertificates({
    clock: new ManualClock(Date.now()),
    sign: async (service) => {
      const { certificatePem, caPem } = await authority.issue({
        principal: { kind: 'service', machine: 'm-1', service },
      });
      return { certificate: certificatePem, ca: caPem };
    },
  });
  await assert.rejects(certificates.get('orders'), /another key/);
});
