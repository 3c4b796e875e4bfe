import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { SettledNotices, StreamConsumer, type SettledNotice } from '../../../src/queue/consumer.js';
import type { Frame } from '../../../src/queue/delivery.js';
import { turns } from '../../support/queue-parts.js';

function frame(text: string): Frame {
  const run = { firstSequence: 1, count: 1, attempt: 1, publishedMs: 0, messages: Buffer.from(text) };
  return { firstDelivery: 1, runs: [run] };
}

/** A promise to be kept or broken by hand. */
function promised(): {
  readonly promise: Promise<void>;
  readonly keep: () => void;
  readonly fail: (error: Error) => void;
} {
  let keep = (): void => undefined;
  let fail: (error: Error) => void = () => undefined;
  const promise = new Promise<void>((resolve, reject) => {
    keep = resolve;
    fail = reject;
  });
  return { promise, keep, fail };
}

describe('the stream of a consumer', () => {
  function connected(): {
    consumer: StreamConsumer;
    sent: ReturnType<typeof promised>[];
    texts: string[];
    events: unknown[];
  } {
    const sent: ReturnType<typeof promised>[] = [];
    const texts: string[] = [];
    const events: unknown[] = [];
    const consumer = new StreamConsumer('c', {
      send: ({ runs }) => {
        texts.push(runs.map(({ messages }) => messages.toString()).join());
        const one = promised();
        sent.push(one);
        return one.promise;
      },
      room: () => events.push('room'),
      end: (reason) => events.push(reason),
    });
    return { consumer, sent, texts, events };
  }

  it('takes four frames, then none until all have gone', async () => {
    const { consumer, sent, texts, events } = connected();
    assert.deepEqual(
      ['a', 'b', 'c', 'd'].map((text) => consumer.deliver(frame(text))),
      [true, true, true, false],
    );
    assert.deepEqual(texts, ['a', 'b', 'c', 'd']);
    for (const one of sent.slice(0, 3)) one.keep();
    await turns(1);
    assert.deepEqual(events, []);
    sent[3]?.keep();
    await turns(1);
    assert.deepEqual(events, ['room']);
    assert.equal(consumer.deliver(frame('e')), true);
    sent[4]?.keep();
    await turns(1);
    assert.deepEqual(events, ['room']);
  });

  it('ends when a frame cannot be sent, and when it is told to', async () => {
    const { consumer, sent, events } = connected();
    const lost = new Error('lost');
    consumer.deliver(frame('a'));
    sent[0]?.fail(lost);
    await turns(1);
    const gone = new MusterError('not_found', 'deleted');
    consumer.end(gone);
    assert.deepEqual(events, [lost, gone]);
  });
});

describe('answers to what is settled', () => {
  function answering(): { notices: SettledNotices; answers: SettledNotice[]; failures: unknown[] } {
    const answers: SettledNotice[] = [];
    const failures: unknown[] = [];
    const notices = new SettledNotices(
      (notice) => {
        answers.push(notice);
        return Promise.resolve();
      },
      (error) => failures.push(error),
    );
    return { notices, answers, failures };
  }

  const failed = (delivery: number): SettledNotice['failures'] => [{ delivery, reason: 'LEASE_OVER' }];

  it('come once it is durable, in order, one for what became so together', async () => {
    const { notices, answers } = answering();
    const [first, second] = [promised(), promised()];
    notices.add({ id: 1, failures: [] }, first.promise);
    notices.add({ id: 2, failures: failed(7) }, first.promise);
    notices.add({ id: 3, failures: failed(8) }, second.promise);
    second.keep();
    await turns();
    assert.deepEqual(answers, []);
    first.keep();
    await notices.idle();
    assert.deepEqual(answers, [
      { id: 2, failures: failed(7) },
      { id: 3, failures: failed(8) },
    ]);
  });

  it('go on after they were idle', async () => {
    const { notices, answers } = answering();
    await notices.idle();
    notices.add({ id: 1, failures: [] }, Promise.resolve());
    await notices.idle();
    notices.add({ id: 2, failures: [] }, Promise.resolve());
    await notices.idle();
    assert.deepEqual(
      answers.map(({ id }) => id),
      [1, 2],
    );
  });

  it('fail the stream when it could not be stored', async () => {
    const { notices, answers, failures } = answering();
    const broken = promised();
    notices.add({ id: 1, failures: [] }, broken.promise);
    const error = new MusterError('exhausted', 'full');
    broken.fail(error);
    await notices.idle();
    assert.deepEqual([answers, failures], [[], [error]]);
  });

  it('fail the stream when one cannot be sent', async () => {
    const lost = new Error('lost');
    const failures: unknown[] = [];
    const notices = new SettledNotices(
      () => Promise.reject(lost),
      (error) => failures.push(error),
    );
    notices.add({ id: 1, failures: [] }, Promise.resolve());
    await notices.idle();
    assert.deepEqual(failures, [lost]);
  });

  it('have a bound of failures too', async () => {
    const { notices, answers } = answering();
    const stored = promised();
    const failures = Array.from({ length: 4096 }, (_, index) => failed(index + 1)).flat();
    for (let id = 1; id <= 3; id += 1) notices.add({ id, failures }, stored.promise);
    assert.equal(notices.isFull, false);
    notices.add({ id: 4, failures }, stored.promise);
    assert.equal(notices.isFull, true);
    stored.keep();
    await notices.idle();
    assert.deepEqual([notices.isFull, answers.map(({ id }) => id)], [false, [4]]);
  });

  it('have a bound, at which the stream must wait', async () => {
    const { notices, answers } = answering();
    const stored = promised();
    for (let id = 1; id < 4096; id += 1) notices.add({ id, failures: [] }, stored.promise);
    assert.equal(notices.isFull, false);
    notices.add({ id: 4096, failures: [] }, stored.promise);
    assert.equal(notices.isFull, true);
    stored.keep();
    await notices.idle();
    assert.deepEqual([notices.isFull, answers.map(({ id }) => id)], [false, [4096]]);
  });
});
