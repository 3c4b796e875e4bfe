import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectQueue, type BatchSubscriber, type Queue } from '../../src/client/queue/index.js';
import { Secret } from '../../src/kit/secret.js';
import { IdentityHolder } from '../../src/rpc/identity.js';
import { prepareMuster } from './muster-raw-client.js';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';

/** How many messages may be in flight is the bench's to say. */
const IN_FLIGHT_MAX = 65_536;
/** What a consumer may hold: enough that the way there and back costs nothing. */
const CREDIT = { maxMessages: 16_384, maxBytes: 16 * 1024 * 1024 };

/** Muster's queue by the library that services use. */
export class MusterClient implements QueueClient {
  readonly #endpoint: Endpoint;
  readonly #identity: IdentityHolder | undefined;
  readonly #queue: Queue;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    this.#identity = endpoint.credentials === '' ? undefined : identityIn(endpoint.credentials);
    this.#queue = connectQueue({
      address: endpoint.address,
      ...(this.#identity === undefined ? {} : { identity: this.#identity }),
    });
  }

  prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    return prepareMuster(this.#endpoint.address, topic, subscriptions, this.#identity);
  }

  publisher(options: PublisherOptions): Promise<Publisher> {
    const publisher = this.#queue.publisher(options.topic, { inFlightMessagesMax: IN_FLIGHT_MAX });
    let sent = 0;
    let told = 0;
    const tell = (): void => {
      const acknowledged = sent - publisher.pending;
      if (acknowledged === told) return;
      const count = acknowledged - told;
      told = acknowledged;
      options.acked(count);
    };
    const failed = (error: unknown): void => {
      options.failed(error);
    };
    return Promise.resolve({
      // The library tells of a message only to who asks for it: so the bench asks for those it times.
      send: (payload) => {
        const timed = sent % options.timedEvery === 0;
        sent += 1;
        if (timed) publisher.send(payload).then(tell, failed);
        else publisher.add(payload)?.catch(failed);
      },
      flush: () => undefined,
      finish: () => {
        publisher.flush().then(tell, failed);
      },
      close: () => publisher.close(),
    });
  }

  consumer(options: ConsumerOptions): Promise<Consumer> {
    const messages = this.#queue.subscribeBatches(options.topic, options.subscription, CREDIT);
    consume(messages, options).catch((error: unknown) => {
      options.failed(error);
    });
    return Promise.resolve({ close: () => messages.close() });
  }

  /** Settled messages leave by themselves. */
  reclaim(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return this.#queue.close();
  }
}

async function consume(messages: BatchSubscriber, options: ConsumerOptions): Promise<void> {
  for await (const batch of messages) {
    options.received(Array.from(batch, ({ payload }) => payload));
    if (!options.stalled) batch.ackAll();
  }
}

/** What `muster login` left in a directory. */
function identityIn(directory: string): IdentityHolder {
  const read = (name: string): string => readFileSync(join(directory, name), 'utf8');
  const { site } = JSON.parse(read('context.json')) as { site: string };
  return new IdentityHolder({
    certificatePem: read('cert.pem'),
    privateKeyPem: new Secret(read('key.pem')),
    caPem: read('ca.pem'),
    site,
  });
}
