import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Topic } from '../../../generated/muster/v1/queue.js';
import { connectQueue as connectLibrary } from '../../../src/client/queue/index.js';
import { TestQueue } from '../../support/queue-host.js';
import { connectQueue } from '../../support/queue-process.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

describe('a topic that is deleted and made again', () => {
  it('is published to by publishers of before, once they have heard of the deletion', async (t) => {
    const queue = await TestQueue.make(t);
    await queue.start();
    const address = `unix:${queue.ready.socket}`;
    const operator = connectQueue(address);
    t.after(() => {
      operator.close();
    });
    const topic = Topic.fromPartial({ name: 't' });
    await operator.client.createTopic({ topic });
    const library = connectLibrary({ address });
    t.after(() => library.close());
    await library.publish('t', 'one');
    await operator.client.deleteTopic({ topic: 't', force: true });
    const { code, reason } = await failureOf(library.publish('t', 'two'));
    assert.deepEqual([code, reason], ['not_found', 'UNKNOWN_TOPIC']);
    await operator.client.createTopic({ topic });
    await waitFor('the publisher to reach the new topic', async () => {
      const { sequences } = await library.publish('t', 'three').catch(() => ({ sequences: [] }));
      return sequences[0] === 1;
    });
  });
});
