import { AgentService } from '../../../generated/muster/v1/agent.js';
import type { QueueServer } from '../../../generated/muster/v1/types.js';
import type { Clock } from '../../kit/clock.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { Random } from '../../kit/random.js';
import { stopped } from '../../kit/tasks.js';
import { createClient, openChannel, type Channel } from '../../rpc/client.js';
import type { IdentitySource } from '../../rpc/identity.js';
import { serviceIdentity } from './service-identity.js';

export interface ConnectionOptions {
  /** `host:port` or `unix:/path`. */
  readonly address: string | undefined;
  /** Name of the queue, where the site has several. */
  readonly queue: string | undefined;
  /** Proves who we are on the network. Without one the agent is asked. */
  readonly identity: IdentitySource | undefined;
  /** `unix:` and the path of the socket that the agent made for this service; undefined where there is no agent. */
  readonly agent: string | undefined;
  readonly clock: Clock;
  /** For what alone must not keep the process alive. */
  readonly background: Clock;
  readonly random: Random;
}

/** What streams of messages need so that distance does not slow them down. */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** The agent is not asked again sooner: many streams may come back at once. */
const ASK_AGAIN_MS = 5_000;

/**
 * Publishing and consuming go over connections of their own. Node.js does not read from an HTTP/2 connection while a write to it waits: with
 * batches going one way and deliveries the other, both ends could wait for each other for ever.
 */
export type Use = 'publish' | 'consume';

interface Open {
  readonly address: string;
  readonly channels: Readonly<Record<Use, Channel>>;
}

/** Finds the queue and connects to it, again when it has moved. */
export class QueueConnection {
  readonly #options: ConnectionOptions;
  readonly #agent: Channel | undefined;
  readonly #stop = new AbortController();
  #identity: Promise<IdentitySource> | undefined;
  #found: { readonly address: string; readonly askedMs: number } | undefined;
  #open: Open | undefined;
  #connecting: Promise<Open> | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { agent, background } = options;
    if (agent !== undefined) {
      this.#agent = openChannel({ address: agent, peer: 'the agent', clock: background, background: true });
    }
  }

  /**
   * The channel to the queue. Nothing is connected before it is used.
   * @throws not_found where none is known, precondition where it is not clear which or nothing proves who we are; unavailable; cancelled
   */
  async channel(use: Use): Promise<Channel> {
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    const { channels } = await this.#connecting;
    return channels[use];
  }

  close(): void {
    this.#stop.abort(stopped('the connection to the queue'));
    this.#closeOpen();
    this.#agent?.close();
  }

  #closeOpen(): void {
    for (const channel of Object.values(this.#open?.channels ?? {})) channel.close();
  }

  async #connect(): Promise<Open> {
    this.#stop.signal.throwIfAborted();
    const address = this.#options.address ?? (await this.#find());
    if (this.#open?.address === address) return this.#open;
    const local = address.startsWith('unix:');
    const options = {
      address,
      peer: 'the queue',
      windowBytes: WINDOW_BYTES,
      clock: this.#options.clock,
      ...(local ? {} : { tls: { identity: await this.#proof(), expect: 'queue' as const } }),
    };
    const channels = { publish: openChannel(options), consume: openChannel(options) };
    this.#stop.signal.throwIfAborted();
    this.#closeOpen();
    this.#open = { address, channels };
    return this.#open;
  }

  /** The queue's address as the agent knows it; the last one known where the agent does not answer. */
  async #find(): Promise<string> {
    const nowMs = this.#options.clock.monotonic();
    if (this.#found && nowMs - this.#found.askedMs < ASK_AGAIN_MS) return this.#found.address;
    try {
      const { queues } = await createClient(AgentService, this.#needAgent()).getQueues({});
      const { address } = chosen(queues, this.#options.queue);
      this.#found = { address, askedMs: nowMs };
    } catch (error) {
      if (!this.#found || !isCode(error, 'unavailable', 'deadline')) throw error;
    }
    return this.#found.address;
  }

  #proof(): Promise<IdentitySource> {
    const { identity, background: clock, random } = this.#options;
    if (identity) return Promise.resolve(identity);
    this.#identity ??= this.#fromAgent({ clock, random });
    this.#identity.catch(() => {
      this.#identity = undefined;
    });
    return this.#identity;
  }

  async #fromAgent(parts: { clock: Clock; random: Random }): Promise<IdentitySource> {
    return serviceIdentity({ ...parts, agent: this.#needAgent() }, this.#stop.signal);
  }

  #needAgent(): Channel {
    if (this.#agent) return this.#agent;
    throw new MusterError(
      'precondition',
      'no queue is named and there is no agent to ask (MUSTER_AGENT is not set): run this as a service of an agent, or name the socket of a queue on this machine in MUSTER_QUEUE, for example unix:/var/lib/muster/queue/queue.sock',
      { reason: 'NO_AGENT' },
    );
  }
}

function chosen(queues: readonly QueueServer[], name: string | undefined): QueueServer {
  const known = queues.filter(({ address }) => address !== '');
  const [only, ...others] = name === undefined ? known : known.filter((queue) => queue.name === name);
  if (only && others.length === 0) return only;
  const names = known.map((queue) => queue.name).join(', ');
  if (only) {
    throw new MusterError('precondition', `the site has several queues: name one of ${names} with the option "queue"`, {
      reason: 'SEVERAL_QUEUES',
    });
  }
  const what =
    name === undefined || known.length === 0
      ? 'no queue of this site is known: run "muster queue join" where one shall be, or name its address in MUSTER_QUEUE'
      : `there is no queue "${name}": the site has ${names}`;
  // A queue may be joining at this very moment; callers that can wait try again.
  throw new MusterError('unavailable', what, { reason: 'NO_QUEUE' });
}
