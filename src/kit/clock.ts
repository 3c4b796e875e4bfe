/**
 * Time, injected. Everything that waits or stamps takes a Clock, so tests can drive time by hand.
 * This folder is the only place that may touch Date.now, performance.now or timers.
 */

/** Node fires a longer timeout at once, so longer waits are split into pieces of at most this. */
const TIMEOUT_MAX_MS = 2_147_483_647;

/** A cancellable one-shot timer. */
export interface Timer {
  /** Stops the timer; safe to call twice and after it has fired. */
  cancel(): void;
}

export interface Clock {
  /** Wall-clock time in milliseconds since the Unix epoch. May jump; only for showing to people and for expiries that must survive a restart. */
  now(): number;
  /** Monotonic milliseconds with an arbitrary zero. For intervals, leases and deadlines. */
  monotonic(): number;
  /** Calls `fire` once after `delayMs` (any size, negative counts as 0). Errors thrown by `fire` are the caller's bug and crash the process. */
  after(delayMs: number, fire: () => void): Timer;
}

class SystemClock implements Clock {
  readonly #keepsAlive: boolean;

  constructor(keepsAlive: boolean) {
    this.#keepsAlive = keepsAlive;
  }

  now(): number {
    return Date.now();
  }

  monotonic(): number {
    return performance.now();
  }

  after(delayMs: number, fire: () => void): Timer {
    let handle: NodeJS.Timeout;
    const arm = (remainingMs: number): void => {
      const piece = Math.min(Math.max(remainingMs, 0), TIMEOUT_MAX_MS);
      handle = setTimeout(() => {
        if (remainingMs > piece) arm(remainingMs - piece);
        else fire();
      }, piece);
      if (!this.#keepsAlive) handle.unref();
    };
    arm(delayMs);
    return {
      cancel: () => {
        clearTimeout(handle);
      },
    };
  }
}

/** The machine's own clock. */
export const systemClock: Clock = new SystemClock(true);

/** The same, for what a library does beside a program's own work: its timers alone do not keep the process alive. */
export const backgroundClock: Clock = new SystemClock(false);

/** A clock that moves only when told to; timers fire in order of their due time. */
export class ManualClock implements Clock {
  #now: number;
  #monotonic = 0;
  #sequence = 0;
  #timers: { dueMs: number; order: number; fire: () => void }[] = [];

  constructor(startMs = 1_700_000_000_000) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  /** Timers waiting to fire. */
  get pending(): number {
    return this.#timers.length;
  }

  after(delayMs: number, fire: () => void): Timer {
    const timer = { dueMs: this.#monotonic + Math.max(delayMs, 0), order: this.#sequence++, fire };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Moves time forward, firing what falls due on the way; lets promises settle before, between and after the timers. */
  async advance(byMs: number): Promise<void> {
    await settle();
    const untilMs = this.#monotonic + byMs;
    for (;;) {
      const next = this.#timers
        .filter((timer) => timer.dueMs <= untilMs)
        .sort((a, b) => a.dueMs - b.dueMs || a.order - b.order)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#set(Math.max(next.dueMs, this.#monotonic));
      next.fire();
      await settle();
    }
    this.#set(untilMs);
    await settle();
  }

  /** Shifts the wall clock alone, as an administrator or NTP would. */
  jumpWallClock(byMs: number): void {
    this.#now += byMs;
  }

  #set(monotonicMs: number): void {
    this.#now += monotonicMs - this.#monotonic;
    this.#monotonic = monotonicMs;
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * Resolves after `delayMs`, or rejects with the signal's reason as soon as it aborts.
 * @throws the signal's reason
 */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason as Error);
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** How long work may take, and what its signal says when that is over. */
export interface TimeLimit {
  readonly timeoutMs: number;
  /** Makes the abort reason; called only when the time is over. */
  readonly reason: () => Error;
  /** Aborts the work too, with its own reason. */
  readonly parent?: AbortSignal | undefined;
}

/**
 * Runs `work` with a signal that aborts after `limit.timeoutMs` or with `limit.parent`.
 * Resolves or rejects with what `work` does: `work` must honour the signal.
 */
export async function withTimeout<T>(
  clock: Clock,
  limit: TimeLimit,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const timer = clock.after(limit.timeoutMs, () => {
    controller.abort(limit.reason());
  });
  const signal = limit.parent ? AbortSignal.any([limit.parent, controller.signal]) : controller.signal;
  try {
    return await work(signal);
  } finally {
    timer.cancel();
  }
}
