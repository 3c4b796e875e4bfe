import { createHash } from 'node:crypto';
import { Message } from '../../../generated/muster/v1/queue.js';
import { messageOf } from '../../../src/kit/errors.js';
import { randomBetween, type Random } from '../../../src/kit/random.js';
import type { QueueJudge } from '../../support/queue-history.js';
import { connectQueue, type QueueClient } from '../../support/queue-process.js';

/** What all that happens in the kill suite has in common: the topic, the messages and one life of the server. */

export const TOPIC = 'events';
const KEYS = 12;
const SMALL_BYTES = 200;
const LARGE_BYTES = 30_000;
const LARGE_SHARE = 0.01;

/** From one start of the server to its kill. */
export class Life {
  readonly address: string;
  readonly judge: QueueJudge;
  readonly random: Random;
  /** Consumers settle everything at once and publishers rest. */
  readonly calm: boolean;
  readonly #cut = new AbortController();
  #over = false;

  constructor(address: string, judge: QueueJudge, how: { readonly random: Random; readonly calm: boolean }) {
    this.address = address;
    this.judge = judge;
    this.random = how.random;
    this.calm = how.calm;
  }

  /** What fails from here on fails because the server is gone. */
  get over(): boolean {
    return this.#over;
  }

  /** Aborts when everybody shall leave a server that goes on. */
  get cut(): AbortSignal {
    return this.#cut.signal;
  }

  /** The server is about to be killed: nothing more begins. What arrived from it is still read. */
  end(): void {
    this.#over = true;
  }

  leave(): void {
    this.#over = true;
    this.#cut.abort();
  }

  chance(share: number): boolean {
    return this.random.next() < share;
  }

  between(low: number, high: number): number {
    return randomBetween(this.random, low, high);
  }

  /** Does `work` with a connection of its own until it is done or the life is over. A failure before that is a finding. */
  async through(name: string, work: (client: QueueClient) => Promise<'done' | 'again'>): Promise<void> {
    const connected = connectQueue(this.address);
    try {
      while (!this.#over && (await work(connected.client)) === 'again');
    } catch (error) {
      if (!this.#over) this.judge.find(`${name} failed: ${messageOf(error)}`);
    } finally {
      connected.close();
    }
  }
}

export function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** A message that says who it is, and by a checksum that it is whole. */
export function newMessage(life: Life, id: string): Message {
  const key = life.chance(0.8) ? `key-${life.between(0, KEYS)}` : '';
  const filler = '.'.repeat(life.between(0, life.chance(LARGE_SHARE) ? LARGE_BYTES : SMALL_BYTES));
  const text = `${id}|${key}|${filler}`;
  return Message.fromPartial({ payload: Buffer.from(`${text}|${digest(text)}`), key });
}

export interface ReadMessage {
  readonly id: string;
  readonly key: string;
  readonly intact: boolean;
}

export function readMessage({ payload, key }: Message): ReadMessage {
  const text = payload.toString('utf8');
  const end = text.lastIndexOf('|');
  const [id = '', keyWithin] = text.split('|', 2);
  return { id, key, intact: key === keyWithin && digest(text.slice(0, end)) === text.slice(end + 1) };
}
