import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import { Handoff } from './handoff.js';
import type { Tails, TailWish } from './tails.js';

/** What of a line matters here. */
export interface Placed {
  /** Where reading goes on behind it; empty where the line has no such place. */
  readonly position: string;
}

export interface TailedMachine {
  readonly id: string;
  readonly name: string;
}

export interface FleetTailWish extends Omit<TailWish, 'machine' | 'position'> {
  readonly machines: readonly TailedMachine[];
  /** By machine name: go on behind this place. */
  readonly positions: ReadonlyMap<string, string>;
}

/** Lines of one machine in their order, or a notice about it. */
export type FleetBatch<L> =
  | { readonly machine: TailedMachine; readonly lines: readonly L[] }
  | { readonly machine: TailedMachine; readonly notice: string };

export interface FleetTailOptions<L extends Placed> {
  readonly tails: Tails<{ readonly lines: readonly L[] }>;
  readonly clock: Clock;
  readonly random: Random;
  /** Undefined: it was removed. */
  readonly isOnline: (machine: string) => boolean | undefined;
}

/** How often a machine that went away is looked for; and how long after a log broke off that is known of its machine too. */
const LOOK_MS = 250;
/** Before a machine that is there is asked again: what broke its log off may do so again. Lines that come begin it anew. */
const AGAIN = { initialMs: 500, maxMs: 30_000, multiplier: 2 };
/** A log that gave no line for so long after its agent answered had none. */
const EMPTY_AFTER_MS = 2000;
/** Lines asked of such a log later: all that is new, as far as one order gives it. */
const NEW_LINES_MAX = 10_000;

/** How the reading of one machine's log ended; undefined for one that was ended by the reader. */
type End = MusterError | undefined;

/**
 * The log of a service on several machines as one. Lines of one machine keep their order; machines take turns, each has at most one batch in
 * hand, and one that is slow or away holds up no other. With `follow` a machine that goes away is read on from the same place when it is back.
 */
export class FleetTail<L extends Placed> {
  readonly #options: FleetTailOptions<L>;
  readonly #wish: FleetTailWish;
  readonly #merged = new Handoff<FleetBatch<L>>();

  constructor(options: FleetTailOptions<L>, wish: FleetTailWish) {
    this.#options = options;
    this.#wish = wish;
  }

  /** @throws where no machine could give the log, what the first one said */
  async *read(signal: AbortSignal): AsyncGenerator<FleetBatch<L>> {
    const controller = new AbortController();
    const both = AbortSignal.any([signal, controller.signal]);
    const { machines } = this.#wish;
    const all = Promise.all(machines.map((machine) => this.#follow(machine, both))).then(
      (ends) => {
        this.#merged.close(allFailed(ends));
      },
      (error: unknown) => {
        this.#merged.close(error instanceof Error ? error : new Error(String(error)));
      },
    );
    try {
      yield* this.#merged;
    } finally {
      controller.abort();
      this.#merged.abandon();
      await all;
    }
  }

  async #say(machine: TailedMachine, notice: string): Promise<void> {
    await this.#merged.put({ machine, notice });
  }

  /** @returns why it gave nothing more, where that is a failure */
  async #follow(machine: TailedMachine, signal: AbortSignal): Promise<End> {
    const reading = new MachineReading(this.#options, this.#wish, machine);
    for (;;) {
      const end = await this.#readOnce(reading, signal);
      if (signal.aborted) return undefined;
      if (await this.#isOver(machine, end)) return end;
      await this.#sayLost(reading, end, signal);
      await this.#untilAgain(reading, signal);
    }
  }

  /** That its log broke off, once; whether the machine itself is away is known a little later. */
  async #sayLost(reading: MachineReading<L>, end: End, signal: AbortSignal): Promise<void> {
    if (!reading.lose()) return;
    const { clock, tails } = this.#options;
    const { machine } = reading;
    const at = timeOf(clock);
    if (!reading.wasRead && end) {
      await this.#say(machine, end.message);
      return;
    }
    await sleep(clock, LOOK_MS, signal).catch(() => undefined);
    const lost = tails.isConnected(machine.id)
      ? `${machine.name} stopped sending its log at ${at}; it is asked again`
      : `contact with ${machine.name} lost at ${at}; reading on when it is back`;
    await this.#say(machine, lost);
  }

  /** Until the machine is there, and it is not too soon to ask it again. */
  async #untilAgain({ machine, backoff }: MachineReading<L>, signal: AbortSignal): Promise<void> {
    const { clock, tails, isOnline } = this.#options;
    const againMs = clock.monotonic() + backoff.next();
    while (!signal.aborted && isOnline(machine.id) !== undefined) {
      const leftMs = tails.isConnected(machine.id) ? againMs - clock.monotonic() : LOOK_MS;
      if (leftMs <= 0) return;
      await sleep(clock, Math.min(leftMs, LOOK_MS), signal).catch(() => undefined);
    }
  }

  /** Whether nothing more is to come from the machine; why is said. */
  async #isOver(machine: TailedMachine, end: End): Promise<boolean> {
    const { follow, machines } = this.#wish;
    if (this.#options.isOnline(machine.id) === undefined) {
      await this.#say(machine, `${machine.name} was removed from the site: its log ends here`);
      return true;
    }
    if (follow && (!end || isCode(end, 'unavailable'))) return false;
    if (end && machines.length > 1) await this.#say(machine, end.message);
    return true;
  }

  /** @returns what went wrong; undefined at the end of the log */
  async #readOnce(reading: MachineReading<L>, signal: AbortSignal): Promise<End> {
    const { machine } = reading;
    try {
      const answered = (isBack: boolean): void => {
        if (isBack) void this.#say(machine, `${machine.name} is back; reading on`);
      };
      for await (const lines of reading.read(answered, signal)) await this.#merged.put({ machine, lines });
      // A followed log ends only with its agent.
      return this.#wish.follow ? new MusterError('unavailable', 'the agent ended the log') : undefined;
    } catch (error) {
      return isCode(error) ? error : new MusterError('internal', messageOf(error), { cause: error });
    }
  }
}

/** The log of one machine, ordered again and again. */
class MachineReading<L extends Placed> {
  readonly machine: TailedMachine;
  readonly #options: FleetTailOptions<L>;
  readonly #wish: FleetTailWish;
  /** Before it is ordered again. */
  readonly backoff: Backoff;
  #position: string;
  /** Monotonic; undefined until its agent first answered. */
  #answeredMs: number | undefined;
  /** It is said that contact is lost. */
  #lost = false;

  constructor(options: FleetTailOptions<L>, wish: FleetTailWish, machine: TailedMachine) {
    this.#options = options;
    this.#wish = wish;
    this.machine = machine;
    this.backoff = new Backoff(AGAIN, options.random);
    this.#position = wish.positions.get(machine.name) ?? '';
  }

  /** Whether its agent ever answered. */
  get wasRead(): boolean {
    return this.#answeredMs !== undefined;
  }

  /** Contact is lost. @returns whether that is news */
  lose(): boolean {
    const isNews = !this.#lost;
    this.#lost = true;
    return isNews;
  }

  /** @throws as Tails.open */
  async *read(answered: (isBack: boolean) => void, signal: AbortSignal): AsyncGenerator<readonly L[]> {
    const { tails, clock } = this.#options;
    const { service, follow, file } = this.#wish;
    const wish = { machine: this.machine, service, follow, file, lines: this.#lines(), position: this.#position };
    const begun = (): void => {
      this.#answeredMs ??= clock.monotonic();
      answered(this.#lost);
      this.#lost = false;
    };
    for await (const { lines } of tails.open(wish, signal, begun)) {
      if (lines.length > 0) this.backoff.reset();
      yield lines;
      this.#position = lines.findLast(({ position }) => position !== '')?.position ?? this.#position;
    }
  }

  #lines(): number {
    const since = this.#answeredMs;
    const wasEmpty = since !== undefined && this.#options.clock.monotonic() - since > EMPTY_AFTER_MS;
    return wasEmpty && this.#position === '' ? NEW_LINES_MAX : this.#wish.lines;
  }
}

/** What the call fails with: only where every machine failed. */
function allFailed(ends: readonly End[]): MusterError | undefined {
  const [first] = ends;
  if (!first || ends.some((end) => end === undefined)) return undefined;
  if (ends.length === 1) return first;
  return new MusterError(first.code, `none of the ${ends.length} machines could give the log: ${first.message}`, {
    reason: first.reason ?? 'TAIL_FAILED',
  });
}

/** `14:02:09 UTC` */
function timeOf(clock: Clock): string {
  return `${new Date(clock.now()).toISOString().slice(11, 19)} UTC`;
}
