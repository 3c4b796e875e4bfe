import { sleep, type Clock } from '../kit/clock.js';
import { isCode } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Broker } from './broker.js';
import { dedupeWindow, type Topic } from './topic.js';

/** How often heads move and delayed messages are looked for. */
const TICK_MS = 100;
/** How often limits of age, idle subscriptions and what to forget are looked at. */
const SLOW_EVERY_TICKS = 10;
/** Space given back at once when so much was let go of; less waits for a quiet moment. */
const COMPACT_BYTES = 256 * 1024 * 1024;
const COMPACT_WHEN_QUIET_BYTES = 256 * 1024;
/** Quiet: nothing was let go of for so many ticks. */
const QUIET_TICKS = 20;

/** What a queue does by itself: lets go of what all have settled, admits what is due, enforces limits of age, forgets the idle, gives space back. */
export class Maintenance {
  readonly #broker: Broker;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #tick = 0;
  /** What was let go of before a restart may still take space. */
  #freedBytes = COMPACT_WHEN_QUIET_BYTES;
  #quietTicks = 0;

  constructor(broker: Broker, parts: { readonly clock: Clock; readonly logger: Logger }) {
    this.#broker = broker;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
  }

  /** Runs until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        await sleep(this.#clock, TICK_MS, signal);
        await this.tick();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  /** One round. */
  async tick(): Promise<void> {
    this.#tick += 1;
    const slow = this.#tick % SLOW_EVERY_TICKS === 0;
    const touched = new Set(this.#broker.takeTouched());
    this.#quietTicks = touched.size > 0 ? 0 : this.#quietTicks + 1;
    const all = this.#broker.all();
    const due = slow ? all.map(({ topic }) => topic) : touched;
    for (const topic of due) await this.#guarded(topic, () => this.#advance(topic));
    for (const { topic } of all) {
      if (topic.delayed > 0) await this.#guarded(topic, () => this.#admitDue(topic));
    }
    if (slow) await this.#forgetIdle();
    await this.#compact();
  }

  /** One topic's trouble is not the others'; the disk's is, and ends the process elsewhere. */
  async #guarded(topic: Topic, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isCode(error, 'exhausted', 'not_found')) return;
      this.#logger.error('upkeep of a topic failed; it is tried again', { topic: topic.record.name, error });
    }
  }

  /** Moves the head up to what must be kept. */
  async #advance(topic: Topic): Promise<void> {
    const bytes = topic.bytes;
    const { settled, tooOld } = await this.#bounds(topic);
    const dropping = topic.record.settings.onFull === 'DROP_OLDEST';
    topic.overAge = !dropping && tooOld > Math.max(topic.head, settled);
    const target = Math.max(settled, dropping ? tooOld : 0);
    if (target > topic.head) await topic.moveHead(target);
    if (topic.trimmed < topic.head) await topic.trim();
    this.#freedBytes += Math.max(0, bytes - topic.bytes);
  }

  /** Up to where everything is settled and old enough to go; up to where messages are older than they may be. */
  async #bounds(topic: Topic): Promise<{ settled: number; tooOld: number }> {
    const { minRetentionMs, maxAgeMs } = topic.record.settings;
    const nowMs = this.#clock.now();
    const floor = Math.min(...[...topic.subscribers].map((subscriber) => subscriber.floor));
    let settled = topic.subscribers.size === 0 ? topic.head : floor;
    if (minRetentionMs > 0 && settled > topic.head) {
      settled = Math.min(settled, await this.#sequenceAt(topic, nowMs - minRetentionMs));
    }
    const tooOld = maxAgeMs > 0 && topic.next > topic.head ? await this.#sequenceAt(topic, nowMs - maxAgeMs) : 0;
    return { settled, tooOld };
  }

  async #sequenceAt(topic: Topic, timeMs: number): Promise<number> {
    return (await this.#broker.log.sequenceAt(topic.id, timeMs)) ?? topic.next;
  }

  async #admitDue(topic: Topic): Promise<void> {
    const dueMs = await this.#broker.log.nextDueMs(topic.id);
    if (dueMs !== undefined && dueMs <= this.#clock.now()) await topic.admitDue();
  }

  async #forgetIdle(): Promise<void> {
    const nowMs = this.#clock.now();
    for (const { topic, deliveries } of this.#broker.all()) {
      const { name, settings } = topic.record;
      await this.#guarded(topic, async () => {
        const changes = topic.producers.forget(nowMs);
        if (changes.length > 0) await this.#broker.commit.commitChanges(changes);
        await topic.forgetDedupe(dedupeWindow(nowMs, settings.dedupeWindowMs) - settings.dedupeWindowMs);
        for (const delivery of deliveries.values()) {
          const { expireAfterIdleMs } = delivery.record.settings;
          if (expireAfterIdleMs === 0 || delivery.idleMs < expireAfterIdleMs) continue;
          this.#logger.info('an idle subscription expired', { topic: name, subscription: delivery.record.name });
          await this.#broker.deleteSubscription(name, delivery.record.name);
        }
      });
    }
  }

  async #compact(): Promise<void> {
    const limit = this.#quietTicks >= QUIET_TICKS ? COMPACT_WHEN_QUIET_BYTES : COMPACT_BYTES;
    if (this.#freedBytes + this.#broker.log.deletedBytes < limit) return;
    this.#freedBytes = 0;
    try {
      await this.#broker.log.compact();
    } catch (error) {
      this.#logger.error('space could not be given back; it is tried again after more was freed', { error });
    }
  }
}
