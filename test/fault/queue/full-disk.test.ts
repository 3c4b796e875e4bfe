import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { Subscription } from '../../../generated/muster/v1/queue.js';
import { connectQueue as connectLibrary } from '../../../src/client/queue/index.js';
import type { MusterError } from '../../../src/kit/errors.js';
import type { QueueClient } from '../../support/queue-process.js';
import { QueueProcess } from '../../support/queue-process.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';
import { seedOf, smallDisk } from '../store/support.js';
import { TOPIC as topic } from './life.js';
import { OneByOne } from './one-by-one.js';

const FILLER_BYTES = 1_500_000;
const MESSAGE_BYTES = 4096;
const MESSAGES_MAX = 2000;
const AFTER = 100;

/** What publishing is refused with at last. */
async function fill(client: QueueClient, one: OneByOne): Promise<MusterError> {
  for (let n = 0; n < MESSAGES_MAX; n += 1) {
    const refusal = await one.publish(client, MESSAGE_BYTES);
    if (refusal) return refusal;
  }
  throw new Error('the disk never became full');
}

it('refuses messages before the disk is full, lets consumers settle, and takes messages again by itself', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  const args = ['--free-space-floor', '1MiB', '--write-buffer', '64KiB'];
  const queue = await QueueProcess.make(t, { data: join(disk, 'queue'), args });
  const one = new OneByOne(seedOf(t));
  const filler = join(disk, 'filler');
  await writeFile(filler, new Uint8Array(FILLER_BYTES));
  await queue.start();
  const connected = queue.connect();
  const { client } = connected;
  t.after(() => {
    connected.close();
  });
  await one.setUp(client);
  await client.createSubscription({ subscription: Subscription.fromPartial({ topic, name: 'doomed' }) });

  const refusal = await fill(client, one);
  assert.equal(refusal.code, 'exhausted');
  assert.equal(refusal.reason, 'DISK_ALMOST_FULL');
  assert.match(refusal.message, /free some space/);
  const before = one.judge.acknowledged.size;
  t.diagnostic(`${before} acknowledged, then: ${refusal.message}`);

  assert.equal(await one.consume(client, 20), 20, 'consumers cannot settle');
  await client.deleteSubscription({ topic, subscription: 'doomed' });
  assert.equal((await client.listSubscriptions({ topic, pageSize: 0, pageToken: '' })).subscriptions.length, 1);

  await rm(filler);
  await waitFor('messages to be taken again', async () => (await one.publish(client, MESSAGE_BYTES)) === undefined);
  for (let n = 0; n < AFTER; n += 1) assert.equal(await one.publish(client, MESSAGE_BYTES), undefined);

  await queue.kill();
  await queue.start();
  assert.deepEqual(await queue.ask((fresh) => one.finish(fresh)), []);
});

it('is emptied by its consumers where only the queue itself fills the disk, and then takes messages again', async (t) => {
  const disk = await smallDisk(t);
  if (disk === undefined) return;
  const args = ['--free-space-floor', '1536KiB', '--write-buffer', '64KiB'];
  const queue = await QueueProcess.make(t, { data: join(disk, 'queue'), args });
  const one = new OneByOne(seedOf(t));
  await queue.start();
  const connected = queue.connect();
  const { client } = connected;
  t.after(() => {
    connected.close();
  });
  await one.setUp(client);
  for (let round = 0; round < 3; round += 1) {
    assert.equal((await fill(client, one)).reason, 'DISK_ALMOST_FULL');
    // The refused one was not stored, so the next one takes its place in the order.
    while ((await one.consume(client, 100)) > 0);
    await waitFor('messages to be taken again', async () => (await one.publish(client, MESSAGE_BYTES)) === undefined);
  }
  assert.deepEqual(await one.finish(client), []);
});

it('tells the library so where the topic would only be made, at once, and not that it cannot be reached', async (t) => {
  const queue = await QueueProcess.make(t, { args: ['--free-space-floor', '100TB', '--auto-create-topics'] });
  await queue.start();
  const library = connectLibrary({ address: queue.address });
  t.after(() => library.close());
  const refusal = await failureOf(library.publish('fresh', 'x'));
  assert.deepEqual([refusal.code, refusal.reason], ['exhausted', 'DISK_ALMOST_FULL']);
});
