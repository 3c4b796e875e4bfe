/** What a caller may reach: the topic or subscription by its name, once it is known that the caller may use it. */
import type { CallContext } from '../rpc/types.js';
import { assertMayPublish, assertMaySubscribe } from './access.js';
import type { Broker } from './broker.js';
import type { Delivery } from './delivery.js';
import type { Topic } from './topic.js';
import { topicSettings } from './topic-settings.js';

type Caller = Pick<CallContext, 'principal'>;

/** The topic, made where the queue makes topics on first use. @throws not_found, denied */
export async function topicToPublish(broker: Broker, name: string, { principal }: Caller): Promise<Topic> {
  const topic = await broker.topicForUse(name, () => topicSettings({}));
  assertMayPublish(principal, topic.record);
  return topic;
}

/** @throws not_found, denied */
export function subscriptionToUse(
  broker: Broker,
  names: { readonly topic: string; readonly subscription: string },
  { principal }: Caller,
): Delivery {
  assertMaySubscribe(principal, broker.topic(names.topic).record);
  return broker.delivery(names.topic, names.subscription);
}
