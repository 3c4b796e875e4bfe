import { hostname } from 'node:os';
import { IdentityFiles } from '../../enrolment/files.js';
import { MemberIdentity } from '../../enrolment/identity.js';
import { askToRenew } from '../../enrolment/wire.js';
import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { runTasks } from '../../kit/tasks.js';
import { PORTS } from '../../model/places.js';
import { formatAddress, parseAddress } from '../../rpc/addresses.js';
import { openChannel, type Channel } from '../../rpc/client.js';
import type { Bound, RpcServer } from '../../rpc/server.js';
import { hostAndPort } from './address.js';
import { QUEUE, type QueueMember } from './party.js';
import { tellAddress } from './wire.js';

export interface QueueMembershipOptions {
  readonly data: string;
  /** HOST:PORT for services and people; port 0 takes a free one. */
  readonly listen: string;
  /** HOST:PORT under which others reach this queue. Default: what was said when joining, else this host's name, or the host listened on, and the port. */
  readonly advertise?: string;
  /** Address of the center, if it moved since the queue joined; remembered. */
  readonly center?: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** A join by another process is looked for this often. */
const LOOK_MS = 1000;
/** The center hears of this queue this often, and at once when its address changes. */
const SIGN_OF_LIFE_MS = 60_000;
const RETRY = { initialMs: 1000, maxMs: 30_000, multiplier: 2 };
const CALL_TIMEOUT_MS = 10_000;

/** The queue's part in its site: its identity, the listener of the network that needs one, and what the center knows of it. */
export class QueueMembership {
  readonly #options: QueueMembershipOptions;
  readonly #identity: MemberIdentity<QueueMember>;
  #bound: Bound | undefined;
  #channel: { readonly address: string; readonly channel: Channel } | undefined;
  #ended = false;

  private constructor(options: QueueMembershipOptions, identity: MemberIdentity<QueueMember>) {
    this.#options = options;
    this.#identity = identity;
  }

  /**
   * Reads what is in the data directory. A damaged identity is said in the log, and the queue serves without the network.
   * @throws invalid for an address that cannot be listened on or advertised
   */
  static async open(options: QueueMembershipOptions): Promise<QueueMembership> {
    hostAndPort(options.listen, 0);
    if (options.advertise !== undefined) hostAndPort(options.advertise, PORTS.queueGrpc);
    const files = new IdentityFiles(QUEUE, options.data);
    const identity = new MemberIdentity({ files, ...options });
    await identity.refresh();
    const { membership } = identity;
    if (membership && options.center !== undefined) {
      const center = formatAddress(parseAddress(options.center, PORTS.centerGrpc));
      await files.writeMembership({ ...membership, center });
      await identity.refresh();
    }
    return new QueueMembership(options, identity);
  }

  /** Undefined until the queue has joined. */
  get member(): QueueMember | undefined {
    return this.#identity.membership;
  }

  /** HOST:PORT listened on; undefined before the queue has joined. */
  get address(): string | undefined {
    return this.#bound?.address;
  }

  /**
   * Listens on the network, where the queue has joined and does not listen yet: without a certificate there is only its socket.
   * @throws precondition when the address is taken
   */
  async listen(server: Pick<RpcServer, 'listen'>): Promise<void> {
    if (this.#bound || !this.member) return;
    const place = hostAndPort(this.#options.listen, PORTS.queueGrpc);
    this.#bound = await server.listen({ kind: 'tls', ...place, identity: this.#identity });
    this.#options.logger.info('the queue serves the network', {
      address: this.#bound.address,
      site: this.member.site,
      name: this.member.name,
    });
  }

  /** Keeps the certificate renewed and the center informed until the signal aborts; listens as soon as the queue has joined. */
  async run(server: Pick<RpcServer, 'listen'>, signal: AbortSignal): Promise<void> {
    try {
      await runTasks(signal, [
        (inner) => this.#lookForJoins(server, inner),
        (inner) => this.#identity.keepRenewed((request, s) => askToRenew(this.#center(), request, s), inner),
        (inner) => this.#keepKnown(inner),
      ]);
    } finally {
      this.#ended = true;
      this.#channel?.channel.close();
    }
  }

  async #lookForJoins(server: Pick<RpcServer, 'listen'>, signal: AbortSignal): Promise<void> {
    const { logger } = this.#options;
    let said = false;
    for (;;) {
      await this.#identity.refresh();
      const problem = this.#identity.problem();
      if (problem !== undefined && !said) logger.warn(problem);
      said = problem !== undefined;
      await this.listen(server);
      await sleep(this.#options.clock, LOOK_MS, signal);
    }
  }

  /** Tells the center where this queue is, again and again. */
  async #keepKnown(signal: AbortSignal): Promise<void> {
    const { clock, random, logger } = this.#options;
    const retry = new Backoff(RETRY, random);
    let said: string | undefined;
    for (;;) {
      const address = this.#advertised();
      if (address === undefined || this.#identity.problem() !== undefined) {
        await sleep(clock, LOOK_MS, signal);
        continue;
      }
      try {
        await tellAddress(this.#center(), address, { signal, timeoutMs: CALL_TIMEOUT_MS });
        if (said !== address) logger.info('the center knows where this queue is', { address });
        said = address;
        retry.reset();
      } catch (error) {
        if (signal.aborted) return;
        if (retry.attempt === 0)
          logger.warn('the center could not be told where this queue is; trying again', { error });
        await sleep(clock, retry.next(), signal);
        continue;
      }
      // A queue that joined anew is another one to the center.
      await this.#identity.pause(SIGN_OF_LIFE_MS, signal);
    }
  }

  /** @throws precondition before the queue has joined; cancelled once ended */
  #center(): Channel {
    const { clock } = this.#options;
    const address = this.member?.center;
    if (address === undefined) throw new MusterError('precondition', QUEUE.words.notJoined, { reason: 'NOT_JOINED' });
    if (this.#ended) throw new MusterError('cancelled', 'the queue is stopping');
    if (this.#channel?.address !== address) {
      this.#channel?.channel.close();
      const channel = openChannel({ address, tls: { identity: this.#identity }, clock, peer: 'the center' });
      this.#channel = { address, channel };
    }
    return this.#channel.channel;
  }

  #advertised(): string | undefined {
    const { listen } = this.#options;
    const advertise = this.#options.advertise ?? this.member?.advertise;
    const port = this.#bound?.port;
    if (port === undefined) return undefined;
    if (advertise !== undefined) return formatAddress({ kind: 'tcp', ...hostAndPort(advertise, port) });
    const { host } = hostAndPort(listen, port);
    const everywhere = host === '0.0.0.0' || host === '::';
    return formatAddress({ kind: 'tcp', host: everywhere ? hostname() : host, port });
  }
}
