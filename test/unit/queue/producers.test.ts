import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PRODUCER_ACKS_MAX, type ProducerRecord } from '../../../src/queue/log/port.js';
import { PRODUCER_MEMORY_MS, Producers, PRODUCERS_MAX } from '../../../src/queue/producers.js';

const NOW_MS = 1_700_000_000_000;
const nobody = (): void => undefined;

function published(firstSequence: number, count = 1): Parameters<Producers['accept']>[1] {
  return { firstSequence, count, duplicates: [], delayed: 0, repeated: false };
}

function record(producer: string, batches: readonly number[], seenMs = NOW_MS): ProducerRecord {
  return { producer, acks: batches.map((batch) => ({ batch, firstSequence: batch * 10, count: 2 })), seenMs };
}

/** A producer with a stream, that has stored batches 1 to `count`, each of one message with the batch's number as its sequence. */
function producing(count: number): { producers: Producers; owner: number } {
  const producers = new Producers(3, []);
  const owner = producers.open('p', NOW_MS, nobody);
  for (let batch = 1; batch <= count; batch += 1) {
    assert.deepEqual(producers.judge({ name: 'p', owner, batch }), { kind: 'new' });
    producers.accept({ name: 'p', batch }, published(batch), NOW_MS);
  }
  return { producers, owner };
}

function refusalOf(producers: Producers, owner: number, batch: number): string | undefined {
  const verdict = producers.judge({ name: 'p', owner, batch });
  return verdict.kind === 'refused' ? verdict.error.reason : undefined;
}

describe('what producers have stored', () => {
  it('takes batches in order, and stores the producer with each', () => {
    const { producers, owner } = producing(1);
    assert.deepEqual(producers.judge({ name: 'p', owner, batch: 2 }), { kind: 'new' });
    const acks = [
      { batch: 1, firstSequence: 1, count: 1 },
      { batch: 2, firstSequence: 2, count: 5 },
    ];
    assert.deepEqual(producers.accept({ name: 'p', batch: 2 }, published(2, 5), NOW_MS + 5), {
      kind: 'producer',
      topicId: 3,
      producer: 'p',
      record: { producer: 'p', acks, seenMs: NOW_MS + 5 },
    });
    assert.equal(producers.lastBatch('p'), 2);
  });

  it('answers a batch that comes again with what it got, and does not take it', () => {
    const { producers, owner } = producing(3);
    assert.deepEqual(producers.judge({ name: 'p', owner, batch: 2 }), {
      kind: 'repeated',
      published: { ...published(2), repeated: true },
    });
  });

  it('answers a batch of long ago without its sequences', () => {
    const { producers, owner } = producing(PRODUCER_ACKS_MAX + 1);
    const oldest = producers.judge({ name: 'p', owner, batch: 1 });
    assert.deepEqual(oldest, { kind: 'repeated', published: { ...published(0, 0), repeated: true } });
    const second = producers.judge({ name: 'p', owner, batch: 2 });
    assert.deepEqual(second, { kind: 'repeated', published: { ...published(2), repeated: true } });
  });

  it('refuses what comes behind a gap, and says what must come', () => {
    const { producers, owner } = producing(3);
    const verdict = producers.judge({ name: 'p', owner, batch: 5 });
    assert.ok(verdict.kind === 'refused');
    assert.deepEqual([verdict.error.code, verdict.error.reason], ['precondition', 'BATCH_GAP']);
    assert.deepEqual(verdict.error.metadata, { expected: '4' });
  });

  it('lets a producer that is not known begin with any number', () => {
    const producers = new Producers(3, []);
    const owner = producers.open('p', NOW_MS, nobody);
    assert.equal(producers.lastBatch('p'), 0);
    assert.deepEqual(producers.judge({ name: 'p', owner, batch: 90 }), { kind: 'new' });
  });

  it('takes nothing behind a first batch that was refused before it could be judged', () => {
    const producers = new Producers(3, []);
    const owner = producers.open('p', NOW_MS, nobody);
    producers.expect({ name: 'p', batch: 1 });
    producers.expect({ name: 'p', batch: 2 });
    producers.expect({ name: 'another', batch: 2 });
    assert.equal(refusalOf(producers, owner, 2), 'BATCH_GAP');
    assert.deepEqual(producers.judge({ name: 'p', owner, batch: 1 }), { kind: 'new' });
  });

  it('knows at a new start what was stored', () => {
    const producers = new Producers(3, [record('p', [7, 8]), record('q', [])]);
    const owner = producers.open('p', NOW_MS, nobody);
    assert.equal(producers.lastBatch('p'), 8);
    const repeated = producers.judge({ name: 'p', owner, batch: 7 });
    assert.deepEqual(repeated, { kind: 'repeated', published: { ...published(70, 2), repeated: true } });
    assert.deepEqual(producers.judge({ name: 'p', owner, batch: 9 }), { kind: 'new' });
    const other = producers.open('q', NOW_MS, nobody);
    assert.deepEqual(producers.judge({ name: 'q', owner: other, batch: 4 }), { kind: 'new' });
  });

  it('takes back what was not stored after all', () => {
    const { producers, owner } = producing(5);
    producers.undo([
      { name: 'p', batch: 4 },
      { name: 'p', batch: 5 },
      { name: 'nobody', batch: 1 },
    ]);
    assert.equal(producers.lastBatch('p'), 3);
    assert.equal(refusalOf(producers, owner, 6), 'BATCH_GAP');
    assert.equal(refusalOf(producers, owner, 5), 'BATCH_GAP');
    assert.deepEqual(producers.judge({ name: 'p', owner, batch: 4 }), { kind: 'new' });
    assert.equal(producers.judge({ name: 'p', owner, batch: 3 }).kind, 'repeated');
  });

  it('does not accept for a producer that nobody opened', () => {
    assert.throws(() => new Producers(3, []).accept({ name: 'p', batch: 1 }, published(1), NOW_MS), {
      code: 'internal',
    });
  });
});

describe('streams of producers', () => {
  it('end when another one takes the name, and nothing more is taken from them', () => {
    const { producers, owner } = producing(1);
    let told = 0;
    const second = producers.open('p', NOW_MS, () => (told += 1));
    assert.equal(refusalOf(producers, owner, 2), 'PRODUCER_DISPLACED');
    assert.deepEqual(producers.judge({ name: 'p', owner: second, batch: 2 }), { kind: 'new' });
    producers.close('p', owner);
    assert.equal(producers.streams, 1);
    producers.open('p', NOW_MS, nobody);
    assert.equal(told, 1);
    assert.equal(refusalOf(producers, second, 2), 'PRODUCER_DISPLACED');
  });

  it('are counted', () => {
    const { producers, owner } = producing(1);
    const other = producers.open('q', NOW_MS, nobody);
    assert.equal(producers.streams, 2);
    producers.close('p', owner);
    producers.close('q', other);
    producers.close('nobody', 1);
    assert.equal(producers.streams, 0);
  });

  it('leave nothing behind when they stored nothing', () => {
    const producers = new Producers(3, []);
    const owner = producers.open('p', NOW_MS, nobody);
    producers.close('p', owner);
    assert.equal(refusalOf(producers, owner, 1), 'PRODUCER_DISPLACED');
    assert.deepEqual(producers.forget(NOW_MS + 10 * PRODUCER_MEMORY_MS), []);
  });
});

describe('forgetting producers', () => {
  const gone = (producer: string): object => ({ kind: 'producer', topicId: 3, producer, record: undefined });

  it('that were silent for a day, and have no stream', () => {
    const producers = new Producers(3, [
      record('old', [1], NOW_MS - PRODUCER_MEMORY_MS - 1),
      record('open', [1], NOW_MS - PRODUCER_MEMORY_MS - 1),
      record('new', [1], NOW_MS - PRODUCER_MEMORY_MS),
    ]);
    producers.open('open', NOW_MS, nobody);
    assert.deepEqual(producers.forget(NOW_MS), [gone('old')]);
    assert.deepEqual(producers.forget(NOW_MS), []);
    assert.equal(producers.lastBatch('old'), 0);
    assert.equal(producers.lastBatch('new'), 1);
  });

  it('that are too many, those first that were silent longest', () => {
    const records = Array.from({ length: PRODUCERS_MAX + 2 }, (_, index) => record(`p${index}`, [1], NOW_MS - index));
    const producers = new Producers(3, records);
    assert.deepEqual(producers.forget(NOW_MS), [gone(`p${PRODUCERS_MAX + 1}`), gone(`p${PRODUCERS_MAX}`)]);
  });
});
