import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { Broker } from '../../../src/queue/broker.js';
import { subscriptionSettings } from '../../../src/queue/subscription/settings.js';
import { topicSettings } from '../../../src/queue/topic-settings.js';
import { CREDIT, failureOf, FULL } from '../../support/queue-delivery.js';
import { encoded, queueParts, TestSink, turns, type QueueParts } from '../../support/queue-parts.js';

const SETTINGS = topicSettings({ minRetentionMs: 5000, publishers: ['shop-*'] });
const MAIL = subscriptionSettings({ start: { at: 'earliest' }, backoff: { initialMs: 5 } });

interface Fixture extends QueueParts {
  readonly broker: Broker;
}

function open(parts: QueueParts, autoCreateTopics = false): Promise<Broker> {
  return Broker.open({ ...parts, autoCreateTopics });
}

async function fixture(autoCreateTopics = false): Promise<Fixture> {
  const parts = queueParts();
  return { ...parts, broker: await open(parts, autoCreateTopics) };
}

/** With topic "orders" and its subscription "mail". */
async function orders(): Promise<Fixture> {
  const parts = await fixture();
  await parts.broker.createTopic('orders', SETTINGS);
  await parts.broker.createSubscription('orders', 'mail', MAIL);
  return parts;
}

function failing(): never {
  throw FULL;
}

/** What a call that may fail at once, or later, fails with. */
function failure(call: () => unknown): Promise<MusterError> {
  return failureOf(Promise.resolve().then(call));
}

describe('topics', () => {
  it('are made, stored, and found again after a new start', async () => {
    const parts = await fixture();
    const record = await parts.broker.createTopic('orders', SETTINGS);
    assert.deepEqual(record, { id: 1, name: 'orders', settings: SETTINGS, revision: 1, createdMs: parts.clock.now() });
    await parts.broker.createTopic('billing', topicSettings({}));
    const again = await open(parts);
    assert.deepEqual(
      again.topics().map((topic) => topic.record.name),
      ['billing', 'orders'],
    );
    assert.deepEqual(again.topic('orders').record, record);
    assert.equal((await again.createTopic('new', SETTINGS)).id, 3);
  });

  it('are the same when they are made again the same, also after a new start', async () => {
    const parts = await fixture();
    const record = await parts.broker.createTopic('orders', SETTINGS);
    assert.deepEqual(await parts.broker.createTopic('orders', topicSettings({ ...SETTINGS })), record);
    const again = await open(parts);
    assert.deepEqual(await again.createTopic('orders', topicSettings({ ...SETTINGS })), record);
    const { code, message } = await failure(() => again.createTopic('orders', topicSettings({})));
    assert.equal(code, 'exists');
    assert.match(message, /topic orders exists already, with other settings: update it, or choose another name/);
  });

  it('are one when two make it at once', async () => {
    const { broker, log } = await fixture();
    const [a, b] = await Promise.all([broker.createTopic('orders', SETTINGS), broker.createTopic('orders', SETTINGS)]);
    assert.deepEqual([a, log.changes('topic').length], [b, 1]);
  });

  it('have names of letters, digits, dots, dashes and underscores', async () => {
    const { broker } = await fixture();
    for (const name of ['', '-a', 'a b', 'a/b', 'ü', 'a'.repeat(65), '../x']) {
      assert.equal((await failure(() => broker.createTopic(name, SETTINGS))).code, 'invalid', name);
      assert.equal((await failure(() => broker.createSubscription('orders', name, MAIL))).code, 'invalid', name);
    }
    await broker.createTopic('a'.repeat(64), SETTINGS);
    await broker.createTopic('A.b-c_1', SETTINGS);
  });

  it('that are not there are named with the nearest that is', async () => {
    const { broker } = await orders();
    const { code, reason, message, metadata } = await failure(() => broker.topic('order'));
    assert.deepEqual([code, reason, metadata], ['not_found', 'UNKNOWN_TOPIC', { topic: 'order' }]);
    assert.match(message, /there is no topic "order".*orders.*muster topic create order/);
  });

  it('change with their revision', async () => {
    const parts = await orders();
    const settings = topicSettings({ maxAgeMs: 1000 });
    const record = await parts.broker.updateTopic('orders', settings, 1);
    assert.deepEqual([record.revision, record.settings], [2, settings]);
    assert.deepEqual(parts.broker.topic('orders').record, record);
    const conflict = await failure(() => parts.broker.updateTopic('orders', SETTINGS, 1));
    assert.deepEqual([conflict.code, conflict.reason, conflict.metadata], ['conflict', 'REVISION', { revision: '2' }]);
    assert.equal((await parts.broker.updateTopic('orders', SETTINGS, 0)).revision, 3);
    assert.equal((await open(parts)).topic('orders').record.revision, 3);
    assert.equal((await failure(() => parts.broker.updateTopic('other', SETTINGS, 0))).code, 'not_found');
  });

  it('stay as they are when a change could not be stored', async () => {
    const { broker, log } = await orders();
    log.onCommit = failing;
    assert.equal(await failure(() => broker.updateTopic('orders', topicSettings({}), 0)), FULL);
    assert.equal(await failure(() => broker.createTopic('more', SETTINGS)), FULL);
    assert.equal(await failure(() => broker.deleteTopic('orders', true)), FULL);
    assert.deepEqual(broker.topic('orders').record.settings, SETTINGS);
    assert.equal((await failure(() => broker.topic('more'))).code, 'not_found');
    log.onCommit = () => undefined;
    await broker.topic('orders').publish(encoded('a'));
  });

  it('are made by their first use where that is allowed', async () => {
    const { broker } = await fixture(true);
    const [a, b] = await Promise.all([1, 2].map(() => broker.topicForUse('orders', () => SETTINGS)));
    assert.equal(a, b);
    assert.equal(await broker.topicForUse('orders', () => topicSettings({})), a);
    const strict = await orders();
    assert.equal((await failure(() => strict.broker.topicForUse('other', () => SETTINGS))).code, 'not_found');
  });

  it('are deleted when they are empty, or when that is forced', async () => {
    const parts = await orders();
    const { broker } = parts;
    const topic = broker.topic('orders');
    await topic.publish(encoded('a', { deliverAfter: { seconds: 60, nanos: 0 } }));
    const refused = await failure(() => broker.deleteTopic('orders', false));
    assert.deepEqual(
      [refused.code, refused.reason, refused.metadata],
      ['precondition', 'NOT_EMPTY', { messages: '2', deadLetters: '0' }],
    );
    const sink = new TestSink();
    broker.delivery('orders', 'mail').attach(sink, CREDIT);
    await broker.deleteTopic('orders', true);
    assert.equal(sink.ended?.code, 'not_found');
    assert.equal((await failureOf(topic.publish(encoded('b')))).code, 'not_found');
    assert.equal((await failure(() => broker.topic('orders'))).code, 'not_found');
    assert.deepEqual((await open(parts)).topics(), []);
    const record = await broker.createTopic('orders', SETTINGS);
    assert.deepEqual([record.id, broker.topic('orders').next, broker.deliveries(broker.topic('orders'))], [2, 1, []]);
  });

  it('with dead letters are not empty', async () => {
    const { broker } = await fixture();
    await broker.createTopic('orders', topicSettings({}));
    await broker.createSubscription('orders', 'mail', subscriptionSettings({ maxAttempts: 1 }));
    const delivery = broker.delivery('orders', 'mail');
    const id = delivery.attach(new TestSink(), CREDIT);
    const topic = broker.topic('orders');
    await topic.publish(encoded('a'));
    await delivery.quiet();
    const nacks = [{ range: { first: 1, last: 1 }, deadLetter: true, reason: 'no' }];
    await delivery.settle(id, { acks: [], nacks, extends: [] }).stored;
    await topic.moveHead(2);
    const { metadata } = await failure(() => broker.deleteTopic('orders', false));
    assert.deepEqual(metadata, { messages: '0', deadLetters: '1' });
  });

  it('are empty when all has settled what is still stored', async () => {
    const { broker } = await orders();
    await broker.createSubscription('orders', 'late', subscriptionSettings({}));
    const topic = broker.topic('orders');
    const delivery = broker.delivery('orders', 'mail');
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a', 'b'));
    await delivery.quiet();
    await delivery.settle(id, { acks: [{ first: 1, last: 2 }], nacks: [], extends: [] }).stored;
    assert.equal((await failure(() => broker.deleteTopic('orders', false))).metadata['messages'], '2');
    await broker.delivery('orders', 'late').seekTo(3);
    assert.equal(topic.head, 1);
    await broker.deleteTopic('orders', false);
    assert.equal((await failure(() => broker.deleteTopic('orders', false))).code, 'not_found');
  });

  it('without subscriptions are empty when nothing is stored', async () => {
    const { broker } = await fixture();
    for (const name of ['orders', 'billing']) await broker.createTopic(name, topicSettings({}));
    await broker.topic('orders').publish(encoded('a'));
    assert.equal((await failure(() => broker.deleteTopic('orders', false))).reason, 'NOT_EMPTY');
    await broker.deleteTopic('billing', false);
  });

  it('are told once to upkeep when something was settled', async () => {
    const { broker } = await orders();
    const topic = broker.topic('orders');
    assert.deepEqual(broker.takeTouched(), [topic]);
    assert.deepEqual(broker.takeTouched(), []);
    const delivery = broker.delivery('orders', 'mail');
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a'));
    await delivery.quiet();
    await delivery.settle(id, { acks: [{ first: 1, last: 1 }], nacks: [], extends: [] }).stored;
    assert.deepEqual(broker.takeTouched(), [topic]);
  });
});

describe('subscriptions', () => {
  it('are made, stored, and found again after a new start', async () => {
    const parts = await orders();
    const { record } = parts.broker.delivery('orders', 'mail');
    assert.deepEqual(record, {
      topicId: 1,
      id: 1,
      name: 'mail',
      settings: MAIL,
      revision: 1,
      createdMs: parts.clock.now(),
    });
    await parts.broker.createSubscription('orders', 'audit', MAIL);
    const again = await open(parts);
    assert.deepEqual(
      again.deliveries(again.topic('orders')).map((delivery) => delivery.record.name),
      ['audit', 'mail'],
    );
    assert.deepEqual(again.delivery('orders', 'mail').record, record);
    assert.equal(again.topic('orders').subscribers.size, 2);
  });

  it('are the same when they are made again the same, also after a new start', async () => {
    const parts = await orders();
    const { record } = parts.broker.delivery('orders', 'mail');
    assert.deepEqual(await parts.broker.createSubscription('orders', 'mail', { ...MAIL }), record);
    const again = await open(parts);
    assert.deepEqual(await again.createSubscription('orders', 'mail', { ...MAIL }), record);
    const other = subscriptionSettings({ ...MAIL, leaseMs: 5000 });
    assert.equal((await failure(() => again.createSubscription('orders', 'mail', other))).code, 'exists');
  });

  it('start where they ask', async () => {
    const { broker, clock } = await fixture();
    await broker.createTopic('orders', SETTINGS);
    const topic = broker.topic('orders');
    await topic.publish(encoded('a', 'b'));
    await clock.advance(1000);
    const timeMs = clock.now();
    await topic.publish(encoded('c'));
    await topic.publish(encoded('d'));
    await topic.moveHead(2);
    const starts = {
      earliest: [{ at: 'earliest' }, 2],
      latest: [{ at: 'latest' }, 5],
      below: [{ at: 'sequence', sequence: 1 }, 2],
      within: [{ at: 'sequence', sequence: 4 }, 4],
      beyond: [{ at: 'sequence', sequence: 900 }, 5],
      time: [{ at: 'time', timeMs }, 3],
      early: [{ at: 'time', timeMs: 0 }, 2],
      future: [{ at: 'time', timeMs: timeMs + 1 }, 5],
    } as const;
    for (const [name, [start, floor]] of Object.entries(starts)) {
      await broker.createSubscription('orders', name, subscriptionSettings({ start }));
      assert.equal(broker.delivery('orders', name).floor, floor, name);
    }
  });

  it('get everything that is published from their making on, though it is made while messages come', async () => {
    const { broker } = await fixture();
    await broker.createTopic('orders', SETTINGS);
    const topic = broker.topic('orders');
    const published = [topic.publish(encoded('a')), topic.publish(encoded('b'))];
    const making = broker.createSubscription('orders', 'mail', subscriptionSettings({}));
    published.push(topic.publish(encoded('c')));
    await making;
    published.push(topic.publish(encoded('d')));
    const sink = new TestSink();
    broker.delivery('orders', 'mail').attach(sink, CREDIT);
    await Promise.all(published);
    await broker.delivery('orders', 'mail').quiet();
    assert.ok(['abcd', 'bcd', 'cd', 'd'].includes(sink.payloads.join('')), sink.payloads.join(''));
  });

  it('that are not there are named with the nearest that is', async () => {
    const { broker } = await orders();
    const { code, reason, message } = await failure(() => broker.delivery('orders', 'mial'));
    assert.deepEqual([code, reason], ['not_found', 'UNKNOWN_SUBSCRIPTION']);
    assert.match(message, /topic orders has no subscription "mial".*mail.*muster subscription create orders mial/);
    assert.equal((await failure(() => broker.createSubscription('x', 'mail', MAIL))).code, 'not_found');
  });

  it('change with their revision, but not their start and order', async () => {
    const parts = await orders();
    const of = { topic: 'orders', name: 'mail' };
    const wanted = subscriptionSettings({ leaseMs: 5000, ordered: true, start: { at: 'latest' } });
    const record = await parts.broker.updateSubscription({ ...of, revision: 1 }, wanted);
    assert.deepEqual([record.revision, record.settings], [2, { ...wanted, start: MAIL.start, ordered: false }]);
    assert.deepEqual(parts.broker.delivery('orders', 'mail').record, record);
    const conflict = await failure(() => parts.broker.updateSubscription({ ...of, revision: 1 }, wanted));
    assert.equal(conflict.code, 'conflict');
    assert.deepEqual((await open(parts)).delivery('orders', 'mail').record, record);
  });

  it('are deleted with their consumers, and no longer keep messages', async () => {
    const parts = await orders();
    const { broker } = parts;
    broker.takeTouched();
    const sink = new TestSink();
    broker.delivery('orders', 'mail').attach(sink, CREDIT);
    await broker.deleteSubscription('orders', 'mail');
    assert.equal(sink.ended?.reason, 'UNKNOWN_SUBSCRIPTION');
    assert.equal(broker.topic('orders').subscribers.size, 0);
    assert.deepEqual(broker.takeTouched(), [broker.topic('orders')]);
    assert.equal((await failure(() => broker.delivery('orders', 'mail'))).code, 'not_found');
    const again = await open(parts);
    assert.deepEqual(again.deliveries(again.topic('orders')), []);
    assert.equal((await broker.createSubscription('orders', 'mail', MAIL)).id, 2);
  });

  it('stay as they are when a change could not be stored', async () => {
    const { broker, log } = await orders();
    const topic = broker.topic('orders');
    log.onCommit = failing;
    assert.equal(await failure(() => broker.createSubscription('orders', 'audit', MAIL)), FULL);
    assert.equal(topic.subscribers.size, 1);
    const update = { topic: 'orders', name: 'mail', revision: 0 };
    assert.equal(await failure(() => broker.updateSubscription(update, subscriptionSettings({}))), FULL);
    assert.equal(await failure(() => broker.deleteSubscription('orders', 'mail')), FULL);
    log.onCommit = () => undefined;
    assert.deepEqual(broker.delivery('orders', 'mail').record.settings, MAIL);
    const sink = new TestSink();
    broker.delivery('orders', 'mail').attach(sink, CREDIT);
    await topic.publish(encoded('a'));
    await broker.delivery('orders', 'mail').quiet();
    assert.deepEqual(sink.payloads, ['a']);
  });

  it('settle and die without harm to others while they are deleted', async () => {
    const { broker, log } = await orders();
    const topic = broker.topic('orders');
    const delivery = broker.delivery('orders', 'mail');
    const id = delivery.attach(new TestSink(), CREDIT);
    await topic.publish(encoded('a', 'b'));
    await delivery.quiet();
    const settled = delivery.settle(id, { acks: [{ first: 1, last: 1 }], nacks: [], extends: [] }).stored;
    const [, published] = await Promise.all([
      broker.deleteSubscription('orders', 'mail'),
      topic.publish(encoded('c')),
      settled,
    ]);
    delivery.detach(id, { counts: true });
    await turns();
    assert.deepEqual([published.firstSequence, log.changes('subscription removed').length], [3, 1]);
  });
});

describe('a broker that is closed', () => {
  it('ends every consumer', async () => {
    const { broker } = await orders();
    const sink = new TestSink();
    broker.delivery('orders', 'mail').attach(sink, CREDIT);
    const stopping = new MusterError('unavailable', 'the queue is stopping');
    broker.close(stopping);
    assert.equal(sink.ended, stopping);
  });
});
