import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Releases, RELEASES_KEPT } from '../../../../src/agent/services/releases.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { FakeServices } from '../../../support/fake-services.js';
import { waitFor } from '../../../support/waiting.js';

test('each version is known by the time it ran, also by the next agent', async () => {
  const store = await openMemoryStore();
  const services = new FakeServices('app');
  const releases = await Releases.open(store, silentLogger);
  releases.follow(services);
  services.set('app', { version: '1.0.0', startedMs: 1000 });
  services.set('app', { version: '1.0.0', startedMs: 5000 });
  // The manifest names the next one while the old one is being stopped.
  services.set('app', { version: '2.0.0', state: 'STOPPING', startedMs: 5000 });
  services.set('app', { version: '2.0.0', state: 'STARTING', pid: 0, startedMs: 5000 });
  services.set('app', { version: '2.0.0', state: 'STARTING', pid: 7, startedMs: 10_000 });
  services.set('app', { version: '2.0.0', state: 'RUNNING', pid: 7, startedMs: 10_000 });
  const known = (one: Releases): string[] => [999, 1000, 9999, 10_000, 20_000].map((ms) => one.at('app', ms, 1));
  assert.deepEqual(known(releases), ['', '1.0.0', '1.0.0', '2.0.0', '2.0.0']);
  assert.equal(releases.at('other', 5000, 1), '');
  await waitFor('the store to have it', async () => {
    const next = await Releases.open(store, silentLogger);
    return next.at('app', 20_000, 1) === '2.0.0';
  });
  assert.deepEqual(known(await Releases.open(store, silentLogger)), known(releases));
});

test('a time that cannot tell them apart names none', async () => {
  const services = new FakeServices('app');
  const releases = await Releases.open(await openMemoryStore(), silentLogger);
  releases.follow(services);
  services.set('app', { version: '1.0.0', startedMs: 1000 });
  services.set('app', { version: '2.0.0', startedMs: 10_500 });
  assert.deepEqual(
    [9000, 10_000, 11_000].map((ms) => releases.at('app', ms, 1000)),
    ['1.0.0', '', '2.0.0'],
  );
});

test('so many changes are remembered, and none of a service that was removed', async () => {
  const services = new FakeServices('app');
  const releases = await Releases.open(await openMemoryStore(), silentLogger);
  releases.follow(services);
  for (let count = 0; count < RELEASES_KEPT + 10; count += 1)
    services.set('app', { version: `${count}.0.0`, startedMs: count * 1000 });
  assert.equal(releases.at('app', 9000, 1), '');
  assert.equal(releases.at('app', 10_000, 1), '10.0.0');
  services.remove('app');
  assert.equal(releases.at('app', 1e9, 1), '');
});
