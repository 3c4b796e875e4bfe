import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import { Subscription, Topic } from '../../../generated/muster/v1/queue.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { randomBetween, seededRandom, type Random } from '../../../src/kit/random.js';
import { QueueJudge, type Letter, type Mode } from '../../support/queue-history.js';
import { QueueProcess, type QueueClient } from '../../support/queue-process.js';
import { waitFor } from '../../support/waiting.js';
import { seedOf } from '../store/support.js';
import { Consumer, IN_ORDER, ONE_BY_ONE, STEADY } from './consumers.js';
import { Life, readMessage, TOPIC as topic } from './life.js';
import { Fleeting, Seeker } from './operators.js';
import { StreamPublisher, UnaryPublisher, type Actor } from './publishers.js';

/** Kills in an ordinary run. */
const KILLS_DEFAULT = 12;
const LIFE_MS: readonly [number, number] = [30, 700];
/** Now and then nothing is published for so long that space is being given back when the kill comes. */
const QUIET_EVERY = 8;
const QUIET_MS: readonly [number, number] = [1900, 2600];
/** What an emptied log may still have on disk. */
const EMPTY_BYTES_MAX = 1024 * 1024;
/** A small buffer, so that tables are written and merged under the kills and not only at each start. */
const ARGS: readonly string[] = ['--write-buffer', '64KiB'];

const SUBSCRIPTIONS: readonly { readonly name: string; readonly mode: Mode }[] = [
  { name: 'workers', mode: 'competing' },
  { name: 'audit', mode: 'single' },
  { name: 'keyed', mode: 'ordered' },
  { name: 'jumper', mode: 'competing' },
];

function publishers(): readonly Actor[] {
  return [
    new StreamPublisher('stream-a'),
    new StreamPublisher('stream-b'),
    new StreamPublisher('stream-c'),
    new UnaryPublisher('plain', 'plain'),
    new UnaryPublisher('dedupe', 'dedupe'),
    new UnaryPublisher('delayed', 'delayed'),
  ];
}

function others(): readonly Actor[] {
  return [
    ...Array.from({ length: 3 }, () => new Consumer('workers', ONE_BY_ONE)),
    new Consumer('audit', IN_ORDER),
    new Consumer('keyed', ONE_BY_ONE),
    new Consumer('keyed', ONE_BY_ONE),
    new Consumer('jumper', STEADY),
    new Seeker('jumper'),
    new Fleeting(),
  ];
}

async function setUp(client: QueueClient, judge: QueueJudge): Promise<void> {
  await client.createTopic({ topic: Topic.fromPartial({ name: topic }) });
  const backoff = { initial: { seconds: 0, nanos: 10_000_000 }, max: { seconds: 0, nanos: 50_000_000 }, multiplier: 2 };
  for (const { name, mode } of SUBSCRIPTIONS) {
    await client.createSubscription({
      subscription: Subscription.fromPartial({
        topic,
        name,
        start: { at: { $case: 'earliest', value: {} } },
        // Longer than the run may stand still: what comes again must come for another reason.
        lease: { seconds: 600, nanos: 0 },
        maxAttempts: name === 'workers' ? 4 : 0,
        backoff,
        ordered: mode === 'ordered',
      }),
    });
    judge.record({ kind: 'subscribed', subscription: name, mode, all: true });
  }
}

async function empty(client: QueueClient): Promise<boolean> {
  const { topics } = await client.getStats({ topic });
  const stats = topics[0];
  if (!stats) throw new Error('the topic is gone');
  return stats.delayed === 0 && stats.messages === 0 && stats.subscriptions.every(({ backlog }) => backlog === 0);
}

async function letters(client: QueueClient, subscription: string): Promise<readonly Letter[]> {
  const found: Letter[] = [];
  let pageToken = '';
  do {
    const page = await client.listDeadLetters({ topic, subscription, pageSize: 0, pageToken });
    for (const { sequence, message } of page.deadLetters) {
      if (message) found.push({ sequence, id: readMessage(message).id });
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return found;
}

/** All that survives the lives of one server. */
class Kills {
  readonly judge = new QueueJudge();
  readonly queue: QueueProcess;
  readonly #random: Random;
  readonly #publishers = publishers();
  readonly #others = others();

  constructor(queue: QueueProcess, seed: number) {
    this.queue = queue;
    this.#random = seededRandom(seed);
  }

  async start(): Promise<void> {
    this.judge.record({ kind: 'started', ...(await this.queue.start()) });
  }

  /** A life under load, and its end. */
  async round(number: number): Promise<void> {
    const life = this.#life(false);
    const isQuiet = number % QUIET_EVERY === QUIET_EVERY - 1;
    const done = (isQuiet ? this.#others : [...this.#publishers, ...this.#others]).map((actor) => actor.run(life));
    await sleep(systemClock, randomBetween(this.#random, ...(isQuiet ? QUIET_MS : LIFE_MS)));
    life.end();
    this.judge.record({ kind: 'killed' });
    await this.queue.kill();
    await Promise.all(done);
  }

  /** Everything that is there is consumed, and what the queue says of it is judged. */
  async finish(): Promise<void> {
    const all = this.#life(true);
    const publishing = this.#publishers.map((actor) => actor.run(all));
    const consuming = this.#others.map((actor) => actor.run(all));
    await Promise.all(publishing);
    await this.queue.ask((client) => waitFor('everything to be consumed', () => empty(client)));
    const found = new Map<string, readonly Letter[]>();
    for (const { name } of SUBSCRIPTIONS) {
      found.set(name, await this.queue.ask((client) => letters(client, name)));
    }
    this.judge.finish(found, (publisher) => publisher !== 'delayed');
    await this.#replay('workers', found.get('workers') ?? []);
    all.leave();
    await Promise.all(consuming);
  }

  /** Dead letters are consumed too, and then nothing is left. */
  async #replay(subscription: string, dead: readonly Letter[]): Promise<void> {
    for (const { sequence } of dead) this.judge.record({ kind: 'replaying', subscription, sequence });
    const { replayed } = await this.queue.ask((client) =>
      client.replayDeadLetters({ topic, subscription, sequences: [] }),
    );
    if (replayed !== dead.length) this.judge.find(`${replayed} dead letters of ${dead.length} were replayed`);
    await this.queue.ask((client) => waitFor('dead letters to be consumed', () => empty(client)));
    await this.queue.ask((client) =>
      waitFor('no dead letter to be left', async () => (await letters(client, subscription)).length === 0),
    );
  }

  #life(calm: boolean): Life {
    const random = seededRandom(randomBetween(this.#random, 0, 2 ** 32));
    return new Life(this.queue.address, this.judge, { random, calm });
  }
}

async function assertGood({ judge, queue }: Kills, seed: number): Promise<void> {
  if (judge.findings.length === 0) return;
  const directory = await mkdtemp(join(tmpdir(), 'muster-queue-history-'));
  await writeFile(join(directory, 'history.jsonl'), judge.tail());
  assert.fail(
    `MUSTER_SEED=${seed}, the history's end is in ${directory}:\n${judge.findings.join('\n')}\nthe queue said:\n${queue.said().slice(-4000)}`,
  );
}

async function killAndKill(t: TestContext, kills: number): Promise<Kills> {
  const seed = seedOf(t);
  const run = new Kills(await QueueProcess.make(t, { args: ARGS }), seed);
  await run.start();
  await run.queue.ask((client) => setUp(client, run.judge));
  for (let round = 0; round < kills; round += 1) {
    await run.round(round);
    await run.start();
    await assertGood(run, seed);
  }
  await run.finish();
  await assertGood(run, seed);
  return run;
}

it('keeps every promise over kills under load', { timeout: 6 * 3600_000 }, async (t) => {
  const kills = Number(process.env['MUSTER_QUEUE_KILLS'] ?? KILLS_DEFAULT);
  const { judge, queue } = await killAndKill(t, kills);
  const { acknowledged, deliveries, slowestStartMs, busiestStartMs } = judge;
  t.diagnostic(
    `${kills} kills, ${acknowledged.size} acknowledged messages, ${deliveries} deliveries, slowest start ${Math.round(slowestStartMs)} ms, ${Math.round(busiestStartMs)} ms of it computing`,
  );
  await queue.ask((client) =>
    waitFor('the disk to be given back', async () => {
      const { diskBytes } = await client.getStats({ topic });
      return diskBytes < EMPTY_BYTES_MAX;
    }),
  );
});
