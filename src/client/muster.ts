import { AgentService } from '../../generated/muster/v1/agent.js';
import { ConfigService } from '../../generated/muster/v1/config.js';
import type { ConfigValues } from '../config/values.js';
import { flush } from '../counter/default.js';
import { backgroundClock, systemClock, withTimeout } from '../kit/clock.js';
import { messageOf, MusterError } from '../kit/errors.js';
import { systemRandom } from '../kit/random.js';
import { aborted, stopped } from '../kit/tasks.js';
import { createClient, openChannel, type Channel } from '../rpc/client.js';
import { fromDuration } from '../wire/time.js';
import { agentAddress } from './agent-address.js';
import { followConfig } from './config-follower.js';
import { ConfigState, withDefaults } from './config-state.js';
import { noticeNoAgent, noticeOnce } from './notice.js';
import type { Queue, QueueOptions } from './queue/index.js';
import { ReportSender } from './report-sender.js';

export interface ConnectOptions {
  /** Only needed where the agent's socket is not the service's own: the agent knows who calls by the socket. Default MUSTER_SERVICE. */
  readonly service?: string;
  /** Beneath the configuration, everywhere: maps merge, lists and scalars of the configuration replace. */
  readonly defaults?: object;
  /** How long to wait for the first configuration, milliseconds. Then the program goes on with its defaults. Default 5 s. */
  readonly timeoutMs?: number;
}

/** A certificate for the service's own name, for mTLS. */
export interface ServiceCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly caPem: string;
  readonly expires: Date | undefined;
}

export interface ChangeInfo {
  readonly revision: number;
}

const CONNECT_TIMEOUT_MS = 5_000;
const FLUSH_TIMEOUT_MS = 2_000;

/**
 * Finds the machine's agent by MUSTER_AGENT and gets the service's configuration. Without an agent, or while it does not answer, the
 * program works with its defaults; this is said once on standard error. Never rejects because of the agent.
 */
export async function connect(options: ConnectOptions = {}): Promise<Muster> {
  const address = agentAddress(process.env);
  if (address === undefined) noticeNoAgent();
  const muster = new Muster(address, options);
  await muster.ready();
  return muster;
}

/** The connection of a program to its agent. It alone does not keep the process alive. */
export class Muster {
  readonly #service: string;
  readonly #defaults: ConfigValues;
  readonly #timeoutMs: number;
  readonly #state: ConfigState;
  readonly #channel: Channel | undefined;
  readonly #sender: ReportSender | undefined;
  readonly #stop = new AbortController();
  readonly #first: Promise<void>;
  #following: Promise<void> = Promise.resolve();
  readonly #queues: Queue[] = [];
  /** Configurations laid on the defaults asked for, of one snapshot. */
  #laid: { readonly of: ConfigValues; readonly on: WeakMap<object, ConfigValues> } | undefined;

  /** Use connect(). */
  constructor(address: string | undefined, options: ConnectOptions) {
    this.#service = options.service ?? process.env['MUSTER_SERVICE'] ?? '';
    this.#defaults = asValues(options.defaults);
    this.#timeoutMs = options.timeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#channel =
      address === undefined
        ? undefined
        : openChannel({ address, peer: 'the agent', clock: backgroundClock, background: true });
    this.#sender = this.#channel && this.#reportSender(this.#channel);
    this.#state = new ConfigState(backgroundClock, (revision, error) => {
      this.#sender?.report({ revision, error });
    });
    this.#first = this.#channel ? this.#follow(this.#channel) : Promise.resolve();
  }

  /** Resolves once there is a configuration, or when it is time to go on without. */
  async ready(): Promise<void> {
    const reason = (): Error => new MusterError('deadline', `the agent did not answer within ${this.#timeoutMs} ms`);
    try {
      // This wait is the program's own: it holds the process, unlike all that follows.
      await withTimeout(systemClock, { timeoutMs: this.#timeoutMs, reason }, (signal) =>
        orAborted(this.#first, signal),
      );
    } catch (error) {
      this.#lost(error instanceof Error ? error.message : String(error));
    }
  }

  /** Revision of the configuration in use; 0 while there is none. */
  get revision(): number {
    return this.#state.current.revision;
  }

  /**
   * The configuration in use, laid on `defaults`, which are laid on those of connect(). Frozen: it never changes, ask again for the
   * newest. The type is the caller's claim: what operators publish is not checked against it.
   */
  config<T extends object = ConfigValues>(defaults?: T): T {
    const { values } = this.#state.current;
    if (this.#laid?.of !== values) this.#laid = { of: values, on: new WeakMap() };
    const key = defaults ?? this.#defaults;
    const laid = this.#laid.on.get(key) ?? this.#lay(values, asValues(defaults));
    this.#laid.on.set(key, laid);
    return laid as T;
  }

  /**
   * Calls `listener` with each new configuration, laid on the defaults of connect(), one at a time. When it throws or rejects, or takes
   * longer than 30 s, the revision counts as refused, the operator sees why, and config() stays as it was. Returns how to stop.
   */
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- names the type of what the listener gets, as config() does
  onChange<T extends object = ConfigValues>(listener: (config: T, info: ChangeInfo) => unknown): () => void {
    return this.#state.onChange((values, info) => listener(this.#lay(values, {}) as T, info));
  }

  /**
   * Says that the configuration in use cannot be used after all, for example the first one, which nobody was asked about. The operator
   * sees why; config() stays as it is.
   */
  refuse(why: unknown): void {
    if (this.revision > 0) this.#sender?.report({ revision: this.revision, error: messageOf(why) || 'refused' });
  }

  /**
   * For a service with a ttl ping: says how it is. Resolves with the milliseconds within which the next report is due.
   * @throws precondition when it has no ttl ping; unavailable without an agent
   */
  async reportHealth(health: 'PASSING' | 'WARNING' | 'CRITICAL' = 'PASSING', output = ''): Promise<number> {
    const client = createClient(AgentService, this.#agent());
    const { ttl } = await client.reportHealth({ service: '', health: `HEALTH_${health}`, output });
    return fromDuration(ttl) ?? 0;
  }

  /**
   * A certificate and key of the service's own name. Ask again before it expires.
   * @throws unavailable without an agent, or where it has none and the center is away
   */
  async certificate(): Promise<ServiceCertificate> {
    const client = createClient(AgentService, this.#agent());
    const { certificate, privateKey, ca, expires } = await client.getCertificate({});
    return { certificatePem: certificate, privateKeyPem: privateKey, caPem: ca, expires };
  }

  /**
   * A connection to the site's queue; close() of this one closes it, too. A promise of what connectQueue() of `muster/queue` gives.
   * @throws precondition, reason NO_AGENT, where nothing says which queue
   */
  async queue(options: QueueOptions = {}): Promise<Queue> {
    // Loaded only by programs that use a queue.
    const { connectQueue } = await import('./queue/index.js');
    const queue = connectQueue(options);
    this.#queues.push(queue);
    return queue;
  }

  /**
   * Ends the connections to queues in good order, hands over what the counters hold (2 s at most), then ends the connection. The
   * configuration stays readable.
   */
  async close(): Promise<void> {
    await Promise.allSettled(this.#queues.map((queue) => queue.close()));
    await flush({ timeoutMs: FLUSH_TIMEOUT_MS }).catch(() => undefined);
    this.#stop.abort(stopped('the connection to the agent'));
    await this.#following;
    this.#channel?.close();
  }

  #agent(): Channel {
    if (this.#channel) return this.#channel;
    throw new MusterError('unavailable', 'there is no agent: MUSTER_AGENT is not set', { reason: 'NO_AGENT' });
  }

  /** Starts to follow the configuration; resolves with the first one. */
  #follow(channel: Channel): Promise<void> {
    return new Promise((resolve) => {
      this.#following = followConfig(
        {
          channel,
          service: this.#service,
          clock: backgroundClock,
          random: systemRandom,
          held: () => this.#state.newestHash,
          onSnapshot: (snapshot) => {
            this.#state.offer(snapshot);
            void this.#state.idle().then(resolve);
          },
          onLost: (why) => {
            this.#lost(why);
          },
        },
        this.#stop.signal,
      );
    });
  }

  #lost(why: string): void {
    noticeOnce('AGENT_LOST', `no contact with the agent, going on with the configuration at hand: ${why}`);
  }

  #lay(values: ConfigValues, defaults: ConfigValues): ConfigValues {
    return withDefaults(withDefaults(this.#defaults, defaults), values);
  }

  #reportSender(channel: Channel): ReportSender {
    const client = createClient(ConfigService, channel);
    return new ReportSender({
      send: async (report, signal) => {
        await client.reportApplied({ machine: '', service: this.#service, ...report }, { signal });
      },
      clock: backgroundClock,
      random: systemRandom,
      signal: this.#stop.signal,
    });
  }
}

/** Defaults of a program are made of what JSON holds; its own types do not say so. A copy: what is handed out is frozen. */
function asValues(defaults: object = {}): ConfigValues {
  return structuredClone(defaults) as ConfigValues;
}

async function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  await Promise.race([promise, aborted(signal)]);
  signal.throwIfAborted();
}
