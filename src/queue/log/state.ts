/** What the log remembers of each topic between calls: small, and always what is durable. */
import { MusterError } from '../../kit/errors.js';
import type { Bounds, DelayedSummary } from './records.js';

export interface TopicState {
  readonly name: string;
  readonly bounds: Bounds;
  readonly delayed: DelayedSummary;
  /** Dead letters of each subscription, the replayed ones not counted. */
  readonly dead: ReadonlyMap<number, number>;
}

export interface LogState {
  readonly topics: Map<number, TopicState>;
  nextTopicId: number;
}

/** A caller broke the port's rules. */
export function bug(what: string): MusterError {
  return new MusterError('internal', `the queue's log refuses a change: ${what}`);
}

/** @throws internal when there is no such topic */
export function stateOf(topics: ReadonlyMap<number, TopicState>, topicId: number): TopicState {
  const state = topics.get(topicId);
  if (!state) throw bug(`there is no topic ${topicId}`);
  return state;
}
