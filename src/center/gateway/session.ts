import type { ConnectResponse } from '../../../generated/muster/v1/center.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import { untilAborted } from '../../rpc/streams.js';
import type { SessionMark } from './admission.js';

/** Frames that may wait for an agent that does not read. Beyond it the session is ended, and what it missed is told at the next. */
export const OUTBOX_FRAMES_MAX = 1000;
/** Bytes of manifests that may wait. */
export const OUTBOX_BYTES_MAX = 16 * 1024 * 1024;

type Frame = NonNullable<ConnectResponse['frame']>;
/** Resolves when there is room for the next. */
type Write = (response: ConnectResponse) => Promise<void>;

export interface SessionFacts extends SessionMark {
  readonly machine: string;
  readonly intervalMs: number;
  readonly address: string;
  readonly startedMonotonicMs: number;
}

/** Modes: live -> ended, once. An ended session sends nothing and its frames change nothing. */
type State = { readonly at: 'live' } | { readonly at: 'ended'; readonly reason: MusterError | undefined };

/** One live stream of a machine's agent. */
export class Session {
  readonly id = newId('s');
  readonly facts: SessionFacts;
  /** Frames that wait to be written. */
  #outbox: Frame[] = [];
  readonly #controller = new AbortController();
  #state: State = { at: 'live' };
  #outboxBytes = 0;
  #write: Write | undefined;
  /** Whether frames are being written. A session at rest has nothing that waits for one: there are many sessions, mostly at rest. */
  #writing = false;
  /** When the agent was heard last, or the center began to listen to it again. */
  #heardMonotonicMs: number;
  #works = 0;
  /** Frames heard so far; the sequence of the last one. */
  #sequence = 1;

  constructor(facts: SessionFacts) {
    this.facts = facts;
    this.#heardMonotonicMs = facts.startedMonotonicMs;
  }

  get machine(): string {
    return this.facts.machine;
  }

  get live(): boolean {
    return this.#state.at === 'live';
  }

  /** Sequence of the newest frame. */
  get sequence(): number {
    return this.#sequence;
  }

  /** Whether the center is at work on what the agent said last, and does not listen meanwhile. */
  get occupied(): boolean {
    return this.#works > 0;
  }

  /** For how long the agent has said nothing to a center that listened. */
  silentMs(monotonicMs: number): number {
    return this.occupied ? 0 : monotonicMs - this.#heardMonotonicMs;
  }

  /** Does work during which frames of the agent wait unread: its silence counts from the end of it. @throws as `work` */
  async occupy(clock: Pick<Clock, 'monotonic'>, work: () => Promise<void>): Promise<void> {
    this.#works += 1;
    try {
      await work();
    } finally {
      this.#works -= 1;
      this.#heardMonotonicMs = clock.monotonic();
    }
  }

  /** Aborts when the session ends. */
  get ended(): AbortSignal {
    return this.#controller.signal;
  }

  /** Why it ended; undefined while it is live, and when the agent ended it on purpose. */
  get reason(): MusterError | undefined {
    return this.#state.at === 'ended' ? this.#state.reason : undefined;
  }

  /**
   * Takes note of a frame.
   * @throws invalid when its sequence does not follow the one before: a frame was lost or comes from elsewhere
   */
  heard(sequence: number, monotonicMs: number): void {
    if (sequence !== this.#sequence + 1) {
      throw new MusterError(
        'invalid',
        `frame ${sequence} came after frame ${this.#sequence}: number the frames of a session 1, 2, 3, ...`,
        {
          reason: 'SEQUENCE',
        },
      );
    }
    this.#sequence = sequence;
    this.#heardMonotonicMs = monotonicMs;
  }

  /** False when it was not taken: the session has ended, or just ended because its agent reads too slowly. */
  send(frame: Frame): boolean {
    if (!this.live) return false;
    const bytes = weightOf(frame);
    if (this.#outboxBytes + bytes <= OUTBOX_BYTES_MAX && this.#outbox.length < OUTBOX_FRAMES_MAX) {
      this.#outboxBytes += bytes;
      this.#outbox.push(frame);
      void this.#deliver();
      return true;
    }
    this.end(
      new MusterError('exhausted', 'the agent reads too slowly: connect again and what was missed is sent anew', {
        reason: 'LAGGARD',
      }),
    );
    return false;
  }

  /** From now on frames are written, those that wait first, one after the other; a failure to write ends the session. */
  writeTo(write: Write): void {
    this.#write = write;
    void this.#deliver();
  }

  async #deliver(): Promise<void> {
    const write = this.#write;
    if (!write || this.#writing) return;
    this.#writing = true;
    try {
      for (let frame = this.#next(); frame; frame = this.#next()) await untilAborted(write({ frame }), this.ended);
    } catch (error) {
      // An agent that does not read holds its own stream back, never the end of the session.
      this.end(
        error instanceof MusterError ? error : new MusterError('unavailable', 'the stream broke', { cause: error }),
      );
    } finally {
      this.#writing = false;
    }
  }

  /** The next frame to write; none once the session has ended. */
  #next(): Frame | undefined {
    const frame = this.live ? this.#outbox.shift() : undefined;
    if (frame) this.#outboxBytes -= weightOf(frame);
    return frame;
  }

  /** Ends the session; the first reason counts. Without a reason: the agent wanted it so. */
  end(reason?: MusterError): void {
    if (this.#state.at === 'ended') return;
    this.#state = { at: 'ended', reason };
    this.#outbox = [];
    this.#controller.abort(reason ?? new MusterError('cancelled', 'the agent ended the session'));
  }
}

function weightOf(frame: Frame): number {
  return frame.$case === 'assignment' ? frame.value.manifest.length : 0;
}
