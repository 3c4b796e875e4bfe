import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { assertQueueName, topicSettings, type WantedTopicSettings } from '../../../src/queue/topic-settings.js';

const DAY_MS = 24 * 3600 * 1000;

/** Fields that are out of their bounds. */
function refused(wanted: WantedTopicSettings): string[] {
  try {
    topicSettings(wanted);
  } catch (error) {
    assert.ok(error instanceof MusterError && error.code === 'invalid' && error.reason === 'TOPIC_SETTINGS');
    assert.ok(error.message.includes(error.fields[0]?.field ?? '?'));
    return error.fields.map(({ field }) => field);
  }
  return [];
}

describe('settings of a topic', () => {
  it('have defaults', () => {
    assert.deepEqual(topicSettings({}), {
      minRetentionMs: 0,
      maxAgeMs: 0,
      maxBytes: 0,
      onFull: 'REJECT',
      dedupeWindowMs: 120_000,
      publishers: [],
      subscribers: [],
    });
  });

  it('are taken at their bounds', () => {
    const most: WantedTopicSettings = {
      minRetentionMs: 3650 * DAY_MS,
      maxAgeMs: 3650 * DAY_MS,
      maxBytes: Number.MAX_SAFE_INTEGER,
      onFull: 'DROP_OLDEST',
      dedupeWindowMs: 7 * DAY_MS,
      publishers: Array.from({ length: 100 }, (_, index) => `service-${index}.*`),
      subscribers: ['*', 'a'.repeat(128)],
    };
    assert.deepEqual(topicSettings(most), most);
    assert.deepEqual(refused({ maxBytes: 1024 * 1024, dedupeWindowMs: 1 }), []);
    assert.equal(topicSettings({ dedupeWindowMs: 3333.3 }).dedupeWindowMs, 3334);
  });

  it('are refused outside, all at once', () => {
    const far = 3650 * DAY_MS + 1;
    const fields = ['min_retention', 'max_age', 'max_bytes', 'dedupe_window', 'publishers', 'subscribers'];
    assert.deepEqual(
      refused({
        minRetentionMs: -1,
        maxAgeMs: far,
        maxBytes: 1024 * 1024 - 1,
        dedupeWindowMs: 0,
        publishers: ['a b'],
        subscribers: Array.from({ length: 101 }, () => 'x'),
      }),
      fields,
    );
    assert.deepEqual(
      refused({
        minRetentionMs: far,
        maxAgeMs: -1,
        maxBytes: -1,
        dedupeWindowMs: 7 * DAY_MS + 1,
        publishers: [''],
        subscribers: ['a'.repeat(129)],
      }),
      fields,
    );
    assert.deepEqual(refused({ maxAgeMs: NaN, maxBytes: 2 ** 53 }), ['max_age', 'max_bytes']);
  });
});

describe('names of topics and subscriptions', () => {
  it('begin with a letter or digit, and are shown cut when they are wrong', () => {
    for (const name of ['a', '0', 'Orders.v1_x-y', 'a'.repeat(64)]) assertQueueName('topic', name);
    for (const name of ['', '.', '-x', '_x', 'a/b', 'a\n', 'é', 'a'.repeat(65)]) {
      assert.throws(
        () => {
          assertQueueName('subscription', name);
        },
        {
          code: 'invalid',
          fields: [
            { field: 'subscription.name', description: 'letters, digits, dots, dashes, underscores; at most 64' },
          ],
        },
        name,
      );
    }
    assert.throws(
      () => {
        assertQueueName('topic', 'x y'.repeat(100));
      },
      (error) => error instanceof MusterError && error.message.length < 300,
    );
  });
});
