/**
 * A process that reads damaged logs, one after another, because LevelDB may end the process that opens one. Each message from the parent names a
 * directory and what is done there first; the answer says what was found.
 */
import assert from 'node:assert/strict';
import { openQueueLog } from '../../../src/queue/log/leveldb-log.js';
import type { QueueLog } from '../../../src/queue/log/port.js';
import { isCode } from '../../../src/kit/errors.js';
import { contentsOf, expectedContents, type Contents } from './workload.js';

export interface Task {
  readonly path: string;
  readonly seed: number;
  readonly commits: number;
  /** What comes before everything is read: a scrub, or a compaction of half of what is stored. */
  readonly first: 'read' | 'scrub' | 'compact';
}

export type Answer =
  /** Not as data_loss, where `odd`. */
  | { readonly at: 'reported'; readonly by: string; readonly message: string; readonly odd: boolean }
  | { readonly at: 'harmless' }
  | { readonly at: 'wrong'; readonly message: string };

class Reported extends Error {
  readonly by: string;

  constructor(by: string, cause: unknown) {
    super(String(cause), { cause });
    this.by = by;
  }
}

async function reporting<T>(by: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new Reported(by, error);
  }
}

/** Everything up to the newest batch of each topic goes, and its space is given back. */
async function consume(log: QueueLog): Promise<void> {
  for (const { record, head, headOffset, next } of (await log.load()).topics) {
    const newest = (await log.read(record.id, next - 1, 1))[0];
    if (!newest || newest.firstSequence <= head) continue;
    assert.ok(newest.offset >= headOffset);
    await log.commit([{ kind: 'head', topicId: record.id, head: newest.firstSequence, offset: newest.offset }]);
    await log.trim({ topicId: record.id, head: newest.firstSequence });
  }
  await log.compact();
}

/** What is left of `contents` after consume(). */
function consumed(contents: Contents): Contents {
  const batches = new Map([...contents.batches].map(([topicId, all]) => [topicId, all.slice(-1)]));
  const topics = contents.loaded.topics.map((topic) => {
    const newest = batches.get(topic.record.id)?.[0];
    const moved = newest && newest.firstSequence > topic.head;
    return moved ? { ...topic, head: newest.firstSequence, headOffset: newest.offset } : topic;
  });
  return { ...contents, batches, loaded: { ...contents.loaded, topics } };
}

async function scrub(log: QueueLog): Promise<void> {
  for await (const what of log.scrub(new AbortController().signal)) throw new Error(what);
}

async function look({ path, seed, commits, first }: Task): Promise<Answer> {
  const log = await reporting('open', () => openQueueLog({ path, writeBufferBytes: 64 * 1024 }));
  try {
    await reporting('load', () => log.load());
    if (first === 'scrub') await reporting('scrub', () => scrub(log));
    if (first === 'compact') await reporting('compaction', () => consume(log));
    const found = await reporting('read', () => contentsOf(log));
    const expected = await expectedContents(seed, commits);
    try {
      assert.deepEqual(found, first === 'compact' ? consumed(expected) : expected);
    } catch (error) {
      return { at: 'wrong', message: `${first}: ${String(error).slice(0, 2000)}` };
    }
    if (first !== 'scrub') await reporting('scrub', () => scrub(log));
    return { at: 'harmless' };
  } finally {
    await log.close();
  }
}

process.on('message', (task: Task) => {
  void look(task)
    .catch((error: unknown): Answer => {
      if (!(error instanceof Reported)) return { at: 'wrong', message: String(error) };
      const odd = error.by !== 'scrub' && !isCode(error.cause, 'data_loss');
      return { at: 'reported', by: error.by, message: error.message, odd };
    })
    .then((answer) => process.send?.(answer));
});
