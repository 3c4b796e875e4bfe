import type { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { aborted } from '../../kit/tasks.js';
import { Session, type Farewell, type SessionOptions } from './session.js';

/** How a session ended: told to connect elsewhere, ended from this side (undefined), or lost. */
export type Ending = { readonly redirect: string | undefined } | { readonly error: unknown };

/** A session from its dialing on. */
export interface Running {
  /** True at its welcome; false when it ended without one. */
  readonly begun: Promise<boolean>;
  readonly ended: Promise<Ending>;
  /** Aborts when it has ended. */
  readonly over: AbortSignal;
  readonly end: (why: Farewell) => void;
}

export function startSession(options: SessionOptions): Running {
  const welcomed = new AbortController();
  const over = new AbortController();
  const session = new Session({
    ...options,
    onWelcome: (welcome) => {
      const outbox = options.onWelcome(welcome);
      welcomed.abort();
      return outbox;
    },
  });
  const ended = session
    .run()
    .then(
      (redirect): Ending => ({ redirect }),
      (error: unknown): Ending => ({ error }),
    )
    .finally(() => {
      over.abort();
    });
  return {
    begun: Promise.race([aborted(welcomed.signal).then(() => true), ended.then(() => false)]),
    ended,
    over: over.signal,
    end: (why) => void session.end(why),
  };
}

export interface SuccessionOptions {
  /** Makes a hello and dials with it; undefined: the agent is stopping. */
  readonly dial: () => Promise<Running | undefined>;
  /** A successor could not begin; the session there is goes on, and it is tried again. */
  readonly onFailure: (error: unknown) => void;
  /** Between tries to begin a successor. */
  readonly backoff: Backoff;
  readonly clock: Clock;
}

/**
 * A session and those that take it over, one after the other, as certificates are renewed. The successor is welcomed before the older
 * one ends, so the center never sees the machine without a session.
 */
export class Succession {
  readonly #options: SuccessionOptions;
  #current: Running | undefined;
  /** The one that is to become the current one. */
  #next: Running | undefined;
  /** From before the hello of a successor is made until it is known whether it begins. */
  #attempt: Promise<Running | undefined> | undefined;
  #following: Promise<void> | undefined;
  #wanted = false;
  #farewell: Farewell | undefined;

  constructor(options: SuccessionOptions) {
    this.#options = options;
  }

  /** Runs until a session has ended that has no successor. @throws when the first cannot be dialed */
  async run(): Promise<Ending> {
    this.#current = await this.#dial();
    for (;;) {
      const last = this.#current;
      if (!last) return { redirect: undefined };
      const ending = await last.ended;
      await this.#following;
      if (this.#current === last) return ending;
    }
  }

  /** Lets a new session take over from the current one, trying for as long as that lives. */
  renew(): void {
    this.#wanted = true;
    this.#following ??= this.#follow().finally(() => {
      this.#following = undefined;
    });
  }

  /** Ends it all: run() then resolves. */
  end(why: Farewell): void {
    this.#farewell ??= why;
    this.#current?.end(why);
    this.#next?.end(why);
  }

  /**
   * Whether what a session hears is left to its successor; waits while a successor is about to begin. Its hello tells the commands of
   * the moment it was made, so until it is answered no other may be taken: the center would think that they were forgotten.
   */
  async superseded(session: Running): Promise<boolean> {
    await this.#attempt;
    return this.#current !== session;
  }

  async #follow(): Promise<void> {
    const { backoff, clock } = this.#options;
    for (let old = this.#current; old && this.#mayFollow(old); old = this.#current) {
      this.#wanted = false;
      this.#attempt = this.#begin(old);
      const began = await this.#attempt;
      this.#attempt = undefined;
      if (began) continue;
      this.#wanted = true;
      await sleep(clock, backoff.next(), old.over).catch(() => undefined);
    }
  }

  #mayFollow(old: Running): boolean {
    return this.#wanted && this.#farewell === undefined && !old.over.aborted;
  }

  /** Undefined when the successor did not begin. */
  async #begin(old: Running): Promise<Running | undefined> {
    try {
      const next = (this.#next = await this.#dial());
      if (!next || !(await this.#takesOver(next))) return undefined;
      this.#current = next;
      old.end('new certificate');
      return next;
    } catch (error) {
      this.#options.onFailure(error);
      return undefined;
    } finally {
      this.#next = undefined;
    }
  }

  /** A center that sends the machine elsewhere is as good as a welcome: that is what comes next. @throws why it was refused */
  async #takesOver(next: Running): Promise<boolean> {
    if (await next.begun) return true;
    const ending = await next.ended;
    if ('error' in ending) throw ending.error;
    return ending.redirect !== undefined;
  }

  async #dial(): Promise<Running | undefined> {
    const dialed = await this.#options.dial();
    if (this.#farewell !== undefined) dialed?.end(this.#farewell);
    return dialed;
  }
}
