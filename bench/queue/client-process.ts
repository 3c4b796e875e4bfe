/** A client of the queue's bench, in a process of its own: it does the job that its parent sends it. Started by client-handle.ts alone. */
import { sleep, systemClock } from '../../src/kit/clock.js';
import { connectClient, loadClient } from './clients.js';
import type { ConsumeJob, Figures, Job, Order, PublishJob, Report } from './job.js';
import { ageMs, payloadsOf, stamped } from './payloads.js';
import { nowMs, type Publisher, type QueueClient } from './port.js';
import { connectable } from './reach.js';

const RETRY_MS = 5;
/** Of messages that come as fast as they can, one in so many is timed. */
const SAMPLE_EVERY = 16;
const SAMPLES_MAX = 500_000;

function report(message: Report): void {
  process.send?.(message);
}

function failed(error: unknown): void {
  report({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
}

/** Counts, and what was measured since it was read last. */
class Meter {
  count = 0;
  #firstMs = 0;
  #lastMs = 0;
  #samples: number[] = [];

  add(count: number, atMs: number): void {
    if (this.count === 0) this.#firstMs = atMs;
    this.#lastMs = atMs;
    this.count += count;
  }

  sample(ms: number): void {
    if (this.#samples.length < SAMPLES_MAX) this.#samples.push(ms);
  }

  read(): Figures {
    const samples = this.#samples;
    this.#samples = [];
    return { count: this.count, atMs: nowMs(), firstMs: this.#firstMs, lastMs: this.#lastMs, samples };
  }
}

interface Working {
  readonly meter: Meter;
  begin(): Promise<void>;
  finish(): void;
}

/** Sends as fast as its messages are acknowledged, or at its pace whatever happens. */
class Publishing implements Working {
  readonly meter = new Meter();
  readonly #job: PublishJob;
  readonly #next: () => Buffer;
  /** When each message in flight was sent, by its number. */
  readonly #sentMs: Float64Array;
  /** One message in so many is timed. */
  readonly #every: number;
  #publisher: Publisher | undefined;
  #sent = 0;
  #ended = false;

  constructor(job: PublishJob) {
    this.#job = job;
    this.#next = payloadsOf(job.payloadBytes);
    this.#every = job.perSecond > 0 ? 1 : SAMPLE_EVERY;
    this.#sentMs = new Float64Array(job.perSecond > 0 ? job.perSecond * 60 : job.inFlight * 2 * SAMPLE_EVERY);
  }

  async begin(): Promise<void> {
    this.#ended = false;
    this.#publisher ??= await this.#connect();
    if (this.#job.perSecond > 0) void this.#pace().catch(failed);
    else this.#fill();
  }

  async #connect(): Promise<Publisher> {
    const client = await connectClient(this.#job.endpoint);
    const acked = (count: number): void => {
      this.#acked(count);
    };
    return client.publisher({ topic: this.#job.topic, timedEvery: this.#every, acked, failed });
  }

  finish(): void {
    this.#ended = true;
    this.#publisher?.finish();
    this.#finishIfDone();
  }

  #finishIfDone(): void {
    if (this.#ended && this.meter.count >= this.#sent) report({ kind: 'finished', figures: this.meter.read() });
  }

  #send(payload: Buffer): void {
    if (this.#sent % this.#every === 0) this.#sentMs[this.#sent % this.#sentMs.length] = nowMs();
    this.#sent += 1;
    this.#publisher?.send(payload);
  }

  #acked(count: number): void {
    const atMs = nowMs();
    const from = Math.ceil(this.meter.count / this.#every) * this.#every;
    for (let number = from; number < this.meter.count + count; number += this.#every) {
      this.meter.sample(atMs - (this.#sentMs[number % this.#sentMs.length] ?? 0));
    }
    this.meter.add(count, atMs);
    if (this.#ended) this.#finishIfDone();
    else if (this.#job.perSecond === 0) this.#fill();
  }

  #fill(): void {
    const { total, inFlight } = this.#job;
    const until = Math.min(this.meter.count + inFlight, total > 0 ? total : Infinity);
    while (this.#sent < until) this.#send(this.#next());
    this.#publisher?.flush();
    if (total > 0 && this.#sent >= total) this.finish();
  }

  async #pace(): Promise<void> {
    const beganMs = nowMs();
    const before = this.#sent;
    while (!this.#ended) {
      const due = before + Math.floor(((nowMs() - beganMs) * this.#job.perSecond) / 1000);
      while (this.#sent < due) {
        this.#send(stamped(this.#next()));
        this.#publisher?.flush();
      }
      await sleep(systemClock, 1);
    }
  }
}

class Consuming implements Working {
  readonly meter = new Meter();
  readonly #job: ConsumeJob;

  constructor(job: ConsumeJob) {
    this.#job = job;
  }

  async begin(): Promise<void> {
    await Promise.all(this.#job.subscriptions.map((subscription) => this.#attach(subscription)));
  }

  finish(): void {
    report({ kind: 'finished', figures: this.meter.read() });
  }

  async #attach(subscription: string): Promise<void> {
    for (;;) {
      let client: QueueClient | undefined;
      try {
        // Clients have pauses of their own before they try again, which are not the server's.
        if (this.#job.patient) await connectable(this.#job.endpoint.address);
        client = await connectClient(this.#job.endpoint);
        await this.#consume(client, subscription);
        return;
      } catch (error) {
        await client?.close();
        if (!this.#job.patient) throw error;
        await sleep(systemClock, RETRY_MS);
      }
    }
  }

  async #consume(client: QueueClient, subscription: string): Promise<void> {
    const { topic, stalled, patient } = this.#job;
    let lost = false;
    await client.consumer({
      topic,
      subscription,
      stalled,
      received: (payloads) => {
        const atMs = nowMs();
        this.meter.add(payloads.length, atMs);
        if (this.#job.stamped) for (const payload of payloads) this.meter.sample(ageMs(payload, atMs));
      },
      failed: (error) => {
        if (lost) return;
        lost = true;
        if (!patient || this.meter.count > 0) failed(error);
        else
          void client
            .close()
            .then(() => this.#attach(subscription))
            .catch(failed);
      },
    });
  }
}

let working: Working | undefined;

async function obey(order: Order): Promise<void> {
  switch (order) {
    case 'begin':
      await working?.begin();
      report({ kind: 'begun' });
      break;
    case 'read':
      if (working) report({ kind: 'figures', figures: working.meter.read() });
      break;
    case 'finish':
      working?.finish();
      break;
    case 'end':
      process.exit(0);
  }
}

process.on('message', (message: Job | Order) => {
  if (typeof message === 'string') {
    void obey(message).catch(failed);
    return;
  }
  working = message.kind === 'publish' ? new Publishing(message) : new Consuming(message);
  // Loading and translating a client takes longer than some servers take to start: no figure is to contain it.
  loadClient(message.endpoint.client).then(() => {
    report({ kind: 'ready' });
  }, failed);
});
// Without its parent it has nobody to work for.
process.on('disconnect', () => process.exit(0));
