/** `muster/queue`: publishing and subscribing from a program. */
export { connectQueue, type Published, type Queue, type QueueOptions } from './queue.js';
export type { Content, OutgoingMessage } from './message.js';
export type { Publisher, PublisherOptions } from './publisher.js';
export type { Receipt } from './receipts.js';
export type { BatchSubscriber, MessageSubscriber, ProcessOptions, SubscribeOptions } from './subscriber.js';
export type { Delivery, DeliveryBatch } from './delivery.js';
export type { NackOptions } from './settler.js';
export type { Start, SubscriptionSettings } from './subscription-settings.js';
export { MusterError } from '../../kit/errors.js';
