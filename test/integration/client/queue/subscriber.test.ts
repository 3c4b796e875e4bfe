import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isCode } from '../../../../src/kit/errors.js';
import { failureOf } from '../../../support/rpc.js';
import { startQueueFixture, take, TOPIC } from '../../../support/queue-client.js';
import { waitFor } from '../../../support/waiting.js';

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `m${index}`);
}

describe('the library on a queue', () => {
  it('delivers what was published, with everything that belongs to it', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    const published = await library.publish(TOPIC, [
      { payload: 'hello', attributes: { a: '1', b: 'ü' }, key: 'k', dedupeId: 'd1' },
      { payload: Buffer.from([0, 1, 2]) },
      { payload: 'again', dedupeId: 'd1' },
    ]);
    assert.deepEqual(published, { sequences: [1, 2, 1], duplicates: 1 });
    const [first, second] = await take(library.subscribe(TOPIC, 'mail'), 2, (message) => message.acked());
    assert.equal(first?.text(), 'hello');
    assert.deepEqual({ ...first.attributes }, { a: '1', b: 'ü' });
    assert.equal(first.key, 'k');
    assert.equal(first.sequence, 1);
    assert.equal(first.attempt, 1);
    assert.ok(first.published instanceof Date);
    assert.deepEqual(second?.payload, Buffer.from([0, 1, 2]));
    assert.deepEqual({ ...second.attributes }, {});
    await stats('mail', ({ backlog, consumers }) => backlog === 0 && consumers.length === 0);
  });

  it('makes the subscription it needs when it is told to, and uses one that exists', async (t) => {
    const { library, operator } = await startQueueFixture(t);
    await library.publish(TOPIC, numbered(3));
    const create = { start: 'earliest', leaseMs: 5_000, maxAttempts: 3 } as const;
    const got = await take(library.subscribe(TOPIC, 'new', { create }), 3, (message) => {
      message.ack();
    });
    assert.deepEqual(
      got.map((message) => message.text()),
      numbered(3),
    );
    const { lease, maxAttempts } = await operator.getSubscription({ topic: TOPIC, subscription: 'new' });
    assert.deepEqual([lease?.seconds, maxAttempts], [5, 3]);
    await library.publish(TOPIC, 'more');
    const [more] = await take(library.subscribe(TOPIC, 'new', { create: { leaseMs: 9_000 } }), 1);
    assert.equal(more?.text(), 'more');
  });

  it('says that there is no such subscription or topic', async (t) => {
    const { library } = await startQueueFixture(t);
    const missing = await failureOf(take(library.subscribe(TOPIC, 'none'), 1));
    assert.equal(missing.reason, 'UNKNOWN_SUBSCRIPTION');
    assert.equal((await failureOf(take(library.subscribe('none', 'none'), 1))).reason, 'UNKNOWN_TOPIC');
    assert.equal((await failureOf(library.publish('none', 'a'))).reason, 'UNKNOWN_TOPIC');
    const create = { start: 'yesterday' as 'latest' };
    assert.throws(() => library.subscribe(TOPIC, 'none', { create }), /create\.start/);
    assert.throws(() => library.subscribe(TOPIC, ''), /name of the subscription is empty/);
  });

  it('delivers again what was given back, and leaves the loop without losing anything', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail', { backoff: { initialMs: 1, maxMs: 1 } });
    await library.publish(TOPIC, numbered(5));
    const [first] = await take(library.subscribe(TOPIC, 'mail'), 1, (message) => message.nacked({ reason: 'not now' }));
    assert.equal(first?.text(), 'm0');
    await stats('mail', ({ backlog, consumers }) => backlog === 5 && consumers.length === 0);
    const attempts = new Map<string, number>();
    await take(library.subscribe(TOPIC, 'mail'), 5, (message) => {
      attempts.set(message.text(), message.attempt);
      message.ack();
    });
    assert.equal(attempts.get('m0'), 2);
    assert.equal(attempts.get('m4'), 1);
    await stats('mail', ({ backlog }) => backlog === 0);
  });

  it('gives a message up as a dead letter', async (t) => {
    const { library, operator, subscription } = await startQueueFixture(t);
    await subscription('mail');
    await library.publish(TOPIC, 'bad');
    const reason = 'ü'.repeat(2_000);
    await take(library.subscribe(TOPIC, 'mail'), 1, (message) => message.nacked({ deadLetter: true, reason }));
    const { deadLetters } = await operator.listDeadLetters({
      topic: TOPIC,
      subscription: 'mail',
      pageSize: 0,
      pageToken: '',
    });
    assert.equal(deadLetters.length, 1);
    assert.ok(deadLetters[0]?.reason.startsWith('üüü'));
  });

  it('says so where a message was settled otherwise before, and the first word holds', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    await library.publish(TOPIC, numbered(3));
    const failures: string[] = [];
    const already = async (again: Promise<void>): Promise<void> => {
      failures.push((await failureOf(again)).reason ?? '');
    };
    await take(library.subscribe(TOPIC, 'mail'), 3, async (message) => {
      if (message.text() === 'm0') {
        await message.nacked({ deadLetter: true });
        await already(message.acked());
      } else if (message.text() === 'm1') {
        message.ack();
        await already(message.nacked());
        // Once more the same is the same.
        await message.acked();
      } else await message.acked();
    });
    assert.deepEqual(failures, ['ALREADY_SETTLED', 'ALREADY_SETTLED']);
    await stats('mail', ({ backlog, dead }) => backlog === 0 && dead === 1);
  });

  it('refuses what it cannot send or does not know, and the stream goes on', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    const wrong = (options: object): object => options;
    assert.throws(() => library.subscribe(TOPIC, 'mail', wrong({ maxMesages: 1 })), /Did you mean "maxMessages"/);
    assert.throws(() => library.subscribe(TOPIC, 'mail', { create: wrong({ maxAttempt: 1 }) }), /"maxAttempts"/);
    assert.throws(() => library.subscribe(TOPIC, 'mail', { create: { maxAttempts: 1.5 } }), /a whole number/);
    await library.publish(TOPIC, 'm');
    await take(library.subscribe(TOPIC, 'mail'), 1, async (message) => {
      for (const delayMs of [NaN, Infinity, -1])
        assert.throws(() => {
          message.nack({ delayMs });
        }, /delayMs is/);
      assert.throws(() => {
        message.extend(NaN);
      }, /leaseMs is NaN/);
      assert.throws(() => {
        message.nack(wrong({ delayms: 5 }));
      }, /Did you mean "delayMs"/);
      await message.acked();
    });
    await stats('mail', ({ backlog }) => backlog === 0);
  });

  it('takes no more than the credit, and goes on when something is settled', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    await library.publish(TOPIC, numbered(100));
    const subscriber = library.subscribe(TOPIC, 'mail', { maxMessages: 10 });
    let seen = 0;
    for await (const message of subscriber) {
      seen += 1;
      if (seen === 1) assert.equal((await stats('mail', ({ leased }) => leased > 0)).leased, 10);
      message.ack();
      if (seen === 100) break;
    }
    await stats('mail', ({ backlog }) => backlog === 0);
  });

  it('hands frames over whole, to be settled together', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    await library.publish(TOPIC, numbered(1000));
    const texts: string[] = [];
    for await (const batch of library.subscribeBatches(TOPIC, 'mail')) {
      assert.equal(batch.firstSequence, texts.length + 1);
      for (const message of batch) texts.push(message.text());
      batch.at(0).ack();
      batch.extendAll();
      await batch.ackedAll();
      if (texts.length === 1000) break;
    }
    assert.deepEqual(texts, numbered(1000));
    await stats('mail', ({ backlog }) => backlog === 0);
  });

  it('keeps the leases of what it holds', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail', { leaseMs: 3_000 });
    await library.publish(TOPIC, numbered(3));
    const held = library.subscribe(TOPIC, 'mail')[Symbol.asyncIterator]();
    const first = await held.next();
    // Longer than the lease, which nothing but its extension can outlast.
    const started = performance.now();
    await waitFor('the first lease to be over', () => performance.now() - started > 4_000);
    assert.equal((await stats('mail', ({ leased }) => leased === 3)).waiting, 0);
    assert.ok(first.done !== true && first.value.attempt === 1);
    await first.value.acked();
    await held.return?.();
  });

  it('says so when a lease was over', async (t) => {
    const { library, subscription } = await startQueueFixture(t);
    await subscription('mail', { leaseMs: 1_000, backoff: { initialMs: 1, maxMs: 1 } });
    await library.publish(TOPIC, 'slow');
    const failures: string[] = [];
    const options = {
      holdMs: 0,
      onFailure: (error: { reason: string | undefined }) => failures.push(String(error.reason)),
    };
    const messages = library.subscribe(TOPIC, 'mail', options)[Symbol.asyncIterator]();
    const first = await messages.next();
    const second = await messages.next();
    assert.ok(first.done !== true && second.done !== true);
    assert.equal(second.value.attempt, 2);
    assert.equal((await failureOf(first.value.acked())).reason, 'LEASE_OVER');
    await second.value.acked();
    await messages.return?.();
    assert.deepEqual(failures, []);
  });

  it('comes back after a restart of the queue: nothing lost, nothing settled wrongly', async (t) => {
    const { library, queue, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    const publisher = library.publisher(TOPIC, { inFlightMessagesMax: 100 });
    const texts = numbered(3_000);
    const publishing = (async () => {
      for (const text of texts) await publisher.add(text);
      await publisher.flush();
    })();
    const seen = new Map<string, number>();
    let restarts = 0;
    const restart = async (): Promise<void> => {
      await queue.stop();
      await queue.start();
      restarts += 1;
    };
    let restarting: Promise<void> | undefined;
    for await (const message of library.subscribe(TOPIC, 'mail', { maxMessages: 50 })) {
      seen.set(message.text(), (seen.get(message.text()) ?? 0) + 1);
      message.ack();
      if (seen.size === 500 || seen.size === 1_500) restarting ??= restart().finally(() => (restarting = undefined));
      if (seen.size === texts.length) break;
    }
    await Promise.all([publishing, restarting]);
    assert.ok(restarts >= 1);
    assert.deepEqual(new Set(seen.keys()), new Set(texts));
    const again = await stats('mail', ({ consumers }) => consumers.length === 0);
    assert.ok(again.backlog <= 50, `${again.backlog} left`);
  });

  it('says that a message of a lost connection cannot be settled', async (t) => {
    const { library, queue, subscription } = await startQueueFixture(t);
    await subscription('mail');
    await library.publish(TOPIC, 'one');
    const messages = library.subscribe(TOPIC, 'mail')[Symbol.asyncIterator]();
    const first = await messages.next();
    const waiting = messages.next();
    const stopping = queue.stop();
    await stopping;
    assert.ok(first.done !== true);
    assert.equal((await failureOf(first.value.acked())).reason, 'STREAM_LOST');
    await queue.start();
    const second = await waiting;
    assert.ok(second.done !== true && second.value.text() === 'one');
    await second.value.acked();
    await messages.return?.();
  });

  it('runs handlers side by side, gives back what they throw at, and drains', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail', { backoff: { initialMs: 1, maxMs: 1 } });
    await library.publish(TOPIC, numbered(20));
    const subscriber = library.subscribe(TOPIC, 'mail');
    const done: string[] = [];
    const errors: unknown[] = [];
    let running = 0;
    let most = 0;
    const processing = subscriber.process(
      async (message) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        if (message.text() === 'm7' && message.attempt === 1) throw new Error('seven');
        done.push(message.text());
      },
      { concurrency: 4, onError: (error) => errors.push(error) },
    );
    await waitFor('all', () => done.length === 20);
    await subscriber.drain();
    await processing;
    assert.equal(errors.length, 1);
    assert.equal(most, 4);
    await stats('mail', ({ backlog, consumers }) => backlog === 0 && consumers.length === 0);
  });

  it('drains: waits for what the program has, gives the rest to others', async (t) => {
    const { library, subscription, stats } = await startQueueFixture(t);
    await subscription('mail');
    await library.publish(TOPIC, numbered(10));
    const subscriber = library.subscribe(TOPIC, 'mail');
    const messages = subscriber[Symbol.asyncIterator]();
    const first = await messages.next();
    const draining = subscriber.drain();
    assert.equal((await messages.next()).done, true);
    await stats('mail', ({ consumers }) => consumers.length === 1);
    assert.ok(first.done !== true);
    first.value.ack();
    await draining;
    assert.equal((await stats('mail', ({ consumers }) => consumers.length === 0)).backlog, 9);
  });

  it('gives up on a queue that is away when it is told to, and closes', async () => {
    const { Queue } = await import('../../../../src/client/queue/queue.js');
    const away = new Queue({ address: 'unix:/nowhere/queue.sock', giveUpAfterMs: 1 }, {});
    const failure = failureOf(away.publish(TOPIC, 'a'));
    await away.close();
    assert.equal((await failure).reason, 'QUEUE_UNREACHABLE');
  });

  it('needs to know which queue, and says how to tell', async () => {
    const { Queue } = await import('../../../../src/client/queue/queue.js');
    assert.throws(
      () => new Queue({}, {}),
      (error: unknown) => isCode(error, 'precondition') && error.message.includes('MUSTER_QUEUE'),
    );
    assert.throws(() => new Queue({ address: 'queue.example:7600' }, {}), /no agent/);
    assert.throws(() => new Queue({ address: 'localhost' }, {}), /"localhost" is no address/);
  });
});
