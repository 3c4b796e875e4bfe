import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MACHINE } from '../../../src/agent/identity/machine.js';
import { problemOf, renewAtMs } from '../../../src/enrolment/validity.js';

const HOUR_MS = 3_600_000;
const WEB = { name: 'web-1', words: MACHINE.words };
const validity = { fromMs: 0, untilMs: 24 * HOUR_MS };

test('renewal comes at two thirds of the time since the certificate was obtained, spread over a thirtieth', () => {
  assert.equal(renewAtMs(validity, 0, 0), 16 * HOUR_MS);
  assert.equal(renewAtMs(validity, 0, 1), 16.8 * HOUR_MS);
  assert.equal(renewAtMs(validity, 6 * HOUR_MS, 0), 18 * HOUR_MS);
  assert.equal(renewAtMs(validity, -HOUR_MS, 0), 16 * HOUR_MS);
  assert.equal(renewAtMs(validity, 25 * HOUR_MS, 0), 16 * HOUR_MS);
});

test('a certificate that cannot be used now is explained with both times and the next step', () => {
  assert.equal(problemOf(validity, HOUR_MS, WEB), undefined);
  const early = problemOf(validity, -2 * HOUR_MS, WEB) ?? '';
  assert.match(early, /1970-01-01T00:00:00.000Z.*1969-12-31T22:00:00.000Z.*at least 2h slow/s);
  const late = problemOf(validity, 24 * HOUR_MS, WEB) ?? '';
  assert.match(late, /1970-01-02T00:00:00.000Z.*muster token create --machine web-1/s);
});
