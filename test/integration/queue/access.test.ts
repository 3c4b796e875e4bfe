import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  CreateSubscriptionRequest,
  CreateTopicRequest,
  PublishMessagesRequest,
  PullRequest,
  QueueService,
  type SubscribeRequest,
  type SubscribeResponse,
} from '../../../generated/muster/v1/queue.js';
import { Authority, newKey } from '../../../src/center/access/authority.js';
import { systemClock } from '../../../src/kit/clock.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { IdentityHolder } from '../../../src/rpc/identity.js';
import type { Principal } from '../../../src/rpc/principal.js';
import type { Client, ClientDuplex } from '../../../src/rpc/types.js';
import { TestCenter } from '../../support/center.js';
import { createAuthority } from '../../support/certificates.js';
import { caOf, joinedAgent, serviceIdentity, TestQueue } from '../../support/queue-host.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

type QueueClient = Client<typeof QueueService>;

/** A client of the queue, with a certificate or without. */
function clientOf(
  t: TestContext,
  queue: TestQueue,
  tls: { identity: IdentityHolder } | { caPem: string },
): QueueClient {
  const channel = openChannel({ address: queue.ready.address, tls: { ...tls, expect: 'queue' } });
  t.after(() => {
    channel.close();
  });
  return createClient(QueueService, channel);
}

/** The operator on the queue's own machine. */
function operatorOf(t: TestContext, queue: TestQueue): QueueClient {
  const channel = openChannel({ address: `unix:${queue.ready.socket}` });
  t.after(() => {
    channel.close();
  });
  return createClient(QueueService, channel);
}

/** A certificate of the site for whom a test says, lasting an hour however short the site's own are. */
async function issue(center: TestCenter, principal: Principal): Promise<IdentityHolder> {
  const authority = await Authority.open(join(center.data, 'ca'), systemClock);
  const { publicKey, privateKeyPem } = await newKey();
  const { certificatePem } = await authority.sign({ publicKey, principal, lifetimeMs: 3_600_000 });
  return new IdentityHolder({ certificatePem, privateKeyPem, caPem: authority.caPem, site: authority.site });
}

function message(topic: string, text: string): PublishMessagesRequest {
  return PublishMessagesRequest.fromPartial({ topic, messages: [{ payload: Buffer.from(text) }] });
}

/** A Subscribe stream that keeps what it is given, and acknowledges nothing. */
class Consumer {
  readonly received: string[] = [];
  opened = false;
  error: unknown;
  readonly #stream: ClientDuplex<SubscribeRequest, SubscribeResponse>;

  constructor(t: TestContext, client: QueueClient, topic: string, subscription: string) {
    this.#stream = client.subscribe();
    t.after(() => {
      this.#stream.cancel();
    });
    void this.#run(topic, subscription);
  }

  async #run(topic: string, subscription: string): Promise<void> {
    try {
      const value = { topic, subscription, consumer: '', credit: undefined };
      await this.#stream.send({ frame: { $case: 'open', value } });
      for await (const { frame } of this.#stream) {
        if (frame?.$case === 'opened') this.opened = true;
        if (frame?.$case !== 'deliveries') continue;
        for (const { payload } of frame.value.messages) this.received.push(payload.toString());
      }
    } catch (error) {
      this.error = error;
    }
  }
}

describe('who may use a queue', () => {
  it('lets a service of the site use the topics that allow it, and says clearly where it may not', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.joined(t, center);
    const operator = operatorOf(t, queue);
    await operator.createTopic(CreateTopicRequest.fromPartial({ topic: { name: 'open' } }));
    const guarded = { name: 'guarded', publishers: ['shop-*'], subscribers: ['billing'] };
    await operator.createTopic(CreateTopicRequest.fromPartial({ topic: guarded }));
    const agent = await joinedAgent(t, center, 'web-1');
    const shop = clientOf(t, queue, { identity: await serviceIdentity(center, agent, 'shop-eu') });
    const billing = clientOf(t, queue, { identity: await serviceIdentity(center, agent, 'billing') });

    const mine = CreateSubscriptionRequest.fromPartial({ subscription: { topic: 'guarded', name: 'billing' } });
    await billing.createSubscription(mine);
    assert.equal((await shop.publish(message('guarded', 'an order'))).count, 1);
    const pulled = await billing.pull(PullRequest.fromPartial({ topic: 'guarded', subscription: 'billing' }));
    assert.deepEqual(
      pulled.messages.map((one) => one.message?.payload.toString()),
      ['an order'],
    );
    assert.equal((await billing.publish(message('open', 'anything'))).count, 1);

    const publishing = await failureOf(billing.publish(message('guarded', 'no order')));
    assert.deepEqual([publishing.code, publishing.reason], ['denied', 'NOT_A_PUBLISHER']);
    assert.match(publishing.message, /service billing on m-\S+ may not publish to topic "guarded"/);
    for (const call of [
      shop.createSubscription(CreateSubscriptionRequest.fromPartial({ subscription: { topic: 'guarded', name: 'x' } })),
      shop.pull(PullRequest.fromPartial({ topic: 'guarded', subscription: 'billing' })),
      shop.peek({ topic: 'guarded', from: undefined, limit: 1 }),
      shop.deleteSubscription({ topic: 'guarded', subscription: 'billing' }),
    ]) {
      const refused = await failureOf(call);
      assert.deepEqual([refused.code, refused.reason], ['denied', 'NOT_A_SUBSCRIBER']);
    }
    const stream = new Consumer(t, shop, 'guarded', 'billing');
    const refused = await waitFor('the refusal', () => stream.error);
    assert.match(String(refused), /may not subscribe to topic "guarded"/);

    assert.deepEqual((await shop.getTopic({ topic: 'guarded' })).publishers, ['shop-*'], 'who may use it may see it');
    for (const call of [
      shop.createTopic(CreateTopicRequest.fromPartial({ topic: { name: 'mine' } })),
      shop.deleteTopic({ topic: 'open', force: true }),
      shop.getStats({ topic: '' }),
      shop.seek({ topic: 'open', subscription: 's', to: undefined, dryRun: false }),
    ]) {
      const closed = await failureOf(call);
      assert.deepEqual([closed.code, closed.reason], ['denied', 'NOT_ALLOWED']);
    }
  });

  it('lets an operator do everything, over the network too, and agents and other queues nothing', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.joined(t, center);
    const ann = clientOf(t, queue, { identity: await issue(center, { kind: 'operator', name: 'ann' }) });
    await ann.createTopic(CreateTopicRequest.fromPartial({ topic: { name: 'news', publishers: ['nobody'] } }));
    assert.equal((await ann.publish(message('news', 'hello'))).count, 1);
    assert.equal((await ann.getStats({ topic: 'news' })).topics.length, 1);
    const agent = clientOf(t, queue, { identity: (await joinedAgent(t, center, 'web-1')).identity });
    const other = clientOf(t, queue, { identity: await issue(center, { kind: 'queue', name: 'other' }) });
    for (const client of [agent, other]) {
      for (const call of [client.publish(message('news', 'x')), client.getTopic({ topic: 'news' })]) {
        const refused = await failureOf(call);
        assert.deepEqual([refused.code, refused.reason], ['denied', 'NOT_ALLOWED']);
      }
    }
  });

  it('refuses whoever has no certificate, and one of another site', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.joined(t, center);
    const caPem = await caOf(center);
    const nobody = await failureOf(clientOf(t, queue, { caPem }).publish(message('news', 'x')));
    assert.deepEqual([nobody.code, nobody.reason], ['unauthenticated', 'NO_CREDENTIALS']);
    const principal: Principal = { kind: 'service', machine: 'm-1', service: 'orders' };
    const elsewhere = await (await createAuthority(center.ready.site)).issue({ principal });
    const impostor = new IdentityHolder({ ...elsewhere, caPem });
    const foreign = await failureOf(clientOf(t, queue, { identity: impostor }).publish(message('news', 'x')));
    assert.deepEqual([foreign.code, foreign.reason], ['unauthenticated', 'CERTIFICATE_WRONG_CA']);
    const distrusting = await failureOf(
      clientOf(t, queue, { identity: new IdentityHolder(elsewhere) }).getTopic({ topic: 'x' }),
    );
    assert.notEqual(distrusting.reason, 'NOT_ALLOWED', 'a service of another site does not believe this queue either');
    assert.notEqual(distrusting.code, 'not_found');
  });

  it('keeps a stream over a renewal on either side', async (t) => {
    const center = await TestCenter.start(t, { leafLifetimeMs: 6000 });
    const queue = await TestQueue.joined(t, center);
    const principal: Principal = { kind: 'service', machine: 'm-1', service: 'orders' };
    const identity = await issue(center, principal);
    const service = clientOf(t, queue, { identity });
    await operatorOf(t, queue).createTopic(CreateTopicRequest.fromPartial({ topic: { name: 'news' } }));
    const subscription = { topic: 'news', name: 'orders', start: undefined };
    await service.createSubscription(CreateSubscriptionRequest.fromPartial({ subscription }));
    const consumer = new Consumer(t, service, 'news', 'orders');
    await waitFor('the stream', () => consumer.opened);
    const certificate = (): Promise<string> => readFile(join(queue.data, 'identity', 'cert.pem'), 'utf8');
    const before = await certificate();
    await waitFor("the queue's renewal", async () => (await certificate()) !== before);
    identity.renew((await issue(center, principal)).current());
    assert.equal((await service.publish(message('news', 'over a new connection'))).count, 1);
    await waitFor('the message', () => consumer.received.length === 1);
    assert.deepEqual([consumer.received, consumer.error], [['over a new connection'], undefined]);
  });
});
