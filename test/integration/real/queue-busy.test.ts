import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Queue } from '../../../src/client/queue/queue.js';
import { systemClock } from '../../../src/kit/clock.js';
import { QueueProcess } from '../../support/queue-process.js';
import { waitFor } from '../../support/waiting.js';

const PAYLOAD_BYTES = 1024;
const PATIENCE_MS = 60_000;
/** What stands still for ever fails then. */
const TEST = { timeout: 180_000 };
/** Connections that do not end by themselves are cut after this time and a second more. */
const DRAIN_MS = 5_000;

/** A queue of its own with topic `t` and subscription `s`, and a program that uses it. */
async function start(t: TestContext): Promise<{ queue: QueueProcess; library: Queue }> {
  const queue = await QueueProcess.make(t, { args: ['--auto-create-topics'] });
  await queue.start();
  const library = new Queue({ address: queue.address }, {});
  t.after(() => library.close().catch(() => undefined));
  return { queue, library };
}

/** Takes what comes and acknowledges it; tells the sequences. */
function consume(library: Queue): Set<number> {
  const seen = new Set<number>();
  const batches = library.subscribeBatches('t', 's', { create: { start: 'earliest' } });
  void (async () => {
    for await (const batch of batches) {
      for (const { sequence } of batch) seen.add(sequence);
      batch.ackAll();
    }
  })().catch(() => undefined);
  return seen;
}

describe('a program that keeps its queue busy', () => {
  it('publishes and consumes at once, however much it is', TEST, async (t) => {
    const { library } = await start(t);
    const count = 30_000;
    const publisher = library.publisher('t');
    const payload = Buffer.alloc(PAYLOAD_BYTES, 'x');
    await publisher.send(payload);
    const seen = consume(library);
    await waitFor('the consumer to be there', () => seen.size === 1);
    for (let sent = 1; sent < count; sent += 1) await publisher.add(payload);
    await publisher.flush();
    await waitFor('all to be consumed', () => seen.size === count, PATIENCE_MS);
  });

  it('does not keep the queue from ending, and loses nothing by it', TEST, async (t) => {
    const { queue, library } = await start(t);
    const publisher = library.publisher('t');
    const payload = Buffer.alloc(PAYLOAD_BYTES, 'x');
    let sent = 0;
    const stop = new AbortController();
    const publishing = (async () => {
      while (!stop.signal.aborted) {
        await publisher.add(payload);
        sent += 1;
      }
    })();
    for (const more of [20_000, 20_000]) {
      const until = sent + more;
      await waitFor('the publisher to be busy', () => sent > until, PATIENCE_MS);
      const beganMs = systemClock.monotonic();
      await queue.stop();
      const tookMs = systemClock.monotonic() - beganMs;
      assert.ok(tookMs < DRAIN_MS, `its connections had to be cut: it took ${Math.round(tookMs)} ms`);
      await queue.start();
    }
    stop.abort();
    await publishing;
    await publisher.flush();
    const seen = consume(library);
    await waitFor('all to be consumed', () => seen.size >= sent, PATIENCE_MS);
    assert.deepEqual([seen.size, Math.max(...[...seen].slice(-1000))], [sent, sent]);
  });
});
