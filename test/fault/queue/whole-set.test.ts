import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Subscription, Topic } from '../../../generated/muster/v1/queue.js';
import { connectQueue } from '../../../src/client/queue/index.js';
import { QueueProcess } from '../../support/queue-process.js';
import { waitFor } from '../../support/waiting.js';
import { programArgs } from '../../support/program.js';

/** Messages published; a million with MUSTER_QUEUE_MESSAGES=1000000. */
const MESSAGES = Number(process.env['MUSTER_QUEUE_MESSAGES'] ?? 60_000);
const DEADLINE_MS = 60_000 + MESSAGES / 5;
const CONSUMER = fileURLToPath(new URL('whole-set-consumer', import.meta.url));
const BUF = fileURLToPath(new URL('../../../node_modules/.bin/buf', import.meta.url));
const run = promisify(execFile);

interface Report {
  readonly unique: number;
  readonly received: number;
  readonly wrong: number;
}

/** A consumer in its own process, which reports when it has everything. */
function consumer(queue: QueueProcess, subscription: string): { report: Promise<Report>; kill: () => void } {
  const args = programArgs(CONSUMER, queue.address, 'numbers', subscription, String(MESSAGES));
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  const report = new Promise<Report>((resolve, reject) => {
    child.once('close', (status) => {
      if (status === 0) resolve(JSON.parse(out) as Report);
      else reject(new Error(`the consumer of ${subscription} ended with status ${String(status)}`));
    });
  });
  report.catch(() => undefined);
  return { report, kill: () => void child.kill('SIGKILL') };
}

/** A person with buf curl on the queue's socket. */
async function byHand(queue: QueueProcess, method: string, request: object): Promise<Record<string, unknown>> {
  const way = [
    'curl',
    '--protocol',
    'grpc',
    '--http2-prior-knowledge',
    '--unix-socket',
    join(queue.data, 'queue.sock'),
  ];
  const { stdout } = await run(BUF, [
    ...way,
    ...['-d', JSON.stringify(request), `http://localhost/muster.v1.Queue/${method}`],
  ]);
  return JSON.parse(stdout) as Record<string, unknown>;
}

interface Pulled {
  readonly messages: readonly { readonly lease: string; readonly message: { readonly payload: string } }[];
}

describe('a queue killed in the middle', () => {
  it('delivers exactly the published set to two programs and a person, and is empty on disk at the end', async (t) => {
    const queue = await QueueProcess.make(t);
    await queue.start();
    await queue.ask(async (client) => {
      await client.createTopic({ topic: Topic.fromPartial({ name: 'numbers' }) });
      for (const name of ['first', 'second', 'hand']) {
        const subscription = Subscription.fromPartial({ topic: 'numbers', name });
        await client.createSubscription({ subscription });
      }
    });
    const consumers = ['first', 'second'].map((name) => consumer(queue, name));
    t.after(() => {
      for (const { kill } of consumers) kill();
    });
    const library = connectQueue({ address: queue.address });
    t.after(() => library.close().catch(() => undefined));
    const publisher = library.publisher('numbers', { giveUpAfterMs: DEADLINE_MS });
    for (let number = 0; number < MESSAGES; number += 1) {
      await publisher.add(String(number));
      if (number === Math.floor(MESSAGES / 2)) {
        await queue.kill();
        await queue.start();
      }
    }
    await publisher.close();

    const hand = { topic: 'numbers', subscription: 'hand' };
    const pulled = (await byHand(queue, 'Pull', { ...hand, maxMessages: 3 })) as unknown as Pulled;
    const texts = pulled.messages.map(({ message }) => Buffer.from(message.payload, 'base64').toString());
    assert.deepEqual(texts, ['0', '1', '2']);
    const leases = pulled.messages.map(({ lease }) => lease);
    assert.deepEqual(await byHand(queue, 'Settle', { ...hand, acks: leases }), {});
    await queue.kill();
    await queue.start();
    const next = (await byHand(queue, 'Pull', hand)) as unknown as Pulled;
    assert.equal(Buffer.from(next.messages[0]?.message.payload ?? '', 'base64').toString(), '3');
    const sought = await byHand(queue, 'Seek', { ...hand, to: { latest: {} } });
    assert.equal(Number(sought['skipped']), MESSAGES - 3);

    for (const { report } of consumers) {
      const { unique, wrong, received } = await report;
      assert.deepEqual({ unique, wrong }, { unique: MESSAGES, wrong: 0 });
      t.diagnostic(`${received - unique} of ${MESSAGES} messages came twice`);
    }
    await waitFor(
      'an empty topic, and its space given back',
      async () => {
        const { topics, diskBytes } = await queue.ask((client) => client.getStats({ topic: 'numbers' }));
        const [topic] = topics;
        const empty = topic?.messages === 0 && topic.subscriptions.every(({ backlog }) => backlog === 0);
        return empty && diskBytes < 1024 * 1024;
      },
      DEADLINE_MS,
    );
  });
});
