import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  PublishStreamResponse,
  SettleFrame,
  SubscribeResponse,
  Subscription,
  Topic,
  type Credit,
  type Position,
} from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../../src/kit/errors.js';
import { subscriptionSettings } from '../../../src/queue/subscription/settings.js';
import { topicSettings } from '../../../src/queue/topic-settings.js';
import {
  acksFrame,
  cutReason,
  decodeMessage,
  drainingFrame,
  fromCredit,
  fromFirstCredit,
  fromPosition,
  fromSettle,
  fromSubscription,
  fromTopic,
  openedFrame,
  settledFrame,
  splitMessages,
  subscribeOpenedFrame,
  toCredit,
  toDeadLetter,
  toPublishResponse,
  toSubscription,
  toTopic,
} from '../../../src/queue/wire.js';
import { fieldsOf, message } from '../../support/queue-parts.js';

const CREATED_MS = 1_700_000_000_123;

function thrownBy(work: () => unknown): MusterError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof MusterError);
    return error;
  }
  throw new Error('it was to fail');
}

describe('topics of the contract', () => {
  it('come and go unchanged', () => {
    const settings = topicSettings({
      minRetentionMs: 1500,
      maxAgeMs: 60_000,
      maxBytes: 2_000_000,
      onFull: 'DROP_OLDEST',
      dedupeWindowMs: 10_000,
      publishers: ['a*'],
      subscribers: ['b', 'c'],
    });
    const sent = toTopic({ id: 9, name: 'orders', settings, revision: 4, createdMs: CREATED_MS });
    const got = Topic.decode(Topic.encode(sent).finish());
    assert.deepEqual(fromTopic(got), settings);
    assert.deepEqual([got.name, got.revision, got.created?.getTime()], ['orders', 4, CREATED_MS]);
  });

  it('have the defaults where nothing is said', () => {
    assert.deepEqual(fromTopic(Topic.fromPartial({ name: 'orders' })), topicSettings({}));
    assert.equal(fromTopic(Topic.fromPartial({ onFull: 'ON_FULL_REJECT' })).onFull, 'REJECT');
  });

  it('are refused where they are out of bounds', () => {
    const { fields } = thrownBy(() => fromTopic(Topic.fromPartial({ maxAge: { seconds: -1, nanos: 0 } })));
    assert.deepEqual(
      fields.map(({ field }) => field),
      ['max_age'],
    );
    const unknown = thrownBy(() => fromTopic(Topic.fromPartial({ onFull: 'UNRECOGNIZED' })));
    assert.deepEqual([unknown.code, unknown.fields[0]?.field], ['invalid', 'topic.on_full']);
  });
});

describe('subscriptions of the contract', () => {
  it('come and go unchanged', () => {
    const starts = [
      { at: 'earliest' },
      { at: 'latest' },
      { at: 'sequence', sequence: 7 },
      { at: 'time', timeMs: CREATED_MS },
    ] as const;
    for (const start of starts) {
      const settings = subscriptionSettings({
        start,
        leaseMs: 5000,
        maxAttempts: 3,
        backoff: { initialMs: 10, maxMs: 1000, multiplier: 1.5 },
        ordered: true,
        expireAfterIdleMs: 60_000,
        paused: true,
      });
      const record = { topicId: 1, id: 2, name: 'mail', settings, revision: 3, createdMs: CREATED_MS };
      const got = Subscription.decode(Subscription.encode(toSubscription('orders', record)).finish());
      assert.deepEqual(fromSubscription(got), settings);
      assert.deepEqual([got.topic, got.name, got.revision, got.created?.getTime()], ['orders', 'mail', 3, CREATED_MS]);
    }
  });

  it('have the defaults where nothing is said', () => {
    assert.deepEqual(fromSubscription(Subscription.fromPartial({})), subscriptionSettings({}));
    assert.deepEqual(fromSubscription(Subscription.fromPartial({ backoff: {} })), subscriptionSettings({}));
  });

  it('start nowhere when the time is none', () => {
    const position: Position = { at: { $case: 'time', value: new Date(NaN) } };
    const { code, fields } = thrownBy(() => fromPosition(position, 'subscription.start'));
    assert.deepEqual([code, fields[0]?.field], ['invalid', 'subscription.start.time']);
    assert.equal(fromPosition(undefined, 'to'), undefined);
    assert.equal(fromPosition({ at: undefined }, 'to'), undefined);
  });
});

describe('credit', () => {
  const of = (maxMessages: number, maxBytes: number): Credit => ({ maxMessages, maxBytes });

  it('has defaults and bounds when a stream opens', () => {
    assert.deepEqual(fromFirstCredit(undefined), of(1000, 4 * 1024 * 1024));
    assert.deepEqual(fromFirstCredit(of(0, 0)), of(1000, 4 * 1024 * 1024));
    assert.deepEqual(fromFirstCredit(of(5, 6)), of(5, 6));
    assert.deepEqual(fromFirstCredit(of(4_000_000_000, 4_000_000_000)), of(65_536, 64 * 1024 * 1024));
  });

  it('pauses with 0 messages, and keeps its bytes with 0, when it changes', () => {
    assert.deepEqual(fromCredit(of(0, 0), of(5, 6)), of(0, 6));
    assert.deepEqual(fromCredit(of(4_000_000_000, 7), of(5, 6)), of(65_536, 7));
    assert.deepEqual(fromCredit(of(1, 4_000_000_000), of(5, 6)), of(1, 64 * 1024 * 1024));
    assert.deepEqual(toCredit(of(1, 2)), of(1, 2));
  });
});

describe('what is settled', () => {
  it('is read with its ranges, delays and reasons', () => {
    const frame = SettleFrame.fromPartial({
      id: 4,
      acks: [{ first: 1, last: 3 }, { first: 9 }],
      nacks: [
        { deliveries: { first: 4 }, delay: { seconds: 1, nanos: 500_000_000 }, reason: 'later' },
        { deliveries: { first: 5 }, deadLetter: true },
      ],
      extends: [{ deliveries: { first: 6, last: 7 }, lease: { seconds: 60 } }, { deliveries: { first: 8 } }],
    });
    assert.deepEqual(fromSettle(SettleFrame.decode(SettleFrame.encode(frame).finish())), {
      acks: [
        { first: 1, last: 3 },
        { first: 9, last: 0 },
      ],
      nacks: [
        { range: { first: 4, last: 0 }, delayMs: 1500, deadLetter: false, reason: 'later' },
        { range: { first: 5, last: 0 }, delayMs: undefined, deadLetter: true, reason: '' },
      ],
      extends: [
        { range: { first: 6, last: 7 }, leaseMs: 60_000 },
        { range: { first: 8, last: 0 }, leaseMs: undefined },
      ],
    });
  });

  it('must name deliveries', () => {
    for (const more of [{ nacks: [{}] }, { extends: [{}] }]) {
      const { code, message: says } = thrownBy(() => fromSettle(SettleFrame.fromPartial({ id: 1, ...more })));
      assert.equal(code, 'invalid');
      assert.match(says, /names no deliveries/);
    }
  });

  it('keeps 1,024 bytes of a reason, and no half character', () => {
    assert.equal(cutReason('short é'), 'short é');
    assert.equal(cutReason('x'.repeat(1024)).length, 1024);
    assert.equal(cutReason('x'.repeat(2000)), 'x'.repeat(1024));
    assert.equal(cutReason(`${'x'.repeat(1023)}é`), 'x'.repeat(1023));
    assert.equal(cutReason('€'.repeat(400)), '€'.repeat(341));
  });
});

describe('frames that the queue sends', () => {
  const subscribe = (bytes: Buffer): SubscribeResponse['frame'] => SubscribeResponse.decode(bytes).frame;

  it('open a publishing stream', () => {
    const frame = PublishStreamResponse.decode(PublishStreamResponse.encode(openedFrame(7)).finish()).frame;
    assert.deepEqual(frame, { $case: 'opened', value: { lastBatch: 7 } });
  });

  it('acknowledge and refuse batches', () => {
    const published = {
      firstSequence: 5,
      count: 2,
      duplicates: [{ index: 1, sequence: 3 }],
      delayed: 1,
      repeated: true,
    };
    const details = { reason: 'TOPIC_FULL', retryAfterMs: 1500 };
    const full = new MusterError('exhausted', 'topic orders is full', details);
    const frame = acksFrame([
      { batch: 1, published },
      { batch: 2, refused: full },
      { batch: 3, refused: new MusterError('invalid', 'no') },
    ]);
    const { frame: got } = PublishStreamResponse.decode(PublishStreamResponse.encode(frame).finish());
    const nothing = { firstSequence: 0, count: 0, duplicates: [], delayed: 0, repeatedBatch: false };
    assert.deepEqual(got, {
      $case: 'acks',
      value: {
        acks: [
          {
            batch: 1,
            firstSequence: 5,
            count: 2,
            duplicates: [{ index: 1, sequence: 3 }],
            delayed: 1,
            repeatedBatch: true,
            refusal: undefined,
          },
          {
            batch: 2,
            ...nothing,
            refusal: {
              code: 8,
              reason: 'TOPIC_FULL',
              message: 'topic orders is full',
              retryAfter: { seconds: 1, nanos: 500_000_000 },
            },
          },
          { batch: 3, ...nothing, refusal: { code: 3, reason: '', message: 'no', retryAfter: undefined } },
        ],
      },
    });
    const { firstSequence, count, duplicates, delayed } = published;
    assert.deepEqual(toPublishResponse(published), { firstSequence, count, duplicates, delayed });
  });

  it('tell a consumer that it is open, what is settled, and that the queue stops', () => {
    const subscription = Subscription.fromPartial({ topic: 'orders', name: 'mail' });
    const opened = { subscription, credit: { maxMessages: 1, maxBytes: 2 } };
    assert.deepEqual(subscribe(subscribeOpenedFrame(opened)), { $case: 'opened', value: opened });
    const notice = { id: 3, failures: [{ delivery: 7, reason: 'LEASE_OVER' as const }] };
    assert.deepEqual(subscribe(settledFrame(notice)), { $case: 'settled', value: notice });
    assert.deepEqual(subscribe(drainingFrame()), { $case: 'draining', value: {} });
  });
});

describe('stored messages', () => {
  it('are parted and decoded', () => {
    const fields = splitMessages(fieldsOf('a', { payload: Buffer.from('b'), key: 'k', attributes: { x: 'y' } }, ''));
    assert.deepEqual(fields.map(decodeMessage), [
      message('a'),
      message({ payload: Buffer.from('b'), key: 'k', attributes: { x: 'y' } }),
      message(''),
    ]);
    assert.deepEqual(splitMessages(Buffer.alloc(0)), []);
  });

  it('are shown as dead letters', () => {
    const letter = {
      sequence: 4,
      message: fieldsOf('a'),
      publishedMs: 1000,
      diedMs: 2000,
      attempts: 3,
      reason: 'no',
      replayed: false,
    };
    assert.deepEqual(toDeadLetter(letter), {
      sequence: 4,
      message: message('a'),
      published: new Date(1000),
      died: new Date(2000),
      attempts: 3,
      reason: 'no',
    });
  });
});
