import { Subscription, type Position } from '../../../generated/muster/v1/queue.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import type { QueueClient } from '../../support/queue-process.js';
import { Consumer, STEADY } from './consumers.js';
import { TOPIC as topic, type Life } from './life.js';
import type { Actor } from './publishers.js';

const PAUSE_MS: readonly [number, number] = [20, 300];
const FLEETING_MAX = 3;
const PREFIX = 'fleeting-';

/** Moves a subscription about. A seek whose outcome is not known is made again. */
export class Seeker implements Actor {
  readonly #subscription: string;
  #unanswered = false;

  constructor(subscription: string) {
    this.#subscription = subscription;
  }

  async run(life: Life): Promise<void> {
    await life.through('the seeker', async (client) => {
      if (!life.calm) await sleep(systemClock, life.between(...PAUSE_MS));
      if (life.over || (life.calm && !this.#unanswered)) return 'done';
      await this.#seek(life, client);
      return 'again';
    });
  }

  async #seek(life: Life, client: QueueClient): Promise<void> {
    const subscription = this.#subscription;
    const to = await this.#somewhere(life, client);
    this.#unanswered = true;
    life.judge.record({ kind: 'seeking', subscription });
    const { sequence } = await client.seek({ topic, subscription, to, dryRun: false });
    life.judge.record({ kind: 'sought', subscription, sequence });
    this.#unanswered = false;
  }

  async #somewhere(life: Life, client: QueueClient): Promise<Position> {
    const { topics } = await client.getStats({ topic });
    const { firstSequence = 1, nextSequence = 1 } = topics[0] ?? {};
    const places: readonly Position['at'][] = [
      { $case: 'earliest', value: {} },
      { $case: 'latest', value: {} },
      { $case: 'sequence', value: life.between(firstSequence, nextSequence + 1) },
      { $case: 'time', value: new Date(systemClock.now() - life.between(0, 2000)) },
    ];
    return { at: places[life.between(0, places.length)] };
  }
}

type State = 'being made' | 'there' | 'being deleted';

/** Makes subscriptions that are consumed for a while and then deleted. What exists after a kill must be what it was told. */
export class Fleeting implements Actor {
  readonly #all = new Map<string, State>();
  #number = 0;

  async run(life: Life): Promise<void> {
    const consumers: Promise<void>[] = [];
    await life.through('the maker of subscriptions', async (client) => {
      if (consumers.length === 0) await this.#goOn(life, client, consumers);
      if (life.calm) return 'done';
      await sleep(systemClock, life.between(...PAUSE_MS));
      if (life.over) return 'done';
      await this.#change(life, client, consumers);
      return 'again';
    });
    await Promise.all(consumers);
  }

  /** After a start: what is there, what was under way, and consumers for all. */
  async #goOn(life: Life, client: QueueClient, consumers: Promise<void>[]): Promise<void> {
    const { subscriptions } = await client.listSubscriptions({ topic, pageSize: 0, pageToken: '' });
    const found = new Set(subscriptions.map(({ name }) => name).filter((name) => name.startsWith(PREFIX)));
    for (const [name, state] of this.#all) {
      if (state === 'there' && !found.has(name)) life.judge.find(`subscription ${name} is gone`);
      if (state === 'being made') await this.#make(life, client, name);
      if (state === 'being deleted' && found.has(name)) await this.#delete(client, name);
      else if (state === 'being deleted') this.#all.delete(name);
      else consumers.push(this.#consume(life, name));
      found.delete(name);
    }
    for (const name of found) life.judge.find(`subscription ${name} was deleted and is there again`);
  }

  async #change(life: Life, client: QueueClient, consumers: Promise<void>[]): Promise<void> {
    const there = [...this.#all.keys()];
    const [oldest] = there;
    if (oldest !== undefined && there.length >= life.between(1, FLEETING_MAX + 1)) {
      life.judge.record({ kind: 'unsubscribing', subscription: oldest });
      this.#all.set(oldest, 'being deleted');
      await this.#delete(client, oldest);
      return;
    }
    this.#number += 1;
    const name = `${PREFIX}${this.#number}`;
    this.#all.set(name, 'being made');
    await this.#make(life, client, name);
    consumers.push(this.#consume(life, name));
  }

  async #make(life: Life, client: QueueClient, name: string): Promise<void> {
    await client.createSubscription({ subscription: Subscription.fromPartial({ topic, name }) });
    this.#all.set(name, 'there');
    life.judge.record({ kind: 'subscribed', subscription: name, mode: 'competing', all: false });
  }

  async #delete(client: QueueClient, name: string): Promise<void> {
    await client.deleteSubscription({ topic, subscription: name });
    this.#all.delete(name);
  }

  #consume(life: Life, name: string): Promise<void> {
    return new Consumer(name, STEADY, () => this.#all.get(name) !== 'there').run(life);
  }
}
