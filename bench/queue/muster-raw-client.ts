import { once } from 'node:events';
import { Client, credentials, type ClientDuplexStream } from '@grpc/grpc-js';
import {
  CreateSubscriptionRequest,
  CreateTopicRequest,
  PublishStreamRequest,
  PublishStreamResponse,
  QueueService,
  SubscribeRequest,
} from '../../generated/muster/v1/queue.js';
import { createClient, openChannel } from '../../src/rpc/client.js';
import type { IdentitySource } from '../../src/rpc/identity.js';
import { batchFrame, readDeliveries, settleFrame } from './muster-frames.js';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';

/** Muster's queue over bare grpc-js streams and frames made by hand: what the server can do when the client costs nothing. */

const BATCH_MESSAGES = 256;
const WINDOW_BYTES = 8 * 1024 * 1024;
const CREDIT = { maxMessages: 65_536, maxBytes: 64 * 1024 * 1024 };

type Raw = ClientDuplexStream<Buffer, Buffer>;

const identity = (bytes: Buffer): Buffer => bytes;

/** Makes topic and subscriptions with the typed client; both of Muster's clients share it. */
export async function prepareMuster(
  address: string,
  topic: string,
  subscriptions: readonly string[],
  identity?: IdentitySource,
): Promise<void> {
  const channel = openChannel({ address, ...(identity === undefined ? {} : { tls: { identity, expect: 'queue' } }) });
  try {
    const queue = createClient(QueueService, channel);
    await queue.createTopic(CreateTopicRequest.fromPartial({ topic: { name: topic } }));
    for (const name of subscriptions) {
      await queue.createSubscription(CreateSubscriptionRequest.fromPartial({ subscription: { topic, name } }));
    }
  } finally {
    channel.close();
  }
}

export class MusterRawClient implements QueueClient {
  readonly #address: string;
  readonly #client: Client;

  constructor(endpoint: Endpoint) {
    this.#address = endpoint.address;
    this.#client = new Client(endpoint.address, credentials.createInsecure(), {
      'grpc-node.flow_control_window': WINDOW_BYTES,
      'grpc.max_receive_message_length': 8 * 1024 * 1024,
      'grpc.enable_retries': 0,
      // Else a new client inherits how long an older one has to wait before it tries again.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    return prepareMuster(this.#address, topic, subscriptions);
  }

  #stream(path: string, failed: (error: unknown) => void): Raw {
    const stream = this.#client.makeBidiStreamRequest(path, identity, identity);
    stream.on('error', failed);
    return stream;
  }

  async publisher(options: PublisherOptions): Promise<Publisher> {
    const { topic } = options;
    const stream = this.#stream(QueueService.publishStream.path, (error) => {
      options.failed(error);
    });
    stream.write(
      Buffer.from(PublishStreamRequest.encode({ frame: { $case: 'open', value: { topic, producer: '' } } }).finish()),
    );
    await once(stream, 'data');
    const acks = (bytes: Buffer): void => {
      const { frame } = PublishStreamResponse.decode(bytes);
      if (frame?.$case !== 'acks') return;
      let count = 0;
      for (const ack of frame.value.acks) {
        if (ack.refusal) options.failed(new Error(ack.refusal.message));
        count += ack.count;
      }
      options.acked(count);
    };
    stream.on('data', acks);
    let waiting: Buffer[] = [];
    let batch = 0;
    const flush = (): void => {
      if (waiting.length === 0) return;
      batch += 1;
      stream.write(batchFrame(waiting, batch));
      waiting = [];
    };
    return {
      send: (payload) => {
        waiting.push(payload);
        if (waiting.length >= BATCH_MESSAGES) flush();
      },
      flush,
      finish: flush,
      close: () => {
        stream.removeAllListeners('error').on('error', () => undefined);
        stream.cancel();
        return Promise.resolve();
      },
    };
  }

  consumer(options: ConsumerOptions): Promise<Consumer> {
    const { topic, subscription } = options;
    const stream = this.#stream(QueueService.subscribe.path, (error) => {
      options.failed(error);
    });
    let settles = 0;
    stream.on('data', (frame: Buffer) => {
      const delivered = readDeliveries(frame);
      if (!delivered) return;
      const { payloads, firstDelivery } = delivered;
      options.received(payloads);
      if (options.stalled) return;
      settles += 1;
      stream.write(settleFrame(settles, firstDelivery, firstDelivery + payloads.length - 1));
    });
    const open = { topic, subscription, consumer: '', credit: CREDIT };
    stream.write(Buffer.from(SubscribeRequest.encode({ frame: { $case: 'open', value: open } }).finish()));
    return Promise.resolve({
      close: () => {
        stream.removeAllListeners('error').on('error', () => undefined);
        stream.cancel();
        return Promise.resolve();
      },
    });
  }

  /** Settled messages leave by themselves. */
  reclaim(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }
}
