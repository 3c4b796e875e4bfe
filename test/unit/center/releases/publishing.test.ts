import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { generateSigningKey } from '../../../../src/archive/signature.js';
import { COLLECT_AFTER_MS, RELEASES_KEPT } from '../../../../src/center/releases/collection.js';
import { COLLECT_EVERY_MS } from '../../../../src/center/releases/shelf.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { ReleaseWorld } from '../../../support/release-world.js';
import type { Packed } from '../../../support/releases.js';
import { failureOf } from '../../../support/rpc.js';
import { waitFor } from '../../../support/waiting.js';

describe('publishing', () => {
  it('goes on after a crash between the archive and its record; without a record the archive is collected in a day', async (t) => {
    const world = await ReleaseWorld.open(t);
    const [taken, forgotten] = [await world.releaser.release('web', '1'), await world.releaser.release('web', '2')];
    const before = await world.start();
    await world.enroll(before);
    await world.upload(before, taken);
    await world.upload(before, forgotten);
    // The process is killed here: the records were never written.
    const after = await world.start();
    after.publishing.reconcile();
    assert.deepEqual(after.releases.list(), []);
    await after.publishing.putRelease(world.order(taken));
    await world.clock.advance(COLLECT_AFTER_MS - 1000);
    await after.publishing.collect();
    assert.deepEqual(after.archives.digests().sort(), [taken.digest, forgotten.digest].sort());
    await world.clock.advance(2000);
    await after.publishing.collect();
    assert.deepEqual(after.archives.digests(), [taken.digest]);
    assert.deepEqual(after.releases.deployOrder('web', '1').artifact.digest, taken.digest);
  });

  it('collects by itself what is beyond the newest and not needed, the archives too', async (t) => {
    const world = await ReleaseWorld.open(t);
    const shelf = await world.start();
    await world.enroll(shelf);
    const pushed: Packed[] = [];
    for (let number = 1; number <= RELEASES_KEPT + 2; number += 1) {
      const packed = await world.releaser.release('web', `${number}`);
      await world.push(shelf, packed);
      pushed.push(packed);
    }
    const [first, second] = pushed;
    assert.ok(first && second);
    world.inUse = [shelf.releases.deployOrder('web', '1').release];
    const stop = new AbortController();
    const running = shelf.run(stop.signal);
    await world.clock.advance(COLLECT_EVERY_MS);
    assert.equal(shelf.releases.list().length, RELEASES_KEPT + 2);
    await world.clock.advance(COLLECT_AFTER_MS);
    await waitFor('the collection', () => (shelf.archives.sizeOf(second.digest) === undefined ? true : undefined));
    assert.deepEqual([shelf.releases.find('web', '2'), shelf.releases.list().length], [undefined, RELEASES_KEPT + 1]);
    assert.ok(shelf.releases.find('web', '1'));
    stop.abort(new Error('over'));
    await assert.rejects(running, /over/);
  });

  it('numbers what is pushed after a restart behind what was pushed before', async (t) => {
    const world = await ReleaseWorld.open(t);
    const first = await world.start();
    await world.enroll(first);
    await world.push(first, await world.releaser.module('base', '9'));
    await world.push(first, await world.releaser.release('web', '9'));
    const second = await world.start();
    await world.push(second, await world.releaser.release('web', '1'));
    assert.deepEqual(
      second.releases.list('web').map(({ version }) => version),
      ['1', '9'],
    );
  });

  it('gives no order for what a revoked key signed, until it is pushed again with a good one', async (t) => {
    const world = await ReleaseWorld.open(t);
    const shelf = await world.start();
    await world.enroll(shelf);
    const base = await world.releaser.module('base', '1');
    await world.push(shelf, base);
    const packed = await world.releaser.release('web', '1', {
      lines: ['command: ["true"]', 'modules: { base: "1" }'],
    });
    await world.push(shelf, packed);
    const order = shelf.releases.deployOrder('web', '1');
    assert.deepEqual([order.release.modules[0]?.digest, order.moduleArtifacts[0]?.digest], [base.digest, base.digest]);
    await shelf.keys.revoke(shelf.keys.list()[0]?.id ?? '', 'operator bob');
    const refusal = await failureOf(Promise.resolve().then(() => shelf.releases.deployOrder('web', '1')));
    assert.deepEqual([refusal.code, refusal.reason], ['precondition', 'KEY_REVOKED']);
    const good = generateSigningKey();
    await shelf.keys.enroll('bob', good.publicKey);
    await shelf.publishing.putRelease(world.order(packed, good));
    assert.match(
      (await failureOf(Promise.resolve().then(() => shelf.releases.deployOrder('web', '1')))).message,
      /^module base 1 cannot be deployed: the signing key .* was revoked by operator bob/,
    );
    await shelf.publishing.putModule(world.order(base, good));
    assert.equal(shelf.releases.deployOrder('web', '1').artifact.signature.publicKey, good.publicKey);
    assert.equal(shelf.releases.find('web', '1')?.signedBy, 'bob');
  });

  it('says at the start which records have no sound archive', async (t) => {
    const world = await ReleaseWorld.open(t);
    const shelf = await world.start();
    await world.enroll(shelf);
    await world.push(shelf, await world.releaser.release('web', '1'));
    await world.push(shelf, await world.releaser.module('base', '1'));
    await rm(join(world.directory, 'artifacts'), { recursive: true });
    const said: string[] = [];
    const logger = { ...silentLogger, error: (message: string) => said.push(message) };
    const again = await world.start(logger);
    again.publishing.reconcile();
    assert.deepEqual(said, ['a release cannot be deployed', 'a module cannot be installed']);
    const refusal = await failureOf(Promise.resolve().then(() => again.releases.deployOrder('web', '1')));
    assert.deepEqual([refusal.code, refusal.reason], ['data_loss', 'ARTIFACT_LOST']);
  });

  it('names the nearest service and version of what is not there', async (t) => {
    const world = await ReleaseWorld.open(t);
    const { releases, ...shelf } = await world.start();
    await world.enroll({ releases, ...shelf });
    await world.push({ releases, ...shelf }, await world.releaser.release('web', '1.0.0'));
    const messageOf = async (service: string, version: string): Promise<string> =>
      (await failureOf(Promise.resolve().then(() => releases.deployOrder(service, version)))).message;
    assert.equal(
      await messageOf('web', '1.0.1'),
      'service "web" has no release "1.0.1". Did you mean "1.0.0"? There are: 1.0.0',
    );
    assert.equal(await messageOf('wep', '1.0.0'), 'there is no service "wep". Did you mean "web"?');
    assert.match(await messageOf('declared', '1'), /^service "declared" has no releases yet: push one/);
  });

  it('lets an operator enroll only keys that nobody else has', async (t) => {
    const world = await ReleaseWorld.open(t);
    const { keys } = await world.start();
    await keys.enroll('ann', world.releaser.key.publicKey);
    const [mine] = keys.list();
    assert.ok(mine);
    assert.deepEqual(await keys.enroll('ann', mine.publicKey), mine);
    assert.equal((await failureOf(keys.enroll('bob', mine.publicKey))).reason, 'KEY_TAKEN');
    assert.equal((await failureOf(keys.enroll('bob', 'AAAA'))).reason, 'PUBLIC_KEY');
    const unknown = await failureOf(keys.revoke('zz', 'operator bob'));
    assert.equal(unknown.reason, 'KEY_UNKNOWN');
    assert.match(unknown.message, /no signing key "zz"\. See "muster release keys"/);
    const revoked = await keys.revoke(mine.id, 'operator bob');
    assert.deepEqual(await keys.revoke(mine.id, 'operator eve'), revoked);
  });
});
