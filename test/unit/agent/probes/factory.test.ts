import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Checks } from '../../../../src/agent/probes/checks.js';
import { Probing } from '../../../../src/agent/probes/factory.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { seededRandom } from '../../../../src/kit/random.js';
import type { CheckResult } from '../../../../src/model/instance.js';
import { parseManifest } from '../../../../src/model/manifest.js';

function start(clock: ManualClock, more: string): { checks: Checks; told: (readonly CheckResult[])[] } {
  const told: (readonly CheckResult[])[] = [];
  const checks = new Probing({ clock, random: seededRandom(7) }).start(
    {
      service: 'orders',
      manifest: parseManifest(`name: orders\ncommand: [node, server.js]\n${more}`),
      startedMs: clock.now(),
      environment: {},
      directory: '/',
    },
    (all) => told.push(all),
  );
  return { checks, told };
}

describe('the checks of a service', () => {
  it('are one per port and one for the ping, UNKNOWN at first', () => {
    const clock = new ManualClock();
    const { checks, told } = start(
      clock,
      'ports: [{ name: http, port: 18080 }, { name: admin, port: 18081 }]\nping: { http: /health, port: http }',
    );
    assert.deepEqual(
      checks.current.map(({ name, kind, health }) => [name, kind, health]),
      [
        ['port http', 'tcp', 'UNKNOWN'],
        ['port admin', 'tcp', 'UNKNOWN'],
        ['ping', 'http', 'UNKNOWN'],
      ],
    );
    checks.stop();
    checks.stop();
    assert.equal(clock.pending, 0);
    assert.deepEqual(told, []);
  });

  it('are none where nothing is declared', () => {
    const clock = new ManualClock();
    assert.deepEqual(start(clock, '').checks.current, []);
    assert.equal(clock.pending, 0);
  });
});

describe('a ttl ping', () => {
  it('takes the word of the service at once, and its silence', async () => {
    const clock = new ManualClock();
    const { checks, told } = start(clock, 'ping: { ttl: 30s }');
    const health = (): string => checks.current.map((check) => check.health).join();
    await clock.advance(29_999);
    assert.equal(health(), 'UNKNOWN');
    assert.equal(checks.report('PASSING', 'all 3 workers busy'), 30_000);
    assert.equal(health(), 'PASSING');
    assert.deepEqual(
      checks.current.map((check) => check.output),
      ['all 3 workers busy'],
    );
    await clock.advance(29_999);
    checks.report('WARNING', 'queue is long');
    assert.equal(health(), 'WARNING');
    await clock.advance(30_000);
    assert.equal(health(), 'CRITICAL');
    assert.deepEqual(
      checks.current.map((check) => check.output),
      ['no report within 30s'],
    );
    checks.report('PASSING', '');
    assert.equal(health(), 'PASSING');
    assert.equal(told.length, 4);
    checks.stop();
    assert.equal(clock.pending, 0);
  });

  it('is CRITICAL where the service never says anything', async () => {
    const clock = new ManualClock();
    const { checks } = start(clock, 'ping: { ttl: 5s }');
    await clock.advance(5000);
    assert.equal(checks.current[0]?.health, 'CRITICAL');
    checks.stop();
  });

  it('refuses reports without one, and after the stop', () => {
    const clock = new ManualClock();
    const { checks } = start(clock, 'ping: { tcp: 18080 }');
    assert.throws(
      () => checks.report('PASSING', ''),
      (error) => isCode(error, 'precondition') && error.reason === 'NO_TTL_PING' && error.message.includes('ttl: 30s'),
    );
    checks.stop();
    const ttl = start(clock, 'ping: { ttl: 5s }').checks;
    ttl.stop();
    assert.throws(
      () => ttl.report('PASSING', ''),
      (error) => isCode(error, 'precondition') && error.reason === 'NOT_RUNNING',
    );
  });
});
