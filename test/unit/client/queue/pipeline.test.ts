import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PublishStreamRequest, type PublishAck } from '../../../../generated/muster/v1/queue.js';
import { encodedBytes } from '../../../../src/client/queue/message.js';
import { Pipeline } from '../../../../src/client/queue/pipeline.js';
import { MusterError } from '../../../../src/kit/errors.js';
import type { Receipt } from '../../../../src/client/queue/receipts.js';

/**
 * A pipeline, a connection that may be lost with frames and answers on it, and a queue that keeps the contract: batches in order without gaps,
 * one that comes again answered and not stored, any refused.
 */
class World {
  readonly stored: string[] = [];
  readonly failed = new Set<string>();
  readonly receipts = new Map<string, Receipt>();
  added = 0;
  #lost = 0;
  readonly #acks: PublishAck[] = [];
  /** On their way to the queue, and to the pipeline. */
  #frames: Buffer[] = [];
  #answers: PublishAck[] = [];
  readonly #again: boolean;
  readonly pipeline: Pipeline;

  constructor(again: boolean) {
    this.#again = again;
    this.pipeline = new Pipeline({
      batchBytesMax: 60,
      batchMessagesMax: 3,
      inFlightMessagesMax: 40,
      inFlightBytesMax: 10_000,
      again: () => this.#again,
      onFailed: (_, messages) => {
        this.#lost += messages;
      },
    });
    this.connect();
  }

  /** Messages nobody waited for that the pipeline says were not stored. */
  get lost(): number {
    return this.#lost;
  }

  add(waits: boolean): void {
    const text = `m${this.added}`;
    const message = { payload: text };
    const encoded = encodedBytes(message);
    if (!this.pipeline.hasRoom(encoded)) return;
    this.added += 1;
    if (!waits) {
      this.pipeline.add(message, encoded);
      return;
    }
    this.pipeline.add(message, encoded, {
      resolve: (receipt) => {
        assert.ok(!this.receipts.has(text) && !this.failed.has(text));
        this.receipts.set(text, receipt);
      },
      reject: () => {
        assert.ok(!this.receipts.has(text) && !this.failed.has(text));
        this.failed.add(text);
      },
    });
  }

  send(count: number): void {
    for (let left = count; left > 0; left -= 1) {
      const frame = this.pipeline.next();
      if (!frame) return;
      // The transport copies: the bytes of a batch are used again once it is answered.
      this.#frames.push(Buffer.from(frame));
    }
  }

  /** The queue takes a frame, and refuses what it would store where `refuse` says so. */
  take(refuse: boolean): void {
    const frame = this.#frames.shift();
    if (!frame) return;
    const { frame: decoded } = PublishStreamRequest.decode(frame);
    assert.equal(decoded?.$case, 'batch');
    const { batch, messages } = decoded.value;
    const none = { batch, firstSequence: 0, count: 0, duplicates: [], delayed: 0, repeatedBatch: false };
    const before = this.#acks[batch - 1];
    const refusal = (reason: string) => ({ code: 8, reason, message: reason, retryAfter: undefined });
    if (before) this.#answers.push({ ...before, repeatedBatch: true });
    else if (batch !== this.#acks.length + 1) this.#answers.push({ ...none, refusal: refusal('BATCH_GAP') });
    else if (refuse) this.#answers.push({ ...none, refusal: refusal('TOPIC_FULL') });
    else {
      const ack = { ...none, firstSequence: this.stored.length + 1, count: messages.length, refusal: undefined };
      this.#acks.push(ack);
      this.stored.push(...messages.map(({ payload }) => payload.toString()));
      this.#answers.push(ack);
    }
  }

  /** An answer arrives. */
  answer(): void {
    const ack = this.#answers.shift();
    if (!ack) return;
    this.pipeline.answer(ack);
    this.pipeline.recover();
  }

  connect(): void {
    this.#frames = [];
    this.#answers = [];
    this.#frames.push(...this.pipeline.opened(this.#acks.length).map((frame) => Buffer.from(frame)));
  }

  /** Lets everything come to its end. */
  finish(): void {
    this.pipeline.seal();
    for (let turns = 0; this.pipeline.messages > 0; turns += 1) {
      assert.ok(turns < 1000, 'it never ends');
      this.send(10);
      while (this.#frames.length > 0) this.take(false);
      while (this.#answers.length > 0) this.answer();
    }
  }
}

type Step = (world: World) => void;

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.boolean().map((waits): Step => (world) => {
      world.add(waits);
    }),
  },
  {
    weight: 2,
    arbitrary: fc.constant<Step>((world) => {
      world.pipeline.seal();
    }),
  },
  {
    weight: 3,
    arbitrary: fc.integer({ min: 1, max: 4 }).map((count): Step => (world) => {
      world.send(count);
    }),
  },
  {
    weight: 4,
    arbitrary: fc.constant<Step>((world) => {
      world.take(false);
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constant<Step>((world) => {
      world.take(true);
    }),
  },
  {
    weight: 4,
    arbitrary: fc.constant<Step>((world) => {
      world.answer();
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constant<Step>((world) => {
      world.connect();
    }),
  },
);

function numbers(texts: readonly string[]): number[] {
  return texts.map((text) => Number(text.slice(1)));
}

function check(world: World): void {
  const order = numbers(world.stored);
  assert.deepEqual(
    order,
    [...new Set(order)].sort((a, b) => a - b),
    'once each, and in order',
  );
  for (const [text, { sequence }] of world.receipts) assert.equal(world.stored[(sequence ?? 0) - 1], text);
  for (const text of world.failed) assert.ok(!world.stored.includes(text), `${text} failed and is stored`);
  assert.equal(world.stored.length + world.failed.size + world.lost, world.added, 'each is stored or failed');
  assert.equal(world.pipeline.answered, world.added);
}

describe('what a publisher holds', () => {
  for (const again of [false, true]) {
    it(`is stored once and in order, or told to have failed, ${again ? 'refusals being tried again' : 'refusals being final'}`, () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
          const world = new World(again);
          for (const one of steps) one(world);
          world.finish();
          check(world);
          if (again) assert.equal(world.stored.length, world.added);
        }),
        { numRuns: 1_000 },
      );
    });
  }

  it('fails as a whole when there is no hope', () => {
    const world = new World(false);
    for (let index = 0; index < 10; index += 1) world.add(index % 2 === 0);
    world.send(1);
    world.pipeline.fail(new MusterError('unavailable', 'gone'));
    assert.deepEqual([world.failed.size, world.lost, world.pipeline.messages], [5, 5, 0]);
  });
});
