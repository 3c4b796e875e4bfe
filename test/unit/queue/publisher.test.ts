import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { Admission } from '../../../src/queue/admission.js';
import { Publisher, type Outcome } from '../../../src/queue/publisher.js';
import type { Topic } from '../../../src/queue/topic.js';
import { deliveryFixture, failureOf, FULL, type DeliveryFixture } from '../../support/queue-delivery.js';
import { encoded, turns } from '../../support/queue-parts.js';

/** What one stream is told. */
class Answers {
  readonly groups: (readonly Outcome[])[] = [];
  readonly failures: unknown[] = [];
  failure: Error | undefined;
  held = false;
  #release: (() => void)[] = [];

  readonly answer = async (outcomes: readonly Outcome[]): Promise<void> => {
    if (this.failure) throw this.failure;
    this.groups.push(outcomes);
    if (this.held) await new Promise<void>((resolve) => this.#release.push(resolve));
  };

  release(): void {
    for (const resolve of this.#release.splice(0)) resolve();
  }

  get batches(): number[] {
    return this.groups.flat().map(({ batch }) => batch);
  }

  /** Code of each refusal, and first sequence of what was stored. */
  get told(): (number | string | undefined)[] {
    return this.groups.flat().map((one) => ('refused' in one ? one.refused.reason : one.published.firstSequence));
  }
}

interface Stream {
  readonly publisher: Publisher;
  readonly answers: Answers;
  readonly displaced: () => number;
}

function stream(topic: Topic, producer = '', admission = new Admission()): Stream {
  const answers = new Answers();
  let displaced = 0;
  const onFailure = (error: unknown): void => {
    answers.failures.push(error);
  };
  const publisher = new Publisher({ topic, admission, producer, answer: answers.answer, onFailure }, 0, () => {
    displaced += 1;
  });
  return { publisher, answers, displaced: () => displaced };
}

async function publishing(producer = ''): Promise<DeliveryFixture & Stream> {
  const parts = await deliveryFixture();
  return { ...parts, ...stream(parts.topic, producer) };
}

const BAD = new MusterError('invalid', 'the batch has no messages', { reason: 'EMPTY' });

describe('a publishing stream', () => {
  it('answers in order, and together what one group stored', async () => {
    const { publisher, answers, log } = await publishing();
    const groups = log.groups.length;
    for (let batch = 1; batch <= 5; batch += 1) await publisher.take(batch, encoded('a', 'b'));
    await publisher.finish();
    assert.deepEqual(answers.batches, [1, 2, 3, 4, 5]);
    assert.deepEqual(answers.told, [1, 3, 5, 7, 9]);
    assert.equal(answers.groups.length, log.groups.length - groups);
    assert.ok(answers.groups.some((together) => together.length > 1));
  });

  it('answers a refused batch in its turn, and goes on', async () => {
    const { publisher, answers, topic } = await publishing();
    await publisher.take(1, encoded('a'));
    await publisher.refuse(2, BAD);
    await publisher.take(3, encoded('b'));
    await publisher.finish();
    assert.deepEqual(
      [answers.batches, answers.told],
      [
        [1, 2, 3],
        [1, 'EMPTY', 2],
      ],
    );
    assert.equal(topic.next, 3);
  });

  it('tells each batch of a refused group', async () => {
    const { publisher, answers, log } = await publishing();
    log.onCommit = () => {
      throw new MusterError('exhausted', 'the disk is almost full', { reason: 'DISK_ALMOST_FULL' });
    };
    await publisher.take(1, encoded('a'));
    await publisher.take(2, encoded('b'));
    await publisher.finish();
    assert.deepEqual(answers.told, ['DISK_ALMOST_FULL', 'DISK_ALMOST_FULL']);
  });

  it('finishes at once when nothing is under way', async () => {
    const { publisher, answers } = await publishing();
    await publisher.finish();
    publisher.close();
    assert.deepEqual([answers.groups, await publisher.lastBatch()], [[], 0]);
  });

  it('finishes only when the last answer has been taken', async () => {
    const { publisher, answers } = await publishing();
    answers.held = true;
    let finished = false;
    await publisher.take(1, encoded('a'));
    const finishing = publisher.finish().then(() => (finished = true));
    await turns();
    assert.deepEqual([answers.batches, finished], [[1], false]);
    answers.release();
    await finishing;
  });

  it('fails when an answer cannot be sent', async () => {
    const { publisher, answers } = await publishing();
    answers.failure = new Error('the stream is gone');
    await publisher.take(1, encoded('a'));
    await turns();
    assert.deepEqual(answers.failures, [answers.failure]);
  });

  it('finishes when what was taken so far is answered, though more is taken meanwhile', async () => {
    const { publisher, answers } = await publishing();
    answers.held = true;
    await publisher.take(1, encoded('a'));
    const finishing = publisher.finish();
    await publisher.take(2, encoded('b'));
    await turns();
    answers.release();
    await finishing;
    await turns();
    assert.deepEqual(answers.batches, [1, 2]);
  });

  it('waits at 65,536 messages of which an answer may say something each', async () => {
    const { publisher, answers } = await publishing();
    answers.held = true;
    const same = encoded(...Array.from({ length: 8192 }, () => ({ dedupeId: 'x' })));
    await publisher.take(1, same);
    await turns();
    for (let batch = 2; batch <= 8; batch += 1) await publisher.take(batch, encoded('plain'));
    for (let batch = 9; batch <= 14; batch += 1) await publisher.take(batch, same);
    let taken = false;
    const last = publisher.take(15, same).then(() => (taken = true));
    await turns();
    assert.equal(taken, false);
    answers.release();
    await last;
  });

  it('waits at 4,096 batches that are not answered, stored or refused', async () => {
    for (const bad of [false, true]) {
      const { publisher, answers } = await publishing();
      answers.held = true;
      const one = encoded('a');
      const send = (batch: number): Promise<void> => (bad ? publisher.refuse(batch, BAD) : publisher.take(batch, one));
      await send(1);
      await turns();
      for (let batch = 2; batch <= 4096; batch += 1) await send(batch);
      let taken = false;
      const last = send(4097).then(() => (taken = true));
      await turns();
      assert.equal(taken, false);
      answers.held = false;
      answers.release();
      await last;
      await publisher.finish();
      assert.equal(answers.batches.length, 4097);
    }
  });

  it('waits while too much is on its way to the disk, and gives its part back, stored or not', async () => {
    const parts = await deliveryFixture();
    const admission = new Admission(1);
    const { publisher, answers } = stream(parts.topic, '', admission);
    let release = (): void => undefined;
    parts.log.onCommit = () =>
      new Promise<void>((_, reject) => {
        release = () => {
          reject(FULL);
        };
      });
    await publisher.take(1, encoded('a'));
    let taken = false;
    const second = publisher.take(2, encoded('b')).then(() => (taken = true));
    await turns();
    assert.equal(taken, false);
    parts.log.onCommit = () => undefined;
    release();
    await second;
    await publisher.finish();
    assert.deepEqual(answers.told, [undefined, 1]);
    assert.equal(admission.enter(1), undefined);
  });
});

describe('a publishing stream of a producer', () => {
  it('stores a batch once, whichever stream sends it again', async () => {
    const first = await publishing('p');
    await first.publisher.take(1, encoded('a'));
    await first.publisher.finish();
    const second = stream(first.topic, 'p');
    assert.equal(first.displaced(), 1);
    assert.equal(await second.publisher.lastBatch(), 1);
    await second.publisher.take(1, encoded('a'));
    await second.publisher.take(2, encoded('b'));
    await second.publisher.finish();
    assert.deepEqual(second.answers.told, [1, 2]);
    assert.equal(first.topic.next, 3);
  });

  it('says what is durable, not what another stream has under way', async () => {
    const first = await publishing('p');
    let reject = (): void => undefined;
    first.log.onCommit = () =>
      new Promise<void>((_, refuse) => {
        reject = () => {
          refuse(FULL);
        };
      });
    await first.publisher.take(1, encoded('a'));
    await turns();
    const second = stream(first.topic, 'p');
    const asked = second.publisher.lastBatch();
    first.log.onCommit = () => undefined;
    reject();
    assert.equal(await asked, 0);
    await second.publisher.take(1, encoded('a'));
    await second.publisher.finish();
    assert.deepEqual([second.answers.told, first.topic.next], [[1], 2]);
  });

  it('is refused when another stream has its name', async () => {
    const first = await publishing('p');
    const second = stream(first.topic, 'p');
    await first.publisher.take(1, encoded('a'));
    await first.publisher.finish();
    assert.deepEqual(first.answers.told, ['PRODUCER_DISPLACED']);
    first.publisher.close();
    assert.equal(first.topic.producers.streams, 1);
    second.publisher.close();
    assert.equal(first.topic.producers.streams, 0);
  });

  it('is refused behind a malformed first batch, until that comes whole', async () => {
    const { publisher, answers } = await publishing('p');
    await publisher.refuse(1, BAD);
    await publisher.take(2, encoded('b'));
    await publisher.take(1, encoded('a'));
    await publisher.finish();
    assert.deepEqual(answers.told, ['EMPTY', 'BATCH_GAP', 1]);
  });

  it('fails to open when the log has failed', async () => {
    const { publisher, log, topic } = await publishing('p');
    const failed = new MusterError('unavailable', 'the disk failed');
    log.onCommit = () => {
      throw failed;
    };
    const waiting = topic.publish(encoded('x'));
    assert.equal(await failureOf(publisher.lastBatch()), failed);
    assert.equal(await failureOf(waiting), failed);
  });
});
