import { CenterService, type Welcome } from '../../../generated/muster/v1/center.js';
import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { isCode, messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { Resources } from '../../model/machine.js';
import { parseAddress } from '../../rpc/addresses.js';
import { createClient, openChannel, type Channel } from '../../rpc/client.js';
import { fromDate, fromDuration } from '../../wire/time.js';
import { runTasks } from '../../kit/tasks.js';
import type { CommandRunner } from '../commands/runner.js';
import type { MachineIdentity, MachineMembership } from '../identity/machine.js';
import type { CenterAccess, ServiceControl } from '../ports.js';
import type { SessionEpoch } from './epoch.js';
import { helloFrame, type UpFrame } from './frames.js';
import { Outbox, type OutboxSources } from './outbox.js';
import type { Orders } from './orders.js';
import type { Farewell } from './session.js';
import { startSession, Succession, type Ending, type Running } from './succession.js';

export interface LinkOptions extends Omit<OutboxSources, 'control' | 'commands'> {
  readonly identity: MachineIdentity;
  readonly epoch: SessionEpoch;
  readonly control: ServiceControl;
  readonly commands: CommandRunner;
  readonly orders: Orders;
  readonly resources: () => Promise<Resources>;
  readonly bootId: string;
  /** New for each start of the agent. */
  readonly processId: string;
  readonly version: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** For tests. */
  readonly timings?: Partial<LinkTimings>;
}

/** All in milliseconds. */
export interface LinkTimings {
  /** At least; the center of a large fleet asks for more. */
  readonly retryInitialMs: number;
  readonly retryMaxMs: number;
  /** Until a connection stands: long, because a center that comes back has many handshakes to do. */
  readonly connectMs: number;
  readonly welcomeMs: number;
  /** A session that lived this long was stable: the next retry begins anew. */
  readonly stableMs: number;
  /** Without an identity that can be used: how often to look for one. */
  readonly lookMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
}

const TIMINGS: LinkTimings = {
  retryInitialMs: 1000,
  retryMaxMs: 10_000,
  connectMs: 30_000,
  welcomeMs: 30_000,
  stableMs: 10_000,
  lookMs: 2000,
  keepaliveIntervalMs: 10_000,
  keepaliveTimeoutMs: 10_000,
};

/** Redirects followed without a welcome in between. */
const REDIRECTS_MAX = 5;
/** Failures in a row at the address of a redirect until the machine's own center is asked again. */
const REDIRECT_FAILURES_MAX = 3;
const CLOCK_SKEW_MAX_MS = 30_000;
/** What a center sends of a file before it hears that it was read: 100 MB/s over 10 ms. */
const FILE_WINDOW_BYTES = 1024 * 1024;

/**
 * offline: no session; waits, or has no identity to dial with. dialing: a stream is being opened, no welcome yet. live: welcomed.
 * Changed in Link.#become alone.
 */
export type LinkState =
  | { readonly at: 'offline'; readonly sinceMs: number; readonly reason: string }
  | { readonly at: 'dialing'; readonly sinceMs: number; readonly reason: string; readonly address: string }
  | { readonly at: 'live'; readonly sinceMs: number; readonly session: string; readonly address: string };

/** The way to the center: keeps one session alive for as long as the agent runs, and lends its channel to the other parts. */
export class Link implements CenterAccess {
  readonly #options: LinkOptions;
  readonly #timings: LinkTimings;
  #backoff: Backoff;
  #returnWithinMs = 0;
  readonly #listeners = new Set<(connected: boolean) => void>();
  #state: LinkState;
  #channel: { readonly address: string; readonly site: string; readonly channel: Channel } | undefined;
  #redirect: { readonly address: string; readonly hops: number; readonly failures: number } | undefined;
  #succession: Succession | undefined;
  /** What the sessions that run now belong to. */
  #membership: MachineMembership | undefined;
  /** The newest epoch that the center says it has seen, where that is above ours: this disk was put back or copied. */
  #epochSeen = 0;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#timings = { ...TIMINGS, ...options.timings };
    this.#state = { at: 'offline', sinceMs: options.clock.now(), reason: 'the agent is starting' };
    this.#backoff = this.#newBackoff();
  }

  /** The first wait after a lost session is spread over what the center asked for, and never over less than our own. */
  #newBackoff(): Backoff {
    const { retryInitialMs, retryMaxMs } = this.#timings;
    const initialMs = Math.max(retryInitialMs, this.#returnWithinMs);
    return new Backoff({ initialMs, maxMs: Math.max(retryMaxMs, initialMs), multiplier: 2 }, this.#options.random);
  }

  #pace(returnWithinMs: number): void {
    // A backoff that is already at that pace keeps its attempts: a center that dies right after each welcome must not be hurried.
    if (returnWithinMs === this.#returnWithinMs) return;
    this.#returnWithinMs = returnWithinMs;
    this.#backoff = this.#newBackoff();
  }

  get state(): LinkState {
    return this.#state;
  }

  get connected(): boolean {
    return this.#state.at === 'live';
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  channel(): Channel | undefined {
    const membership = this.#options.identity.membership;
    if (!membership) return undefined;
    const address = this.#addressOf(membership);
    if (this.#channel?.address !== address || this.#channel.site !== membership.site) {
      this.#channel?.channel.close();
      this.#channel = { address, site: membership.site, channel: this.#open(address) };
    }
    return this.#channel.channel;
  }

  /**
   * A connection of its own for the bytes of a file, for the caller to close. What is sent on it does not stand before what the session has to say,
   * and it has the large window that a connection which carries little should not have. Undefined until the machine has joined.
   */
  fileChannel(): Channel | undefined {
    const membership = this.#options.identity.membership;
    return membership && this.#open(this.#addressOf(membership), FILE_WINDOW_BYTES);
  }

  #addressOf(membership: MachineMembership): string {
    return this.#redirect?.address ?? membership.center;
  }

  #open(address: string, windowBytes?: number): Channel {
    const { identity, clock } = this.#options;
    const { keepaliveIntervalMs: intervalMs, keepaliveTimeoutMs: timeoutMs, connectMs } = this.#timings;
    return openChannel({
      address,
      tls: { identity },
      keepalive: { intervalMs, timeoutMs },
      clock,
      peer: 'the center',
      connectTimeoutMs: connectMs,
      ...(windowBytes === undefined ? {} : { windowBytes }),
    });
  }

  /** Keeps connected until the signal aborts; then says goodbye. */
  async run(signal: AbortSignal): Promise<void> {
    const end = (why: Farewell): void => this.#succession?.end(why);
    const stop = (): void => {
      end('stopping');
    };
    signal.addEventListener('abort', stop);
    const unsubscribe = this.#options.identity.onChange(() => {
      if (this.connected && this.#isSameMember()) this.#succession?.renew();
      else end('new certificate');
    });
    try {
      await runTasks(signal, [(s) => this.#keepConnected(s), (s) => this.#watchIdentity(s)]);
    } finally {
      unsubscribe();
      signal.removeEventListener('abort', stop);
      this.#become({ at: 'offline', sinceMs: this.#offlineSinceMs(), reason: 'the agent is stopping' });
      this.#channel?.channel.close();
      this.#channel = undefined;
    }
  }

  async #keepConnected(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const delayMs = await this.#once(signal);
      if (delayMs > 0) await sleep(this.#options.clock, delayMs, signal).catch(() => undefined);
    }
  }

  /** Notices that the machine was joined, or joined anew, by another process. */
  async #watchIdentity(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.clock, this.#timings.lookMs, signal);
      await this.#options.identity.refresh();
    }
  }

  /** One try; returns how long to wait before the next, milliseconds. Whatever fails, the agent goes on without a center. */
  async #once(signal: AbortSignal): Promise<number> {
    const { identity, clock } = this.#options;
    await identity.refresh();
    const problem = identity.problem();
    const channel = problem === undefined ? this.channel() : undefined;
    if (!channel) {
      this.#offline(problem ?? 'this machine has not joined a site');
      return this.#timings.lookMs;
    }
    const startedMs = clock.monotonic();
    this.#membership = identity.membership;
    try {
      const ending = await this.#converse(channel, signal);
      if ('error' in ending) throw ending.error;
      return signal.aborted ? 0 : this.#left(ending.redirect);
    } catch (error) {
      return this.#lost(error, clock.monotonic() - startedMs);
    } finally {
      this.#succession = undefined;
    }
  }

  #isSameMember(): boolean {
    const [before, now] = [this.#membership, this.#options.identity.membership];
    return before?.machine === now?.machine && before?.site === now?.site && before?.center === now?.center;
  }

  /** A session, and those that follow it without a gap. */
  #converse(channel: Channel, signal: AbortSignal): Promise<Ending> {
    const { clock, logger, random } = this.#options;
    const { retryInitialMs: initialMs, retryMaxMs: maxMs } = this.#timings;
    const succession: Succession = new Succession({
      dial: async () => {
        const hello = await this.#hello();
        return signal.aborted ? undefined : this.#dial(channel, hello, succession);
      },
      onFailure: (error) => {
        this.#learnEpoch(error);
        logger.warn('no session with the new certificate yet, the old one goes on', { error });
      },
      backoff: new Backoff({ initialMs, maxMs, multiplier: 2 }, random),
      clock,
    });
    this.#succession = succession;
    return succession.run();
  }

  /** The session was ended on purpose: by this side, or to be had at another address. Returns the wait before the next, milliseconds. */
  #left(redirect: string | undefined): number {
    const reason =
      redirect === undefined ? 'the session is being renewed' : `the center sends this machine to ${redirect}`;
    this.#become({ at: 'offline', sinceMs: this.#offlineSinceMs(), reason });
    return redirect === undefined ? 0 : this.#follow(redirect);
  }

  /** Returns how long to wait before the next try, milliseconds. */
  #lost(error: unknown, livedMs: number): number {
    if (this.connected && livedMs >= this.#timings.stableMs) this.#backoff.reset();
    this.#learnEpoch(error);
    this.#failedAtRedirect();
    this.#offline(messageOf(error));
    return this.#backoff.next();
  }

  #learnEpoch(error: unknown): void {
    if (!isCode(error, 'conflict') || error.reason !== 'STALE_EPOCH') return;
    this.#epochSeen = Number(error.metadata['epoch'] ?? 0);
  }

  async #hello(): Promise<UpFrame> {
    const { identity, epoch, control, commands, config, clock, bootId, processId, version } = this.#options;
    return helloFrame({
      bootId,
      processId,
      version,
      epoch: await epoch.next(this.#epochSeen),
      name: identity.membership?.name ?? '',
      nowMs: clock.now(),
      services: control.list(),
      generations: control.generations(),
      commands: commands.pending(),
      config: (service) => config.of(service),
    });
  }

  #dial(channel: Channel, hello: UpFrame, succession: Succession): Running {
    const { clock, orders, resources } = this.#options;
    const address = channel.target.address;
    if (!this.connected) {
      this.#become({ at: 'dialing', sinceMs: this.#state.sinceMs, reason: reasonOf(this.#state), address });
    }
    const running: Running = startSession({
      stream: createClient(CenterService, channel).connect(),
      clock,
      hello,
      onWelcome: (welcome) => this.#welcomed(welcome, address),
      onFrame: async (frame, outbox) => {
        // The center sends a command again that its successor's hello does not have; a log is wanted by whoever was asked.
        const isCommand = frame.$case === 'command' && !frame.value.tail;
        if (isCommand && (await succession.superseded(running))) return;
        await orders.take(frame, outbox);
      },
      resources,
      welcomeTimeoutMs: this.#timings.welcomeMs,
    });
    return running;
  }

  #welcomed(welcome: Welcome, address: string): Outbox {
    const { clock, logger } = this.#options;
    if (this.#redirect) this.#redirect = { ...this.#redirect, hops: 0, failures: 0 };
    this.#become({ at: 'live', sinceMs: clock.now(), session: welcome.session, address });
    this.#pace(fromDuration(welcome.returnWithin) ?? 0);
    const skewMs = clock.now() - (fromDate(welcome.now) ?? clock.now());
    if (Math.abs(skewMs) > CLOCK_SKEW_MAX_MS) {
      const direction = skewMs > 0 ? 'ahead of' : 'behind';
      logger.warn(
        `the clock of this machine is ${formatDuration(Math.abs(skewMs))} ${direction} the center's: set it right, or certificates will be refused`,
      );
    }
    logger.info('connected to the center', {
      address,
      session: welcome.session,
      center: welcome.centerVersion,
      heartbeatMs: fromDuration(welcome.heartbeatInterval),
    });
    return new Outbox(this.#options);
  }

  /** Returns the wait before dialing there: none, unless the centers send the machine round in a circle. */
  #follow(address: string): number {
    const hops = (this.#redirect?.hops ?? 0) + 1;
    if (!isAddress(address)) {
      this.#offline(`the center sends this machine to "${address}", which is not HOST:PORT: look at its --redirect`);
      return this.#backoff.next();
    }
    if (hops > REDIRECTS_MAX) {
      this.#redirect = undefined;
      this.#offline(
        `the centers redirect this machine from one to the next (${address} was the last): look at their --redirect`,
      );
      return this.#backoff.next();
    }
    this.#redirect = { address, hops, failures: 0 };
    this.#options.logger.info('the center sends this machine elsewhere', { address });
    return 0;
  }

  #failedAtRedirect(): void {
    if (!this.#redirect) return;
    const failures = this.#redirect.failures + 1;
    this.#redirect = failures >= REDIRECT_FAILURES_MAX ? undefined : { ...this.#redirect, failures };
  }

  /** Against our will: said in the log, once per reason. */
  #offline(reason: string): void {
    const before = reasonOf(this.#state);
    this.#become({ at: 'offline', sinceMs: this.#offlineSinceMs(), reason });
    if (reason !== before) this.#options.logger.warn('no session with the center', { reason });
  }

  #offlineSinceMs(): number {
    return this.connected ? this.#options.clock.now() : this.#state.sinceMs;
  }

  /** The only place where the state changes. */
  #become(next: LinkState): void {
    const before = this.#state;
    this.#state = next;
    const connected = next.at === 'live';
    if (connected === (before.at === 'live')) return;
    for (const listener of [...this.#listeners]) listener(connected);
  }
}

function isAddress(text: string): boolean {
  try {
    return parseAddress(text).kind === 'tcp';
  } catch {
    return false;
  }
}

function reasonOf(state: LinkState): string {
  return state.at === 'live' ? '' : state.reason;
}
