import { newId } from '../../../src/kit/ids.js';
import type {
  Deliveries,
  DeliveryRange,
  Nack,
  Settled,
  SettleFrame,
  SubscribeRequest,
  SubscribeResponse,
} from '../../../generated/muster/v1/queue.js';
import { isCode } from '../../../src/kit/errors.js';
import type { ClientDuplex } from '../../../src/rpc/types.js';
import type { Settling } from '../../support/queue-history.js';
import type { QueueClient } from '../../support/queue-process.js';
import { waitFor } from '../../support/waiting.js';
import { readMessage, TOPIC as topic, type Life } from './life.js';
import type { Actor } from './publishers.js';

const CREDIT_MAX = 300;
const FRAMES_MAX = 40;
const DELAY_MS_MAX = 60;

/** What a consumer does with deliveries: how often, for each. What is left over of 1 is acknowledged. */
export interface Manners {
  readonly nack: number;
  readonly delay: number;
  readonly dead: number;
  /** Neither settled nor given back, until the stream ends. */
  readonly hold: number;
  /** Its lease is extended, and it is acknowledged with the next frame. */
  readonly extend: number;
  /** Everything up to the newest is acknowledged by one range from 1. */
  readonly cumulative: boolean;
  /** Streams end by themselves now and then. */
  readonly restless: boolean;
  /** No other stream of the subscription is open beside its own. */
  readonly alone: boolean;
}

export const ONE_BY_ONE: Manners = {
  nack: 0.05,
  delay: 0.05,
  dead: 0.01,
  hold: 0.02,
  extend: 0.03,
  cumulative: false,
  restless: true,
  alone: false,
};
export const IN_ORDER: Manners = {
  nack: 0,
  delay: 0,
  dead: 0,
  hold: 0,
  extend: 0,
  cumulative: true,
  restless: true,
  alone: true,
};
export const STEADY: Manners = { ...IN_ORDER, cumulative: false, restless: false, alone: false };

type Stream = ClientDuplex<SubscribeRequest, SubscribeResponse>;

interface Delivered {
  readonly delivery: number;
  readonly sequence: number;
}

/** One consumer of a subscription. */
export class Consumer implements Actor {
  readonly #subscription: string;
  readonly #manners: Manners;
  readonly #isDeleted: () => boolean;

  constructor(subscription: string, manners: Manners, isDeleted: () => boolean = () => false) {
    this.#subscription = subscription;
    this.#manners = manners;
    this.#isDeleted = isDeleted;
  }

  async run(life: Life): Promise<void> {
    const name = `a consumer of ${this.#subscription}`;
    await life.through(name, async (client) => {
      if (this.#manners.alone) await this.#untilAlone(life, client);
      try {
        await new Session(life, { subscription: this.#subscription, manners: this.#manners }, client).run();
      } catch (error) {
        if (this.#isDeleted() && isCode(error, 'not_found')) return 'done';
        throw error;
      }
      return 'again';
    });
  }

  /** A stream that was just cut may still hold messages; a second one beside it would get later ones first. */
  async #untilAlone(life: Life, client: QueueClient): Promise<void> {
    await waitFor('the last stream to have ended', async () => {
      if (life.over) return true;
      const { topics } = await client.getStats({ topic });
      const stats = topics[0]?.subscriptions.find(({ subscription }) => subscription === this.#subscription);
      return stats?.consumers.length === 0;
    });
  }
}

/** One stream of a consumer. */
class Session {
  readonly #life: Life;
  readonly #subscription: string;
  readonly #manners: Manners;
  readonly #stream: Stream;
  /** Deliveries are numbered by stream. */
  readonly #name = newId('stream');
  /** By settle frame, what it settles. */
  readonly #asked = new Map<number, readonly (Delivered & { readonly how: Settling })[]>();
  #later: Delivered[] = [];
  #frames = 0;
  #ended = false;

  constructor(life: Life, { subscription, manners }: { subscription: string; manners: Manners }, client: QueueClient) {
    this.#life = life;
    this.#subscription = subscription;
    const settlesAll = { nack: 0, delay: 0, dead: 0, hold: 0, extend: 0, restless: false };
    this.#manners = life.calm ? { ...manners, ...settlesAll } : manners;
    this.#stream = client.subscribe({ signal: life.cut });
  }

  async run(): Promise<void> {
    const life = this.#life;
    const last = this.#manners.restless ? life.between(1, FRAMES_MAX) : Infinity;
    const credit = { maxMessages: life.between(1, CREDIT_MAX), maxBytes: 0 };
    const open = { topic, subscription: this.#subscription, consumer: '', credit };
    await this.#stream.send({ frame: { $case: 'open', value: open } });
    for await (const { frame } of this.#stream) {
      if (frame?.$case === 'settled') this.#settled(frame.value);
      else if (frame?.$case === 'deliveries') await this.#take(frame.value);
      if (this.#frames < last || this.#ended) continue;
      if (life.chance(0.5)) return;
      this.#ended = true;
      this.#stream.end();
    }
  }

  async #take({ messages, runs, firstDelivery }: Deliveries): Promise<void> {
    // What a consumer does not look at any more was not delivered to it.
    if (this.#life.over || this.#ended) return;
    this.#frames += 1;
    const delivered: Delivered[] = [];
    for (const { firstSequence, count, attempt } of runs) {
      for (let sequence = firstSequence; sequence < firstSequence + count; sequence += 1) {
        const message = messages[delivered.length];
        if (!message) throw new Error('a frame has fewer messages than its runs say');
        delivered.push({ delivery: firstDelivery + delivered.length, sequence });
        const event = { kind: 'delivered', subscription: this.#subscription, sequence, attempt } as const;
        this.#life.judge.record({ ...event, ...readMessage(message) });
      }
    }
    if (messages.length !== delivered.length) throw new Error('a frame has more messages than its runs say');
    await this.#settle(delivered);
  }

  async #settle(delivered: readonly Delivered[]): Promise<void> {
    const choices = new Map<Choice, Delivered[]>();
    for (const one of delivered) {
      const choice = this.#choose();
      choices.set(choice, [...(choices.get(choice) ?? []), one]);
    }
    const chosen = (choice: Choice): readonly Delivered[] => choices.get(choice) ?? [];
    const acked = [...this.#later, ...chosen('ack')];
    this.#later = [...chosen('extend')];
    const id = this.#frames;
    const settled = [
      ...acked.map((one) => ({ ...one, how: 'ack' as const })),
      ...chosen('dead').map((one) => ({ ...one, how: 'dead letter' as const })),
    ];
    this.#asked.set(id, settled);
    for (const { delivery, sequence, how } of settled) {
      const event = { subscription: this.#subscription, sequence, how, delivery: this.#nameOf(delivery) };
      this.#life.judge.record({ kind: 'settling', ...event });
    }
    const value: SettleFrame = {
      id,
      acks: this.#manners.cumulative ? cumulative(acked) : acked.map(rangeOf),
      nacks: [
        ...chosen('nack').map((one) => nackOf(one, {})),
        ...chosen('delay').map((one) => nackOf(one, { delayMs: this.#life.between(0, DELAY_MS_MAX) })),
        ...chosen('dead').map((one) => nackOf(one, { deadLetter: true })),
      ],
      extends: this.#later.map((one) => ({ deliveries: rangeOf(one), lease: undefined })),
    };
    await this.#stream.send({ frame: { $case: 'settle', value } });
  }

  #choose(): Choice {
    const { nack, delay, dead, hold, extend } = this.#manners;
    let at = this.#life.random.next();
    for (const [choice, share] of Object.entries({ nack, delay, dead, hold, extend })) {
      if (at < share) return choice as Choice;
      at -= share;
    }
    return 'ack';
  }

  #nameOf(delivery: number): string {
    return `${this.#name}/${delivery}`;
  }

  /** The frame and all before it are confirmed. */
  #settled({ id, failures }: Settled): void {
    const reasons = new Map(failures.map(({ delivery, reason }) => [delivery, reason]));
    for (const [asked, all] of this.#asked) {
      if (asked > id) return;
      this.#asked.delete(asked);
      for (const { delivery, sequence } of all) {
        const reason = reasons.get(delivery);
        const event = { subscription: this.#subscription, sequence };
        if (reason === undefined) {
          this.#life.judge.record({ kind: 'settled', ...event, delivery: this.#nameOf(delivery) });
        } else this.#life.judge.record({ kind: 'settle failed', ...event, reason });
      }
    }
  }
}

type Choice = 'ack' | 'nack' | 'delay' | 'dead' | 'hold' | 'extend';

function rangeOf({ delivery }: Delivered): DeliveryRange {
  return { first: delivery, last: delivery };
}

function cumulative(acked: readonly Delivered[]): DeliveryRange[] {
  const newest = acked.at(-1);
  return newest ? [{ first: 1, last: newest.delivery }] : [];
}

function nackOf(one: Delivered, { delayMs, deadLetter = false }: { delayMs?: number; deadLetter?: boolean }): Nack {
  const delay = delayMs === undefined ? undefined : { seconds: 0, nanos: delayMs * 1_000_000 };
  return { deliveries: rangeOf(one), delay, deadLetter, reason: 'because of the test' };
}
