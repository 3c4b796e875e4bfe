import type { ConnectRequest, ConnectResponse, Welcome } from '../../../generated/muster/v1/center.js';
import { sleep, type Clock, type Timer } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';
import { runTasks } from '../../kit/tasks.js';
import type { Resources } from '../../model/machine.js';
import type { ClientDuplex } from '../../rpc/types.js';
import { fromDuration } from '../../wire/time.js';
import { goodbyeFrame, heartbeatFrame, type UpFrame } from './frames.js';
import type { Outbox } from './outbox.js';

export type CenterStream = ClientDuplex<ConnectRequest, ConnectResponse>;
export type DownFrame = Exclude<ConnectResponse['frame'], undefined>;

/** What the center wants done, beside the session itself. */
export type OrderFrame = Exclude<DownFrame, { $case: 'welcome' } | { $case: 'redirect' }>;

export interface SessionOptions {
  readonly stream: CenterStream;
  readonly clock: Clock;
  readonly hello: UpFrame;
  /** Called once, when the center has taken the machine in; makes what the session sends from then on. */
  readonly onWelcome: (welcome: Welcome) => Outbox;
  /** Takes an order; the next frame is read when it resolves. */
  readonly onFrame: (frame: OrderFrame, outbox: Outbox) => Promise<void> | void;
  readonly resources: () => Promise<Resources>;
  readonly welcomeTimeoutMs: number;
}

/** Why a session is ended from this side. */
export type Farewell = 'stopping' | 'new certificate';

const HEARTBEAT_DEFAULT_MS = 10_000;
/** A frame that the transport has not taken for this many heartbeats means that nobody reads at the other end. */
const STALLED_HEARTBEATS = 3;
/** How long the center may take to end the stream after a goodbye. */
const GOODBYE_MS = 2000;

/** One stream to the center, from hello to its end. */
export class Session {
  readonly #options: SessionOptions;
  #sequence = 0;
  #sendingSinceMs: number | undefined;
  #cut: Timer | undefined;
  #ending: { readonly why: Farewell } | { readonly redirect: string } | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /**
   * Runs to the session's end, which is the end of its stream.
   * Returns where to connect instead, where the center said so, or undefined after end().
   * @throws why the session was lost or not begun
   */
  async run(): Promise<string | undefined> {
    const { stream, onWelcome, hello } = this.#options;
    const frames = stream[Symbol.asyncIterator]();
    let outbox: Outbox | undefined;
    try {
      await this.#send(hello);
      const welcome = await this.#welcome(frames);
      if (welcome) {
        const opened = onWelcome(welcome);
        outbox = opened;
        await this.#live(frames, opened, welcome);
      }
    } catch (error) {
      if (!this.#ending) throw error;
    } finally {
      outbox?.close();
      stream.cancel();
      this.#cut?.cancel();
    }
    return this.#ending && 'redirect' in this.#ending ? this.#ending.redirect : undefined;
  }

  /** Ends the session from this side; run() then resolves. Says goodbye only when the agent stops: after a renewal it comes back at once. */
  async end(why: Farewell): Promise<void> {
    if (this.#ending) return;
    this.#ending = { why };
    const { stream, clock } = this.#options;
    this.#cut = clock.after(why === 'stopping' ? GOODBYE_MS : 0, () => {
      stream.cancel();
    });
    try {
      if (why !== 'stopping') return;
      await this.#send(goodbyeFrame(why));
      stream.end();
    } catch {
      stream.cancel();
    }
  }

  /** The welcome, or undefined where the center sends the machine elsewhere. */
  async #welcome(frames: AsyncIterator<ConnectResponse>): Promise<Welcome | undefined> {
    const { stream, clock, welcomeTimeoutMs } = this.#options;
    const late = new AbortController();
    const timer = clock.after(welcomeTimeoutMs, () => {
      late.abort();
      stream.cancel();
    });
    try {
      for (;;) {
        const frame = await nextFrame(frames);
        if (frame?.$case === 'welcome') return frame.value;
        if (frame?.$case === 'redirect') {
          this.#ending = { redirect: frame.value.address };
          return undefined;
        }
      }
    } catch (error) {
      if (!late.signal.aborted) throw error;
      const waited = formatDuration(welcomeTimeoutMs);
      throw new MusterError('unavailable', `the center accepted the connection and then said nothing for ${waited}`, {
        reason: 'NO_WELCOME',
        cause: error,
      });
    } finally {
      timer.cancel();
    }
  }

  async #live(frames: AsyncIterator<ConnectResponse>, outbox: Outbox, welcome: Welcome): Promise<void> {
    const intervalMs = fromDuration(welcome.heartbeatInterval) || HEARTBEAT_DEFAULT_MS;
    const { stream } = this.#options;
    await runTasks(new AbortController().signal, [
      async () => this.#receive(frames, outbox),
      async () => this.#sendAll(outbox),
      async (signal) => this.#beat(outbox, intervalMs, signal),
      // Whichever task fails first, the stream ends and with it the others.
      (signal) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            outbox.close();
            stream.cancel();
            resolve();
          });
        }),
    ]);
  }

  async #receive(frames: AsyncIterator<ConnectResponse>, outbox: Outbox): Promise<void> {
    for (;;) {
      const frame = await nextFrame(frames);
      if (frame?.$case === 'redirect') {
        this.#ending = { redirect: frame.value.address };
        throw new MusterError('unavailable', `the center sends this machine to ${frame.value.address}`);
      }
      if (frame && frame.$case !== 'welcome') await this.#options.onFrame(frame, outbox);
    }
  }

  async #sendAll(outbox: Outbox): Promise<void> {
    for await (const make of { [Symbol.asyncIterator]: () => outbox[Symbol.asyncIterator]() }) {
      const frame = make();
      if (frame) await this.#send(frame);
    }
  }

  async #beat(outbox: Outbox, intervalMs: number, signal: AbortSignal): Promise<void> {
    const { clock, resources } = this.#options;
    for (;;) {
      const stalledMs = clock.monotonic() - (this.#sendingSinceMs ?? clock.monotonic());
      if (stalledMs > STALLED_HEARTBEATS * intervalMs) {
        throw new MusterError('unavailable', `the center has taken nothing for ${formatDuration(stalledMs)}`, {
          reason: 'STALLED',
        });
      }
      outbox.tellHeartbeat(heartbeatFrame(await resources(), clock.now()));
      await sleep(clock, intervalMs, signal);
    }
  }

  /** Frames are numbered in the order they are given to the transport. */
  async #send(frame: UpFrame): Promise<void> {
    this.#sequence += 1;
    this.#sendingSinceMs = this.#options.clock.monotonic();
    await this.#options.stream.send({ sequence: this.#sequence, frame });
    this.#sendingSinceMs = undefined;
  }
}

/** Undefined for a frame that this version does not know. @throws the stream's failure, unavailable at its end */
async function nextFrame(frames: AsyncIterator<ConnectResponse>): Promise<DownFrame | undefined> {
  const next = await frames.next();
  if (next.done) throw new MusterError('unavailable', 'the center ended the session', { reason: 'SESSION_ENDED' });
  return next.value.frame;
}
