import { Publisher as QueuePublisher } from '../../src/client/queue/publisher.js';
import { systemClock } from '../../src/kit/clock.js';
import { systemRandom } from '../../src/kit/random.js';
import { openChannel, type Channel } from '../../src/rpc/client.js';
import { MusterRawClient, prepareMuster } from './muster-raw-client.js';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';

/** How many messages may be in flight is the bench's to say. */
const IN_FLIGHT_MAX = 65_536;
const WINDOW_BYTES = 8 * 1024 * 1024;

/** Muster's queue by the library that services use. */
export class MusterClient implements QueueClient {
  readonly #endpoint: Endpoint;
  readonly #channel: Channel;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
    this.#channel = openChannel({ address: endpoint.address, windowBytes: WINDOW_BYTES });
  }

  prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    return prepareMuster(this.#endpoint.address, topic, subscriptions);
  }

  publisher(options: PublisherOptions): Promise<Publisher> {
    const parts = { channel: () => Promise.resolve(this.#channel), clock: systemClock, random: systemRandom };
    const publisher = new QueuePublisher(options.topic, { inFlightMessagesMax: IN_FLIGHT_MAX }, parts);
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
    return new MusterRawClient(this.#endpoint).consumer(options);
  }

  /** Settled messages leave by themselves. */
  reclaim(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#channel.close();
    return Promise.resolve();
  }
}
