import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { BatchCache } from '../../../src/queue/batch-cache.js';
import { GroupCommit } from '../../../src/queue/group-commit.js';
import type { TopicSettings } from '../../../src/queue/log/port.js';
import { dedupeWindow, Topic, type Subscriber } from '../../../src/queue/topic.js';
import { topicSettings } from '../../../src/queue/topic-settings.js';
import {
  encoded,
  payloads,
  queueParts,
  turns,
  type MessageFields,
  type QueueParts,
} from '../../support/queue-parts.js';

const MIB = 1024 * 1024;
const FULL = new MusterError('exhausted', 'the disk is almost full', { reason: 'DISK_ALMOST_FULL' });

interface Fixture extends QueueParts {
  readonly topic: Topic;
  readonly commit: GroupCommit;
  readonly settings: TopicSettings;
}

/** A topic on a log, as it is loaded; `of`: what was there before. */
async function load(of: QueueParts): Promise<Omit<Fixture, 'settings'>> {
  const [loaded] = (await of.log.load()).topics;
  assert.ok(loaded);
  const commit = new GroupCommit(of.log);
  const topic = new Topic(loaded, { ...of, commit, cache: new BatchCache() });
  return { ...of, topic, commit };
}

async function fixture(wanted: Parameters<typeof topicSettings>[0] = {}): Promise<Fixture> {
  const parts = queueParts();
  const settings = topicSettings(wanted);
  await parts.log.load();
  const record = { id: 1, name: 'orders', settings, revision: 1, createdMs: 1 };
  await parts.log.commit([{ kind: 'topic', topic: record }]);
  return { ...(await load(parts)), settings };
}

class Watching implements Subscriber {
  floor = 1;
  woken = 0;
  droppedBelow = 0;

  wake(): void {
    this.woken += 1;
  }

  dropBelow(head: number): void {
    this.droppedBelow = head;
  }
}

/** Payloads of all that is stored, from the topic's head on. */
async function storedIn({ topic }: Pick<Fixture, 'topic'>): Promise<string[]> {
  const texts: string[] = [];
  for (let at = topic.head; at < topic.next;) {
    const views = await topic.read(at, MIB);
    assert.ok(views.length > 0, `nothing stored at ${at}`);
    for (const view of views) texts.push(...payloads(view.slice(Math.max(at, view.firstSequence), view.until - 1)));
    at = views.at(-1)?.until ?? topic.next;
  }
  return texts;
}

function big(bytes: number): MessageFields {
  return { payload: Buffer.alloc(bytes, 65) };
}

async function failureOf(work: Promise<unknown>): Promise<MusterError> {
  const error = await work.then(
    () => undefined,
    (failure: unknown) => failure,
  );
  assert.ok(error instanceof MusterError, 'it was to fail on purpose');
  return error;
}

describe('publishing to a topic', () => {
  it('answers with sequences once it is stored, and shares a group', async () => {
    const { topic, log } = await fixture();
    const before = log.groups.length;
    const answers = await Promise.all([topic.publish(encoded('a', 'b')), topic.publish(encoded('c'))]);
    const plain = { duplicates: [], delayed: 0, repeated: false };
    assert.deepEqual(answers, [
      { firstSequence: 1, count: 2, ...plain },
      { firstSequence: 3, count: 1, ...plain },
    ]);
    assert.equal(log.groups.length, before + 1);
    assert.deepEqual([topic.head, topic.next], [1, 4]);
    assert.deepEqual(await storedIn({ topic }), ['a', 'b', 'c']);
    assert.equal(topic.bytes, encoded('a', 'b', 'c').messages.length);
  });

  it('moves its tail and wakes subscribers only when it is durable', async () => {
    const { topic, log } = await fixture();
    const watching = new Watching();
    topic.subscribers.add(watching);
    let release = (): void => undefined;
    log.onCommit = () =>
      new Promise<void>((resolve) => {
        release = resolve;
      });
    const publishing = topic.publish(encoded('a'));
    await turns();
    assert.deepEqual([topic.next, watching.woken, topic.recent(1)], [1, 0, undefined]);
    release();
    await publishing;
    assert.deepEqual([topic.next, watching.woken], [2, 1]);
    assert.equal(topic.recent(1)?.firstSequence, 1);
  });

  it('goes on where it was after a new start', async () => {
    const before = await fixture();
    await before.topic.publish(encoded('a', 'b'));
    const { topic } = await load(before);
    assert.equal((await topic.publish(encoded('c'))).firstSequence, 3);
    assert.deepEqual(await storedIn({ topic }), ['a', 'b', 'c']);
  });

  it('never stores with an earlier time, though the clock jumps back', async () => {
    const { topic, clock } = await fixture();
    await topic.publish(encoded('a'));
    clock.jumpWallClock(-1_000_000);
    await topic.publish(encoded('b'));
    const times = (await topic.read(1, MIB)).map(({ publishedMs }) => publishedMs);
    assert.deepEqual(times, [1_700_000_000_000, 1_700_000_000_000]);
  });

  it('gives the sequences of a refused group to the next one', async () => {
    const { topic, log } = await fixture();
    log.onCommit = () => {
      throw FULL;
    };
    const refused = [topic.publish(encoded('a', 'b')), topic.publish(encoded({ dedupeId: 'x' }))];
    for (const one of refused) assert.equal(await failureOf(one), FULL);
    assert.equal(topic.next, 1);
    log.onCommit = () => undefined;
    assert.equal((await topic.publish(encoded({ payload: Buffer.from('c'), dedupeId: 'x' }))).firstSequence, 1);
    assert.deepEqual(await storedIn({ topic }), ['c']);
  });

  it('puts what is more than 4 MiB into the next group', async () => {
    const { topic, log } = await fixture();
    const before = log.groups.length;
    await Promise.all(Array.from({ length: 9 }, () => topic.publish(encoded(big(1_000_000)))));
    assert.equal(log.groups.length, before + 3);
    assert.equal(topic.next, 10);
  });

  it('does not lose what comes while a group is written', async () => {
    const { topic } = await fixture();
    const answers: Promise<unknown>[] = [];
    for (let index = 0; index < 30; index += 1) {
      answers.push(topic.publish(encoded(String(index))));
      if (index % 3 === 0) await turns(1);
    }
    await Promise.all(answers);
    assert.deepEqual(
      await storedIn({ topic }),
      Array.from({ length: 30 }, (_, index) => String(index)),
    );
  });

  it('counts what it stored', async () => {
    const { topic, clock } = await fixture();
    await topic.publish(encoded('a', 'b'));
    await clock.advance(1000);
    assert.ok(topic.published.perSecond > 0);
  });

  it('is refused when the topic is deleted, waiting or not', async () => {
    const { topic } = await fixture();
    const gone = new MusterError('not_found', 'topic orders was deleted');
    const waiting = topic.publish(encoded('a'));
    topic.close(gone);
    assert.equal(await failureOf(waiting), gone);
    assert.equal(await failureOf(topic.publish(encoded('b'))), gone);
  });
});

describe('a full topic', () => {
  it('that rejects takes up to max_bytes, and tells when to try again', async () => {
    const { topic } = await fixture({ maxBytes: 2 * MIB });
    const half = encoded(big(MIB - 100));
    await topic.publish(half);
    const accepted = topic.publish(half);
    const { code, reason, retryAfterMs, message } = await failureOf(topic.publish(half));
    assert.deepEqual([code, reason, retryAfterMs], ['exhausted', 'TOPIC_FULL', 1000]);
    assert.match(message, /topic orders is full: it holds .* of at most 2/);
    await accepted;
    await topic.publish(encoded('small'));
  });

  it('that rejects counts what is being written', async () => {
    const { topic, log } = await fixture({ maxBytes: MIB });
    let release = (): void => undefined;
    log.onCommit = () =>
      new Promise<void>((resolve) => {
        release = resolve;
      });
    const writing = topic.publish(encoded(big(MIB - 1000)));
    await turns();
    assert.equal((await failureOf(topic.publish(encoded(big(2000))))).reason, 'TOPIC_FULL');
    release();
    await writing;
    log.onCommit = () => undefined;
    await topic.moveHead(2);
    await topic.publish(encoded(big(2000)));
  });

  it('has room again after a refused group', async () => {
    const { topic, log } = await fixture({ maxBytes: MIB });
    log.onCommit = () => {
      throw FULL;
    };
    await failureOf(topic.publish(encoded(big(MIB - 1000))));
    log.onCommit = () => undefined;
    await topic.publish(encoded(big(MIB - 1000)));
  });

  it('that rejects takes nothing while its oldest message is too old', async () => {
    const { topic } = await fixture({ maxAgeMs: 1000 });
    topic.overAge = true;
    assert.match((await failureOf(topic.publish(encoded('a')))).message, /older than max_age allows/);
    topic.overAge = false;
    await topic.publish(encoded('a'));
  });

  it('that drops the oldest makes room with whole batches, in the same group, and says so', async () => {
    const { topic, log } = await fixture({ maxBytes: MIB, onFull: 'DROP_OLDEST' });
    const watching = new Watching();
    topic.subscribers.add(watching);
    for (let index = 0; index < 10; index += 1) await topic.publish(encoded(big(100_000)));
    assert.equal(topic.head, 1);
    await topic.publish(encoded(big(250_000)));
    assert.deepEqual([topic.head, watching.droppedBelow, topic.next], [4, 4, 12]);
    assert.ok(topic.bytes <= MIB);
    const group = log.groups.at(-1) ?? [];
    assert.deepEqual(
      group.map(({ kind }) => kind),
      ['batch', 'head'],
    );
    const { topic: again } = await load({ log, clock: queueParts().clock, logger: queueParts().logger });
    assert.deepEqual([again.head, again.next, again.bytes], [topic.head, topic.next, topic.bytes]);
  });

  it('that drops the oldest drops nothing for a group that was refused', async () => {
    const { topic, log } = await fixture({ maxBytes: MIB, onFull: 'DROP_OLDEST' });
    for (let index = 0; index < 10; index += 1) await topic.publish(encoded(big(100_000)));
    log.onCommit = () => {
      throw FULL;
    };
    assert.equal(await failureOf(topic.publish(encoded(big(250_000)))), FULL);
    log.onCommit = () => undefined;
    await topic.publish(encoded('small'));
    assert.deepEqual([topic.head, topic.next], [1, 12]);
  });

  it('that drops the oldest takes one group that is larger than all', async () => {
    const { topic } = await fixture({ maxBytes: MIB, onFull: 'DROP_OLDEST' });
    await topic.publish(encoded('a'));
    await Promise.all(Array.from({ length: 3 }, () => topic.publish(encoded(big(900_000)))));
    assert.deepEqual([topic.head, topic.next], [2, 5]);
    await topic.publish(encoded('b'));
    assert.ok(topic.head >= 4);
    assert.ok(topic.bytes <= MIB);
  });

  it('that cannot read what to drop refuses, and its producers may send again', async () => {
    const { topic, log } = await fixture({ maxBytes: MIB, onFull: 'DROP_OLDEST' });
    const owner = topic.producers.open('p', 0, () => undefined);
    await topic.publish(encoded(big(MIB - 1000)), { name: 'p', owner, batch: 1 });
    const damage = new MusterError('data_loss', 'a batch is damaged');
    log.onRead = () => {
      throw damage;
    };
    assert.equal(await failureOf(topic.publish(encoded(big(5000)), { name: 'p', owner, batch: 2 })), damage);
    log.onRead = () => undefined;
    const published = await topic.publish(encoded(big(5000)), { name: 'p', owner, batch: 2 });
    assert.deepEqual([published.repeated, published.firstSequence], [false, 2]);
  });
});

describe('dedupe ids of a topic', () => {
  const one = encoded({ payload: Buffer.from('a'), dedupeId: 'x' });

  it('are known within the window, also after a new start', async () => {
    const before = await fixture({ dedupeWindowMs: 60_000 });
    assert.equal((await before.topic.publish(one)).firstSequence, 1);
    await before.clock.advance(59_000);
    const again = await before.topic.publish(one);
    assert.deepEqual([again.count, again.duplicates], [0, [{ index: 0, sequence: 1 }]]);
    const { topic } = await load(before);
    assert.deepEqual((await topic.publish(one)).duplicates, [{ index: 0, sequence: 1 }]);
    assert.deepEqual(await storedIn({ topic }), ['a']);
  });

  it('are not known after two windows', async () => {
    const { topic, clock } = await fixture({ dedupeWindowMs: 60_000 });
    await topic.publish(one);
    await clock.advance(120_000);
    assert.deepEqual(await topic.publish(one), {
      firstSequence: 2,
      count: 1,
      duplicates: [],
      delayed: 0,
      repeated: false,
    });
  });

  it('are known between publications of one group', async () => {
    const { topic } = await fixture();
    const [first, second] = await Promise.all([topic.publish(one), topic.publish(one)]);
    assert.deepEqual([first.count, second.duplicates], [1, [{ index: 0, sequence: 1 }]]);
  });

  it('are known while their message is delayed, without a sequence', async () => {
    const { topic } = await fixture();
    await topic.publish(encoded({ dedupeId: 'x', deliverAfter: { seconds: 5, nanos: 0 } }));
    assert.deepEqual((await topic.publish(one)).duplicates, [{ index: 0, sequence: 0 }]);
  });

  it('are forgotten by their windows, once each', async () => {
    const { topic, log } = await fixture({ dedupeWindowMs: 60_000 });
    await topic.publish(one);
    const [stored] = log.changes('dedupe');
    assert.ok(stored);
    await topic.forgetDedupe(stored.window);
    assert.equal((await log.dedupe(1, [stored.window], ['x'])).size, 1);
    await topic.forgetDedupe(stored.window + 1);
    await topic.forgetDedupe(stored.window);
    assert.equal((await log.dedupe(1, [stored.window], ['x'])).size, 0);
  });

  it('belong to the window in which time runs', () => {
    assert.equal(dedupeWindow(1999, 1000), dedupeWindow(1000, 1000));
    assert.notEqual(dedupeWindow(2000, 1000), dedupeWindow(1999, 1000));
  });
});

describe('delayed messages of a topic', () => {
  const later = (text: string, seconds: number): MessageFields => ({
    payload: Buffer.from(text),
    deliverAfter: { seconds, nanos: 0 },
  });

  it('are stored without a sequence, and enter when they are due, the earliest first', async () => {
    const { topic, clock } = await fixture();
    const published = await topic.publish(encoded(later('b', 20), later('a', 10), 'now', later('c', 90)));
    assert.deepEqual([published.firstSequence, published.count, published.delayed], [1, 1, 3]);
    assert.deepEqual([topic.delayed, topic.next], [3, 2]);
    await topic.admitDue();
    assert.equal(topic.delayed, 3);
    await clock.advance(20_000);
    await topic.admitDue();
    assert.equal(topic.delayed, 1);
    assert.deepEqual(await storedIn({ topic }), ['now', 'a', 'b']);
  });

  it('enter once, though the group is refused first', async () => {
    const { topic, log, clock } = await fixture();
    await topic.publish(encoded(later('a', 10)));
    await clock.advance(10_000);
    log.onCommit = () => {
      throw FULL;
    };
    await failureOf(topic.admitDue());
    assert.deepEqual([topic.delayed, topic.next], [1, 1]);
    log.onCommit = () => undefined;
    await topic.admitDue();
    await topic.admitDue();
    assert.deepEqual([topic.delayed, await storedIn({ topic })], [0, ['a']]);
  });

  it('are still there after a new start, and new ones go beside them', async () => {
    const before = await fixture();
    await before.topic.publish(encoded(later('a', 10)));
    const { topic, clock } = await load(before);
    await topic.publish(encoded(later('b', 10)));
    assert.equal(topic.delayed, 2);
    await clock.advance(10_000);
    await topic.admitDue();
    assert.deepEqual(await storedIn({ topic }), ['a', 'b']);
  });
});

describe('producers of a topic', () => {
  it('get the first answer again for a batch they send again, also after a new start', async () => {
    const before = await fixture();
    const owner = before.topic.producers.open('p', 0, () => undefined);
    await before.topic.publish(encoded('a', 'b'), { name: 'p', owner, batch: 1 });
    const { topic } = await load(before);
    const next = topic.producers.open('p', 0, () => undefined);
    assert.equal(topic.producers.lastBatch('p'), 1);
    const again = await topic.publish(encoded('a', 'b'), { name: 'p', owner: next, batch: 1 });
    assert.deepEqual([again.repeated, again.firstSequence, again.count], [true, 1, 2]);
    assert.deepEqual(await storedIn({ topic }), ['a', 'b']);
  });

  it('get the same for a batch that comes twice in one group', async () => {
    const { topic } = await fixture();
    const owner = topic.producers.open('p', 0, () => undefined);
    const claim = { name: 'p', owner, batch: 1 };
    const [first, second] = await Promise.all([topic.publish(encoded('a'), claim), topic.publish(encoded('a'), claim)]);
    assert.deepEqual([first.repeated, second.repeated, second.firstSequence], [false, true, 1]);
    assert.equal(topic.next, 2);
  });

  it('are refused behind a batch that was refused, until it comes again', async () => {
    const { topic, log } = await fixture();
    const owner = topic.producers.open('p', 0, () => undefined);
    const send = (batch: number): Promise<unknown> => topic.publish(encoded(`b${batch}`), { name: 'p', owner, batch });
    log.onCommit = () => {
      throw FULL;
    };
    const both = [send(1), send(2)];
    for (const one of both) assert.equal(await failureOf(one), FULL);
    log.onCommit = () => undefined;
    assert.equal((await failureOf(send(2))).reason, 'BATCH_GAP');
    await Promise.all([send(1), send(2), send(3)]);
    assert.deepEqual(await storedIn({ topic }), ['b1', 'b2', 'b3']);
  });

  it('lose nothing when their very first batch finds the topic full', async () => {
    const { topic } = await fixture({ maxBytes: MIB });
    await topic.publish(encoded(big(MIB - 1000)));
    const owner = topic.producers.open('p', 0, () => undefined);
    assert.equal(
      (await failureOf(topic.publish(encoded(big(2000)), { name: 'p', owner, batch: 1 }))).reason,
      'TOPIC_FULL',
    );
    assert.equal((await failureOf(topic.publish(encoded('b'), { name: 'p', owner, batch: 2 }))).reason, 'BATCH_GAP');
    await topic.moveHead(2);
    const again = await topic.publish(encoded(big(2000)), { name: 'p', owner, batch: 1 });
    assert.deepEqual([again.repeated, again.count], [false, 1]);
  });

  it('tell what is durable once what was under way is', async () => {
    const { topic } = await fixture();
    const owner = topic.producers.open('p', 0, () => undefined);
    const publishing = topic.publish(encoded('a'), { name: 'p', owner, batch: 1 });
    await topic.settled();
    assert.equal(topic.producers.lastBatch('p'), 1);
    await publishing;
  });
});

describe('the head of a topic', () => {
  it('moves to a place, durably, and its subscribers are told', async () => {
    const before = await fixture();
    await before.topic.publish(encoded('a', 'b'));
    await before.topic.publish(encoded('c'));
    const watching = new Watching();
    before.topic.subscribers.add(watching);
    await before.topic.moveHead(3);
    assert.deepEqual([before.topic.head, watching.droppedBelow], [3, 3]);
    assert.equal(before.topic.bytes, encoded('c').messages.length);
    const { topic } = await load(before);
    assert.deepEqual([topic.head, topic.bytes], [3, encoded('c').messages.length]);
  });

  it('never moves back, nor past the tail', async () => {
    const { topic, log } = await fixture();
    await topic.publish(encoded('a', 'b'));
    await topic.moveHead(100);
    assert.deepEqual([topic.head, topic.bytes], [3, 0]);
    const groups = log.groups.length;
    await topic.moveHead(2);
    assert.deepEqual([topic.head, log.groups.length], [3, groups]);
  });

  it('moves on a nearly full disk though a publisher in the same group is refused', async () => {
    const { topic, log } = await fixture();
    const watching = new Watching();
    await topic.publish(encoded('a', 'b'));
    topic.subscribers.add(watching);
    log.onCommit = (changes) => {
      if (changes.some(({ kind }) => kind === 'batch')) throw FULL;
    };
    const [refused, moved] = [topic.publish(encoded('c')), topic.moveHead(3)];
    assert.equal(await failureOf(refused), FULL);
    await moved;
    assert.deepEqual([topic.head, watching.droppedBelow], [3, 3]);
    log.onCommit = () => undefined;
    assert.equal((await topic.publish(encoded('c'))).firstSequence, 3);
    assert.deepEqual(await storedIn({ topic }), ['c']);
  });

  it('moves as far as the furthest of those who move it in one group', async () => {
    for (const [wanted, expected] of [
      [2, 4],
      [6, 6],
    ] as const) {
      const parts = await fixture({ maxBytes: MIB, onFull: 'DROP_OLDEST' });
      const { topic } = parts;
      for (let index = 0; index < 10; index += 1) await topic.publish(encoded(big(100_000)));
      const watching = new Watching();
      topic.subscribers.add(watching);
      await Promise.all([topic.publish(encoded(big(250_000))), topic.moveHead(wanted)]);
      assert.deepEqual([topic.head, watching.droppedBelow], [expected, expected]);
      await topic.moveHead(7);
      const { topic: again } = await load(parts);
      assert.deepEqual([again.head, again.bytes], [topic.head, topic.bytes]);
    }
  });

  it('stays where it is when the group is refused, and moves with the next', async () => {
    const { topic, log } = await fixture();
    await topic.publish(encoded('a', 'b'));
    log.onCommit = () => {
      throw FULL;
    };
    assert.equal(await failureOf(topic.moveHead(2)), FULL);
    assert.equal(topic.head, 1);
    log.onCommit = () => undefined;
    await topic.moveHead(2);
    assert.equal(topic.head, 2);
  });

  it('gives back what lies below it', async () => {
    const { topic, log } = await fixture();
    await topic.publish(encoded('a'));
    await topic.publish(encoded('b'));
    await topic.moveHead(2);
    assert.equal(topic.trimmed, 0);
    await topic.trim();
    assert.equal(topic.trimmed, 2);
    assert.deepEqual(log.trims, [{ topicId: 1, head: 2 }]);
  });
});
