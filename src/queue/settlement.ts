import type { Clock } from '../kit/clock.js';
import type { BatchView } from './batch.js';
import type { Contributor } from './group-commit.js';
import type { Change, CursorRecord, DeadLetterRecord, QueueLog, SubscriptionRecord } from './log/port.js';
import { withUnsettled } from './subscription/cursor.js';
import type { Subscription } from './subscription/subscription.js';
import type { Death } from './subscription/types.js';

export interface SettlementParts {
  readonly log: Pick<QueueLog, 'deadLetter'>;
  readonly clock: Clock;
  readonly state: Subscription;
  readonly record: Pick<SubscriptionRecord, 'topicId' | 'id'>;
  readonly cursor: CursorRecord;
  /** The batch that holds a message of the topic; undefined: it is below the head. @throws data_loss, unavailable */
  readonly batchAt: (sequence: number) => Promise<BatchView | undefined>;
  /** Something was settled durably: the topic may be able to let go of messages. */
  readonly onSettled: () => void;
  /** A message that died cannot be read: it must not count as settled. */
  readonly onDamage: (error: unknown) => void;
}

/** Dead letters of one group, and about how many bytes of them: what dies at once beyond that is stored with the groups behind it. */
const GROUP_LETTERS_MAX = 1000;
const GROUP_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Makes durable what consumers of one subscription settle. Invariant: a message that died counts as settled on disk only together with its dead
 * letter. Those whose letters go with a later group are not settled in the cursor of this one, and keep the failed attempts that are stored of them.
 */
export class Settlement implements Contributor {
  readonly essential = true;
  readonly #parts: SettlementParts;
  /** Died and not yet stored as dead letters. */
  readonly #died = new Set<Death>();
  /** Since the start: died, and of those, in order, are done with. */
  #deaths = 0;
  #buried = 0;
  /** Taken into the group that is being written, or into refused ones before it. */
  #burying = { letters: 0, bytes: 0 };
  /** The position as it would be stored if nothing had died that is not stored: until all of it is. */
  #whole: CursorRecord | undefined;
  /** Their failed attempts are deleted with their letters. */
  readonly #attempted = new Set<number>();
  /** Dead letters on their way again, and not yet stored as such. */
  #marked = new Map<number, DeadLetterRecord>();
  /** What a refused group would have stored, by what it is about: it goes with the next one. */
  #unsaved = new Map<string, Change>();
  #writing = new Map<string, Change>();
  #floor: number;
  #writingFloor: number;
  #closed = false;

  constructor(parts: SettlementParts) {
    this.#parts = parts;
    this.#floor = parts.cursor.floor;
    this.#writingFloor = parts.cursor.floor;
  }

  /** All below are settled, durably; and after a seek back, not yet stored, still are. */
  get floor(): number {
    return Math.min(this.#floor, this.#parts.state.floor);
  }

  /** These are to become dead letters with the next group. */
  bury(died: readonly Death[]): void {
    for (const death of died) {
      this.#marked.delete(death.sequence);
      this.#died.add(death);
    }
    this.#deaths += died.length;
  }

  /** Says, when it is asked again, whether everything that has died by now is durable. */
  buried(): () => boolean {
    const until = this.#deaths;
    return () => this.#closed || this.#buried >= until;
  }

  /**
   * These letters are on their way again: they are stored as such with the next group. It has to be this one's group: a letter that was
   * delivered and settled meanwhile is deleted by it, and must not be there again behind that.
   */
  mark(letters: readonly DeadLetterRecord[]): void {
    for (const letter of letters) this.#marked.set(letter.sequence, { ...letter, replayed: true });
  }

  /** Gives up those that died and could not be read: the subscription goes on elsewhere. */
  forgetUnread(): void {
    this.#parts.state.purged(this.#died.size);
    this.#buried += this.#died.size;
    this.#died.clear();
    for (const sequence of this.#attempted) this.#forgetAttempts(sequence, this.#unsaved);
    this.#attempted.clear();
  }

  /** Nothing more is to be stored: the subscription is gone. */
  close(): void {
    this.#closed = true;
  }

  contribute(): readonly Change[] | Promise<readonly Change[]> {
    if (this.#closed) return [];
    this.#writing = this.#unsaved;
    this.#unsaved = new Map();
    if (this.#died.size > 0) return this.#contributeWithLetters();
    this.#gather();
    return [...this.#writing.values()];
  }

  committed(): void {
    this.#writing = new Map();
    this.#buried += this.#burying.letters;
    this.#burying = { letters: 0, bytes: 0 };
    if (this.#floor === this.#writingFloor) return;
    this.#floor = this.#writingFloor;
    this.#parts.onSettled();
  }

  refused(): void {
    this.#unsaved = new Map([...this.#writing, ...this.#unsaved]);
    this.#writing = new Map();
  }

  async #contributeWithLetters(): Promise<readonly Change[]> {
    const { topicId, id: subscriptionId } = this.#parts.record;
    const burying = this.#burying;
    for (const death of this.#died) {
      if (burying.letters >= GROUP_LETTERS_MAX || burying.bytes >= GROUP_BYTES_MAX) break;
      const { sequence } = death;
      const letter = await this.#letterOrStop(death);
      if (!this.#died.delete(death)) continue;
      burying.letters += 1;
      if (this.#attempted.delete(sequence)) this.#forgetAttempts(sequence, this.#writing);
      if (!letter) {
        this.#parts.state.purged(1);
        continue;
      }
      burying.bytes += letter.message.length;
      this.#writing.set(`letter ${sequence}`, { kind: 'dead letter', topicId, subscriptionId, sequence, letter });
    }
    this.#gather();
    return [...this.#writing.values()];
  }

  #forgetAttempts(sequence: number, changes: Map<string, Change>): void {
    const { topicId, id: subscriptionId } = this.#parts.record;
    changes.set(`retry ${sequence}`, { kind: 'retry', topicId, subscriptionId, sequence, retry: undefined });
  }

  /** Without its letter a message must not count as settled: nothing is stored then. */
  async #letterOrStop(death: Death): Promise<DeadLetterRecord | undefined> {
    try {
      return await this.#letterOf(death);
    } catch (error) {
      this.#parts.onDamage(error);
      throw error;
    }
  }

  #gather(): void {
    const { topicId, id: subscriptionId } = this.#parts.record;
    const { cursor: moved, retries, lettersDone } = this.#parts.state.takeChanges();
    // The message of a replayed letter has been settled all the time.
    const unburied = [...this.#died].filter(({ replayed }) => !replayed).map(({ sequence }) => sequence);
    const whole = moved ?? this.#whole;
    this.#whole = unburied.length > 0 ? whole : undefined;
    if (whole) {
      const cursor = withUnsettled(whole, unburied);
      this.#writingFloor = cursor.floor;
      this.#writing.set('cursor', { kind: 'cursor', topicId, subscriptionId, cursor });
    }
    const kept = new Set(unburied);
    for (const [sequence, retry] of retries) {
      if (retry === undefined && kept.has(sequence)) {
        this.#attempted.add(sequence);
        continue;
      }
      this.#attempted.delete(sequence);
      this.#writing.set(`retry ${sequence}`, { kind: 'retry', topicId, subscriptionId, sequence, retry });
    }
    for (const [sequence, letter] of this.#marked) {
      this.#writing.set(`letter ${sequence}`, { kind: 'dead letter', topicId, subscriptionId, sequence, letter });
    }
    this.#marked = new Map();
    for (const sequence of lettersDone) {
      const letter = undefined;
      this.#writing.set(`letter ${sequence}`, { kind: 'dead letter', topicId, subscriptionId, sequence, letter });
    }
  }

  /** Undefined when retention has dropped the message meanwhile. */
  async #letterOf({ sequence, attempts, reason, replayed }: Death): Promise<DeadLetterRecord | undefined> {
    const { topicId, id } = this.#parts.record;
    const diedMs = this.#parts.clock.now();
    if (replayed) {
      const stored = await this.#parts.log.deadLetter(topicId, id, sequence);
      if (stored) return { ...stored, diedMs, attempts, reason, replayed: false };
    }
    const view = await this.#parts.batchAt(sequence);
    if (!view) return undefined;
    const message = view.slice(sequence, sequence);
    return { sequence, message, publishedMs: view.publishedMs, diedMs, attempts, reason, replayed: false };
  }
}
