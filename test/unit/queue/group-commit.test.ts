import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { GroupCommit, type Contributor } from '../../../src/queue/group-commit.js';
import type { Change } from '../../../src/queue/log/port.js';
import { turns } from '../../support/queue-parts.js';

/** Stands for a change: its topic tells whose it is. */
function change(topicId: number): Change {
  return { kind: 'topic removed', topicId };
}

const FULL = new MusterError('exhausted', 'the disk is almost full', { reason: 'DISK_ALMOST_FULL' });
const FAILED = new MusterError('unavailable', 'the disk failed', { reason: 'LOG_FAILED' });

/** Writes one group at a time, each when it is let. */
class HeldLog {
  readonly groups: number[][] = [];
  refuse: (topics: readonly number[]) => MusterError | undefined = () => undefined;
  held = false;
  #release: (() => void)[] = [];

  async commit(changes: readonly Change[]): Promise<void> {
    const topics = changes.map((one) => (one.kind === 'topic removed' ? one.topicId : 0));
    this.groups.push(topics);
    if (this.held) await new Promise<void>((resolve) => this.#release.push(resolve));
    const refusal = this.refuse(topics);
    if (refusal) throw refusal;
  }

  release(): void {
    for (const resolve of this.#release.splice(0)) resolve();
  }
}

class Part implements Contributor {
  readonly essential: boolean;
  readonly events: string[] = [];
  readonly changes: Change[];
  failure: Error | undefined;
  slow = false;

  constructor(number: number, essential = false) {
    this.changes = [change(number)];
    this.essential = essential;
  }

  contribute(): readonly Change[] | Promise<readonly Change[]> {
    this.events.push('contribute');
    if (this.failure) throw this.failure;
    return this.slow ? turns(2).then(() => this.changes) : this.changes;
  }

  committed(): void {
    this.events.push('committed');
  }

  refused(error: unknown): void {
    this.events.push(error instanceof Error ? `refused: ${error.message}` : 'refused');
  }
}

describe('writing for everybody', () => {
  it('writes what comes in one turn as one group, in order', async () => {
    const log = new HeldLog();
    const commit = new GroupCommit(log);
    await Promise.all([1, 2, 3].map((number) => commit.commit(new Part(number))));
    assert.deepEqual(log.groups, [[1, 2, 3]]);
  });

  it('gathers the next group while one is written, and asks for its changes only then', async () => {
    const log = new HeldLog();
    log.held = true;
    const commit = new GroupCommit(log);
    const [first, second, third] = [new Part(1), new Part(2), new Part(3)];
    const done: number[] = [];
    void commit.commit(first).then(() => done.push(1));
    await turns();
    void commit.commit(second).then(() => done.push(2));
    await turns();
    void commit.commit(third).then(() => done.push(3));
    await turns();
    assert.deepEqual([log.groups, second.events, done], [[[1]], [], []]);
    log.release();
    await turns();
    assert.deepEqual([log.groups, done], [[[1], [2, 3]], [1]]);
    log.release();
    await commit.idle();
    assert.deepEqual(done, [1, 2, 3]);
  });

  it('lets a part wait once, however often it asks, and again when its group has begun', async () => {
    const log = new HeldLog();
    log.held = true;
    const commit = new GroupCommit(log);
    const part = new Part(1);
    const first = commit.commit(part);
    assert.equal(commit.commit(part), first);
    await turns();
    const second = commit.commit(part);
    assert.notEqual(second, first);
    log.held = false;
    log.release();
    await Promise.all([first, second]);
    assert.deepEqual(part.events, ['contribute', 'committed', 'contribute', 'committed']);
  });

  it('tells all parts that what they contributed is durable before those that wait', async () => {
    const commit = new GroupCommit(new HeldLog());
    const [a, b] = [new Part(1), new Part(2)];
    const seen: string[][] = [];
    await Promise.all([a, b].map((part) => commit.commit(part).then(() => seen.push([...a.events, ...b.events]))));
    assert.deepEqual(seen[0], ['contribute', 'committed', 'contribute', 'committed']);
  });

  it('writes nothing where there is nothing to write', async () => {
    const log = new HeldLog();
    const part = new Part(1);
    part.changes.length = 0;
    await new GroupCommit(log).commit(part);
    assert.deepEqual([log.groups, part.events], [[], ['contribute', 'committed']]);
  });

  it('waits for parts that have to look first', async () => {
    const log = new HeldLog();
    const commit = new GroupCommit(log);
    const slow = new Part(1);
    slow.slow = true;
    await Promise.all([commit.commit(slow), commit.commit(new Part(2))]);
    assert.deepEqual(log.groups, [[1, 2]]);
  });

  it('writes changes of nobody in particular', async () => {
    const log = new HeldLog();
    const commit = new GroupCommit(log);
    await Promise.all([commit.commitChanges([change(1), change(2)]), commit.commitChanges([change(3)])]);
    assert.deepEqual(log.groups, [[1, 2, 3]]);
    log.refuse = () => FAILED;
    await assert.rejects(commit.commitChanges([change(4)]), FAILED);
  });

  it('is idle when nothing waits', async () => {
    const commit = new GroupCommit(new HeldLog());
    await commit.idle();
    const part = new Part(1);
    void commit.commit(part);
    await commit.idle();
    assert.deepEqual(part.events, ['contribute', 'committed']);
  });
});

describe('a group that is not written', () => {
  it('fails every part and everyone who waits', async () => {
    const log = new HeldLog();
    log.refuse = () => FAILED;
    const commit = new GroupCommit(log);
    const parts = [new Part(1), new Part(2, true)];
    for (const done of parts.map((part) => commit.commit(part))) await assert.rejects(done, FAILED);
    for (const { events } of parts) assert.deepEqual(events, ['contribute', 'refused: the disk failed']);
    assert.equal(log.groups.length, 1);
  });

  it('is no unhandled failure when nobody waits for it', async () => {
    const log = new HeldLog();
    log.refuse = () => FAILED;
    const commit = new GroupCommit(log);
    const part = new Part(1);
    void commit.commit(part);
    await turns();
    assert.deepEqual(part.events, ['contribute', 'refused: the disk failed']);
  });

  it('is tried again with its essential parts alone when the disk is nearly full', async () => {
    const log = new HeldLog();
    log.refuse = (topics) => (topics.includes(1) ? FULL : undefined);
    const commit = new GroupCommit(log);
    const [grows, frees] = [new Part(1), new Part(2, true)];
    const [refused, stored] = [commit.commit(grows), commit.commit(frees)];
    await assert.rejects(refused, FULL);
    await stored;
    assert.deepEqual(log.groups, [[1, 2], [2]]);
    assert.deepEqual(frees.events, ['contribute', 'committed']);
    assert.deepEqual(grows.events, ['contribute', 'refused: the disk is almost full']);
  });

  it('fails its essential parts too when not even they fit', async () => {
    const log = new HeldLog();
    log.refuse = () => FULL;
    const commit = new GroupCommit(log);
    const parts = [new Part(1), new Part(2, true)];
    for (const done of parts.map((part) => commit.commit(part))) await assert.rejects(done, FULL);
    await assert.rejects(commit.commit(new Part(3, true)), FULL);
    assert.deepEqual(log.groups, [[1, 2], [2], [3]]);
  });

  it('does not end the groups behind it', async () => {
    const log = new HeldLog();
    log.refuse = (topics) => (topics.includes(1) ? FULL : undefined);
    const commit = new GroupCommit(log);
    await assert.rejects(commit.commit(new Part(1)), FULL);
    await commit.commit(new Part(2));
    assert.deepEqual(log.groups, [[1], [2]]);
  });

  it('is written part by part when the log does not take what one of them wants', async () => {
    const log = new HeldLog();
    const odd = new MusterError('internal', 'topic 2 has no subscription 6');
    log.refuse = (topics) => (topics.includes(2) ? odd : undefined);
    const commit = new GroupCommit(log);
    const parts = [new Part(1), new Part(2, true), new Part(3, true)];
    const [first, second, third] = parts.map((part) => commit.commit(part));
    await assert.rejects(Promise.resolve(second), odd);
    await Promise.all([first, third]);
    assert.deepEqual(log.groups, [[1, 2, 3], [1], [2], [3]]);
    assert.deepEqual(
      parts.map(({ events }) => events.at(-1)),
      ['committed', `refused: ${odd.message}`, 'committed'],
    );
  });

  it('takes nothing back before the essential parts alone are written', async () => {
    const log = new HeldLog();
    log.refuse = (topics) => (topics.includes(1) ? FULL : undefined);
    const order: string[] = [];
    const commit = new GroupCommit(log);
    const [grows, frees] = [new Part(1), new Part(2, true)];
    grows.refused = () => order.push('refused');
    frees.committed = () => order.push('committed');
    await assert.rejects(Promise.all([commit.commit(grows), commit.commit(frees)]), FULL);
    assert.deepEqual(order, ['committed', 'refused']);
  });

  it('leaves out a part that cannot say what to write', async () => {
    const log = new HeldLog();
    const commit = new GroupCommit(log);
    const broken = new Part(1);
    broken.failure = new Error('cannot be read');
    const [fails, stored] = [commit.commit(broken), commit.commit(new Part(2))];
    await assert.rejects(fails, /cannot be read/);
    await stored;
    assert.deepEqual(log.groups, [[2]]);
    assert.deepEqual(broken.events, ['contribute', 'refused: cannot be read']);
  });
});

describe('removals', () => {
  it('are the last of their group, and what they remove is forgotten when they are durable', async () => {
    const log = new HeldLog();
    log.held = true;
    const commit = new GroupCommit(log);
    let forgotten = false;
    const removed = commit.commitRemoval(change(1), () => (forgotten = true));
    const stored = commit.commit(new Part(2));
    await turns();
    assert.deepEqual([log.groups, forgotten], [[[2, 1]], false]);
    log.release();
    await Promise.all([removed, stored]);
    assert.equal(forgotten, true);
  });

  it('are written alone on a nearly full disk', async () => {
    const log = new HeldLog();
    log.refuse = (topics) => (topics.includes(1) ? FULL : undefined);
    const commit = new GroupCommit(log);
    const refused = commit.commit(new Part(1));
    await commit.commitRemoval(change(2), () => undefined);
    await assert.rejects(refused, FULL);
  });

  it('that are refused forget nothing', async () => {
    const log = new HeldLog();
    log.refuse = () => FAILED;
    let forgotten = false;
    await assert.rejects(
      new GroupCommit(log).commitRemoval(change(1), () => (forgotten = true)),
      FAILED,
    );
    assert.equal(forgotten, false);
  });
});

describe('what is essential', () => {
  const parts = (): { clock: ManualClock; log: HeldLog; commit: GroupCommit } => {
    const [clock, log] = [new ManualClock(), new HeldLog()];
    return { clock, log, commit: new GroupCommit(log, { clock }) };
  };

  it('is written at once where nothing else was for a while', async () => {
    const { clock, log, commit } = parts();
    await commit.commit(new Part(1, true));
    await commit.commit(new Part(2));
    await clock.advance(2);
    await commit.commit(new Part(3, true));
    assert.deepEqual(log.groups, [[1], [2], [3]]);
    assert.equal(clock.pending, 0);
  });

  it('waits a moment for company behind a group with more in it', async () => {
    const { clock, log, commit } = parts();
    await commit.commit(new Part(1));
    const settled = [commit.commit(new Part(2, true)), commit.commit(new Part(3, true))];
    await clock.advance(1);
    assert.deepEqual(log.groups, [[1]]);
    await Promise.all([...settled, commit.commit(new Part(4))]);
    assert.deepEqual(log.groups, [[1], [2, 3, 4]]);
    assert.equal(clock.pending, 0);
  });

  it('waits no longer than that', async () => {
    const { clock, log, commit } = parts();
    await commit.commit(new Part(1));
    const settled = commit.commit(new Part(2, true));
    await clock.advance(2);
    await settled;
    await commit.commit(new Part(3, true));
    assert.deepEqual(log.groups, [[1], [2], [3]]);
  });

  it('goes with a removal', async () => {
    const { log, commit } = parts();
    await commit.commit(new Part(1));
    const settled = commit.commit(new Part(2, true));
    await turns();
    await Promise.all([settled, commit.commitRemoval(change(3), () => undefined)]);
    assert.deepEqual(log.groups, [[1], [2, 3]]);
  });
});

describe('a part that breaks its word', () => {
  it('harms no other, and is told of', async () => {
    const bugs: unknown[] = [];
    const bug = new Error('a bug');
    const log = new HeldLog();
    const commit = new GroupCommit(log, { onBug: (error) => bugs.push(error) });
    const breaks = (): never => {
      throw bug;
    };
    const [broken, whole] = [new Part(1), new Part(2)];
    broken.committed = breaks;
    broken.refused = breaks;
    const [fails, stored] = [commit.commit(broken), commit.commit(whole)];
    await assert.rejects(fails, bug);
    await stored;
    log.refuse = () => FAILED;
    const [refused, too] = [commit.commit(broken), commit.commit(whole)];
    await assert.rejects(refused, FAILED);
    await assert.rejects(too, FAILED);
    await commit.idle();
    assert.deepEqual(bugs, [bug, bug]);
  });
});
