import { MusterError } from '../kit/errors.js';
import type { TopicSettings } from './log/port.js';
import { assertSettings, within, type Check } from './settings-check.js';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const RETENTION_MAX_MS = 3650 * DAY_MS;
const DEDUPE_WINDOW_MAX_MS = 7 * DAY_MS;
/** A limit below one batch would refuse everything. */
const BYTES_MIN = 1024 * 1024;
const PATTERNS_MAX = 100;
const PATTERN = /^[A-Za-z0-9*._-]{1,128}$/;

/** Names of topics and subscriptions. */
export const QUEUE_NAME_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,63})$/;

/** What was asked for; undefined stands for the default. */
export type WantedTopicSettings = { readonly [Name in keyof TopicSettings]?: TopicSettings[Name] | undefined };

/**
 * Fills in the defaults and checks the bounds.
 * @throws invalid, naming every field (as in the contract) that is out of its bounds
 */
export function topicSettings(wanted: WantedTopicSettings): TopicSettings {
  const settings: TopicSettings = {
    minRetentionMs: wanted.minRetentionMs ?? 0,
    maxAgeMs: wanted.maxAgeMs ?? 0,
    maxBytes: wanted.maxBytes ?? 0,
    onFull: wanted.onFull ?? 'REJECT',
    // A part of its keys.
    dedupeWindowMs: Math.ceil(wanted.dedupeWindowMs ?? 2 * MINUTE_MS),
    publishers: wanted.publishers ?? [],
    subscribers: wanted.subscribers ?? [],
  };
  assertSettings('topic', 'TOPIC_SETTINGS', checks(settings));
  return settings;
}

function checks(settings: TopicSettings): readonly Check[] {
  const { minRetentionMs, maxAgeMs, maxBytes, dedupeWindowMs } = settings;
  return [
    [within(minRetentionMs, 0, RETENTION_MAX_MS), 'min_retention', 'must be from 0 (not at all) to 3650 days'],
    [within(maxAgeMs, 0, RETENTION_MAX_MS), 'max_age', 'must be from 0 (no limit) to 3650 days'],
    [
      maxBytes === 0 || within(maxBytes, BYTES_MIN, Number.MAX_SAFE_INTEGER),
      'max_bytes',
      'must be 1048576 (1 MiB) or more, or 0 (no limit but the disk)',
    ],
    [within(dedupeWindowMs, 1, DEDUPE_WINDOW_MAX_MS), 'dedupe_window', 'must be more than 0 and at most 7 days'],
    [
      patterns(settings.publishers),
      'publishers',
      'must be at most 100 names of services, in which * stands for any text',
    ],
    [
      patterns(settings.subscribers),
      'subscribers',
      'must be at most 100 names of services, in which * stands for any text',
    ],
  ];
}

function patterns(list: readonly string[]): boolean {
  return list.length <= PATTERNS_MAX && list.every((one) => PATTERN.test(one));
}

/** @throws invalid */
export function assertQueueName(what: 'topic' | 'subscription', name: string): void {
  if (QUEUE_NAME_PATTERN.test(name)) return;
  throw new MusterError(
    'invalid',
    `"${name.slice(0, 80)}" cannot be the name of a ${what}: use letters, digits, dots, dashes and underscores, beginning with a letter or digit, at most 64`,
    { fields: [{ field: `${what}.name`, description: 'letters, digits, dots, dashes, underscores; at most 64' }] },
  );
}
