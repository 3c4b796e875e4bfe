/**
 * What publishers and consumers of a queue saw, one event after another, and whether it keeps the queue's promises. The judge believes only what
 * clients were told: an acknowledgement, a delivery, a confirmed settle. It works as the events come, and keeps the newest of them for people.
 */

/** How strict a subscription's order is. `single`: one consumer at a time, so first deliveries come in the order of the topic without gaps. */
export type Mode = 'competing' | 'single' | 'ordered';

/** How a delivery was settled. */
export type Settling = 'ack' | 'dead letter';

/** `id` names a message for ever: its publisher, a slash, its number. */
export type QueueEvent =
  | { readonly kind: 'sent'; readonly id: string }
  /** Acknowledged. `sequence` undefined: it was not told (stored before, or delayed). */
  | { readonly kind: 'published'; readonly id: string; readonly sequence: number | undefined }
  /** The subscription exists. `all`: since before the first message; else what is sent from now on is promised to it. */
  | { readonly kind: 'subscribed'; readonly subscription: string; readonly mode: Mode; readonly all: boolean }
  | { readonly kind: 'unsubscribing'; readonly subscription: string }
  | { readonly kind: 'seeking'; readonly subscription: string }
  | { readonly kind: 'sought'; readonly subscription: string; readonly sequence: number }
  | {
      readonly kind: 'delivered';
      readonly subscription: string;
      readonly sequence: number;
      readonly id: string;
      readonly key: string;
      readonly attempt: number;
      /** Its checksum is right. */
      readonly intact: boolean;
    }
  | {
      readonly kind: 'settling';
      readonly subscription: string;
      readonly sequence: number;
      readonly how: Settling;
      /** Which delivery, where a message may be delivered again before its settle is confirmed. */
      readonly delivery?: string;
    }
  | { readonly kind: 'settled'; readonly subscription: string; readonly sequence: number; readonly delivery?: string }
  | {
      readonly kind: 'settle failed';
      readonly subscription: string;
      readonly sequence: number;
      readonly reason: string;
    }
  /** Dead letters are asked to be delivered again. */
  | { readonly kind: 'replaying'; readonly subscription: string; readonly sequence: number }
  | { readonly kind: 'killed' }
  /** `cpuMs`: what the process computed until its first answer, which is what the start takes on a machine with nothing else to do. */
  | { readonly kind: 'started'; readonly tookMs: number; readonly cpuMs: number };

type Of<Kind extends QueueEvent['kind']> = Extract<QueueEvent, { kind: Kind }>;
type OfSubscription = Extract<QueueEvent, { subscription: string }>;

/** A dead letter as the queue lists it at the end. */
export interface Letter {
  readonly sequence: number;
  readonly id: string;
}

/** From the start of the process to its first answer. What it waits for a processor that others use does not count. */
export const REOPEN_MS_MAX = 5000;
const TAIL_EVENTS = 20_000;
const FINDINGS_MAX = 20;

interface Lane {
  newest: number;
  /** In which life of the server the newest was delivered. */
  life: number;
  /** Delivered in this life and not settled. */
  readonly open: Set<number>;
}

interface Follower {
  readonly mode: Mode;
  /** Messages sent after this event are promised to it; 0: all. */
  readonly since: number;
  /** Messages below are not promised to it any more; undefined: it was never sought. */
  from: number | undefined;
  /** A seek is not answered: what is settled may come again. */
  isMoving: boolean;
  gone: boolean;
  readonly seen: Set<number>;
  readonly settling: Map<number, { readonly how: Settling; readonly delivery: string | undefined }>;
  readonly done: Map<number, Settling>;
  newest: number;
  readonly lanes: Map<string, Lane>;
}

/** Judges a history. `findings` says, for people, which promises were broken. */
export class QueueJudge {
  readonly findings: string[] = [];
  /** Messages that were acknowledged. */
  readonly acknowledged = new Set<string>();
  readonly #sentAt = new Map<string, number>();
  readonly #idOf = new Map<number, string>();
  readonly #sequenceOf = new Map<string, number>();
  readonly #followers = new Map<string, Follower>();
  readonly #tail: QueueEvent[] = [];
  #events = 0;
  #life = 1;
  deliveries = 0;
  slowestStartMs = 0;
  busiestStartMs = 0;

  record(event: QueueEvent): void {
    this.#events += 1;
    this.#tail.push(event);
    if (this.#tail.length > 2 * TAIL_EVENTS) this.#tail.splice(0, TAIL_EVENTS);
    if ('subscription' in event) this.#recordOf(event);
    else this.#recordAll(event);
  }

  /** Something else is wrong. */
  find(what: string): void {
    if (this.findings.length < FINDINGS_MAX) this.findings.push(`event ${this.#events}: ${what}`);
  }

  /** The newest events, one a line. */
  tail(): string {
    return this.#tail
      .slice(-TAIL_EVENTS)
      .map((event) => JSON.stringify(event))
      .join('\n');
  }

  /**
   * When everything was consumed: nothing acknowledged is missing anywhere, and the dead letters of each subscription are those that died.
   * `inOrder` says of which publishers the messages must have sequences in the order of their numbers.
   */
  finish(letters: ReadonlyMap<string, readonly Letter[]>, inOrder: (publisher: string) => boolean): void {
    for (const [name, follower] of this.#followers) {
      if (follower.gone) continue;
      const dead = new Set<number>();
      for (const { sequence, id } of letters.get(name) ?? []) {
        this.#bind(sequence, id, `a dead letter of ${name}`);
        if (follower.done.get(sequence) === 'ack') this.find(`${name}: ${id} was acknowledged and is a dead letter`);
        if (dead.has(sequence)) this.find(`${name}: ${id} is a dead letter twice`);
        dead.add(sequence);
      }
      for (const id of this.acknowledged) this.#assertConsumed(name, follower, { id, dead });
    }
    this.#assertPublishersInOrder(inOrder);
  }

  #recordAll(event: Of<'sent' | 'published' | 'killed' | 'started'>): void {
    switch (event.kind) {
      case 'sent':
        if (!this.#sentAt.has(event.id)) this.#sentAt.set(event.id, this.#events);
        return;
      case 'published':
        this.acknowledged.add(event.id);
        if (event.sequence !== undefined) this.#bind(event.sequence, event.id, 'an acknowledgement');
        return;
      case 'killed':
        this.#life += 1;
        for (const { lanes } of this.#followers.values()) for (const { open } of lanes.values()) open.clear();
        return;
      case 'started':
        this.slowestStartMs = Math.max(this.slowestStartMs, event.tookMs);
        this.busiestStartMs = Math.max(this.busiestStartMs, event.cpuMs);
        if (event.cpuMs > REOPEN_MS_MAX) this.find(`the start took ${Math.round(event.cpuMs)} ms`);
    }
  }

  #recordOf(event: OfSubscription): void {
    if (event.kind === 'subscribed') {
      this.#subscribed(event);
      return;
    }
    const follower = this.#followers.get(event.subscription);
    if (!follower) throw new Error(`subscription ${event.subscription} was never recorded as made`);
    if (event.kind === 'delivered') this.#delivered(follower, event);
    else if (event.kind === 'settle failed') this.#settleFailed(follower, event);
    else follow(follower, event);
  }

  #settleFailed(follower: Follower, event: Of<'settle failed'>): void {
    follower.settling.delete(event.sequence);
    if (follower.from === undefined) this.find(`${describe(event)} could not be settled: ${event.reason}`);
  }

  #subscribed({ subscription, mode, all }: Of<'subscribed'>): void {
    if (this.#followers.has(subscription)) return;
    this.#followers.set(subscription, {
      mode,
      since: all ? 0 : this.#events,
      from: undefined,
      isMoving: false,
      gone: false,
      seen: new Set(),
      settling: new Map(),
      done: new Map(),
      newest: 0,
      lanes: new Map(),
    });
  }

  #delivered(follower: Follower, event: Of<'delivered'>): void {
    const { sequence, id } = event;
    this.deliveries += 1;
    const what = describe(event);
    if (!event.intact) this.find(`${what} is not what was published`);
    if (!this.#sentAt.has(id)) this.find(`${what} was never published`);
    this.#bind(sequence, id, `a delivery to ${event.subscription}`);
    const how = follower.done.get(sequence);
    if (how) this.find(`${what} came again after it was settled (${how})`);
    if (follower.mode === 'single' && !follower.seen.has(sequence)) this.#inOrder(follower, event);
    if (follower.mode === 'ordered' && event.key !== '') this.#inLane(follower, event);
    follower.seen.add(sequence);
    follower.settling.delete(sequence);
  }

  #inOrder(follower: Follower, event: Of<'delivered'>): void {
    const { sequence } = event;
    const { newest } = follower;
    const isFirst = newest === 0 && follower.since > 0;
    if (sequence < newest) this.find(`${describe(event)} came first behind ${newest}`);
    else if (sequence !== newest + 1 && !isFirst) this.find(`${describe(event)} came next after ${newest}`);
    follower.newest = Math.max(newest, sequence);
  }

  #inLane(follower: Follower, event: Of<'delivered'>): void {
    const { sequence, key } = event;
    const lane = follower.lanes.get(key) ?? { newest: 0, life: 0, open: new Set<number>() };
    follower.lanes.set(key, lane);
    const what = `${describe(event)} with key ${key}`;
    for (const other of lane.open) if (other !== sequence) this.find(`${what} came while ${other} was not settled`);
    if (sequence < lane.newest && !follower.seen.has(sequence)) this.find(`${what} came first behind ${lane.newest}`);
    else if (sequence < lane.newest && lane.life === this.#life) this.find(`${what} came again behind ${lane.newest}`);
    if (sequence >= lane.newest) lane.life = this.#life;
    lane.newest = Math.max(lane.newest, sequence);
    lane.open.add(sequence);
  }

  /** A sequence is one message's, and a message has one sequence. */
  #bind(sequence: number, id: string, seenIn: string): void {
    const other = this.#idOf.get(sequence);
    const before = this.#sequenceOf.get(id);
    if (other !== undefined && other !== id) this.find(`${sequence} is ${id} in ${seenIn}, and was ${other} before`);
    if (before !== undefined && before !== sequence) this.find(`${id} is ${sequence} in ${seenIn}, and ${before} too`);
    if (other === undefined) this.#idOf.set(sequence, id);
    if (before === undefined) this.#sequenceOf.set(id, sequence);
  }

  #assertConsumed(name: string, follower: Follower, { id, dead }: { id: string; dead: ReadonlySet<number> }): void {
    const sentAt = this.#sentAt.get(id) ?? 0;
    const sequence = this.#sequenceOf.get(id);
    if (sequence === undefined) this.find(`${name}: ${id} was acknowledged and never seen`);
    if (sequence === undefined || sentAt < follower.since || sequence < (follower.from ?? 0)) return;
    for (const wrong of wrongs(follower, sequence, dead)) this.find(`${name}: ${id} (${sequence}) ${wrong}`);
  }

  #assertPublishersInOrder(inOrder: (publisher: string) => boolean): void {
    const byPublisher = new Map<string, [number: number, sequence: number][]>();
    for (const [id, sequence] of this.#sequenceOf) {
      const [publisher = '', number = ''] = id.split('/');
      if (!inOrder(publisher)) continue;
      const list = byPublisher.get(publisher) ?? [];
      byPublisher.set(publisher, list);
      list.push([Number(number), sequence]);
    }
    for (const [publisher, list] of byPublisher) {
      list.sort(([a], [b]) => a - b);
      list.forEach(([number, sequence], index) => {
        const before = list[index - 1];
        if (before && before[1] > sequence) this.find(`${publisher}/${number} (${sequence}) went before ${before[1]}`);
      });
    }
  }
}

function follow(
  follower: Follower,
  event: Exclude<OfSubscription, Of<'subscribed' | 'delivered' | 'settle failed'>>,
): void {
  switch (event.kind) {
    case 'unsubscribing':
      follower.gone = true;
      return;
    case 'seeking':
      follower.from ??= 0;
      follower.isMoving = true;
      letGo(follower);
      return;
    case 'sought':
      follower.from = event.sequence;
      follower.isMoving = false;
      letGo(follower);
      return;
    case 'settling':
      follower.settling.set(event.sequence, { how: event.how, delivery: event.delivery });
      for (const lane of follower.lanes.values()) lane.open.delete(event.sequence);
      return;
    case 'settled':
      settled(follower, event);
      return;
    case 'replaying':
      follower.done.delete(event.sequence);
      follower.settling.delete(event.sequence);
  }
}

/** What is wrong with an acknowledged message at the end. */
function wrongs(follower: Follower, sequence: number, dead: ReadonlySet<number>): string[] {
  const how = follower.done.get(sequence);
  const isSettled = how !== undefined || follower.settling.has(sequence) || dead.has(sequence);
  const found: string[] = [];
  if (!follower.seen.has(sequence)) found.push('was acknowledged and never delivered');
  if (!isSettled && follower.from === undefined) found.push('left the queue without being settled');
  if (how === 'dead letter' && !dead.has(sequence)) found.push('died, and has no letter');
  return found;
}

/**
 * After a seek what was settled may come again, and what was on its way may or may not count. It need not come again: what all had settled may
 * leave the topic in the same moment.
 */
function letGo(follower: Follower): void {
  follower.settling.clear();
  follower.done.clear();
}

/** A settle from before a seek may be confirmed after it: that says nothing of the delivery that came since. */
function settled(follower: Follower, { sequence, delivery }: Of<'settled'>): void {
  const settling = follower.settling.get(sequence);
  if (settling?.delivery !== delivery || settling === undefined) return;
  follower.settling.delete(sequence);
  if (!follower.isMoving) follower.done.set(sequence, settling.how);
}

function describe(event: { subscription: string; sequence: number; id?: string }): string {
  return `${event.subscription}: ${event.id ?? 'message'} (${event.sequence})`;
}
