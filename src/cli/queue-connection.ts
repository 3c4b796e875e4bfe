import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { HealthService } from '../../generated/grpc/health/v1/health.js';
import { CenterService } from '../../generated/muster/v1/center.js';
import { QueueService } from '../../generated/muster/v1/queue.js';
import type { Queue } from '../client/queue/queue.js';
import { isCode, MusterError } from '../kit/errors.js';
import { didYouMean } from '../kit/suggest.js';
import { defaultDataDirectory, queueSocket } from '../model/places.js';
import { createClient, openChannel, type Channel } from '../rpc/client.js';
import type { IdentitySource } from '../rpc/identity.js';
import type { Client } from '../rpc/types.js';
import { centerTarget } from './context.js';
import type { GlobalOptions, Io } from './io.js';

/** Which queue a command talks to: written once, here. */

export interface QueueGlobalOptions extends GlobalOptions {
  readonly queue?: string;
}

/** A queue's address, and, on the network, who calls. */
export interface QueuePlace {
  /** `unix:/path` or `host:port`. */
  readonly address: string;
  readonly identity?: IdentitySource;
}

/** The option that names the queue, for each command that talks to one. */
export function addQueueOption(command: Command): Command {
  return command.addOption(
    new Option(
      '--queue <queue>',
      "its socket (unix:PATH), HOST:PORT, or its name; default: MUSTER_QUEUE, this machine's own queue, the site's only queue",
    ),
  );
}

function isSocket(text: string): boolean {
  return text.startsWith('unix:') || text.includes('/');
}

/** @throws invalid */
function socketAddress(text: string): string {
  const path = text.replace(/^unix:(\/\/)?/, '');
  if (path === '') throw new MusterError('invalid', `"${text}" names no socket: write unix:PATH`, USAGE);
  return `unix:${resolve(path)}`;
}

/** The socket of a queue that runs on this machine: the machine's own, or of this user's `muster dev`. */
function localSocket(io: Io): string | undefined {
  return [
    queueSocket(defaultDataDirectory('queue', io.places)),
    queueSocket(join(defaultDataDirectory('dev', io.places), 'queue')),
  ].find((path) => existsSync(path));
}

/**
 * The queue a command talks to: --queue, MUSTER_QUEUE, the socket of this machine's own queue or of `muster dev` (unless a context is named),
 * the one the center knows; the first that is given or there.
 * @throws not_found, precondition with what to do next
 */
export async function queuePlace(io: Io, options: QueueGlobalOptions): Promise<QueuePlace> {
  const named = options.queue ?? io.env['MUSTER_QUEUE'] ?? '';
  if (isSocket(named)) return { address: socketAddress(named) };
  const elsewhere = options.context !== undefined || options.socket !== undefined;
  const socket = named === '' && !elsewhere ? localSocket(io) : undefined;
  if (socket !== undefined) return { address: `unix:${socket}` };
  return siteQueue(io, options, named);
}

/** A queue on the network, as the operator of the context. */
async function siteQueue(io: Io, options: GlobalOptions, named: string): Promise<QueuePlace> {
  const target = await someCenter(io, options, named);
  if (target.kind === 'socket') throw noCertificate(target.path);
  const { openAs } = await import('./operator-identity.js');
  const { channel, identity } = await openAs(io, target);
  try {
    return { address: named.includes(':') ? named : await addressOf(channel, named), identity };
  } finally {
    channel.close();
  }
}

async function someCenter(io: Io, options: GlobalOptions, named: string): ReturnType<typeof centerTarget> {
  try {
    return await centerTarget(io, options);
  } catch (error) {
    if (!isCode(error, 'not_found')) throw error;
    if (named !== '') throw notLoggedIn(named, error);
    throw new MusterError(
      'not_found',
      'no queue found on this machine, and no center to ask for one: start one with "muster queue" or "muster dev", name its socket with --queue unix:PATH, or log in to a site with "muster login CENTER --token TOKEN"',
      { cause: error },
    );
  }
}

function notLoggedIn(named: string, cause: unknown): MusterError {
  const what = named.includes(':') ? `${named} is on the network` : `"${named}" is a queue that only a center knows`;
  return new MusterError(
    'not_found',
    `${what}, and no center is known here: log in to its site first, with "muster login CENTER --token TOKEN", or name the queue's socket on this machine with --queue unix:PATH`,
    { cause },
  );
}

function noCertificate(path: string): MusterError {
  return new MusterError(
    'precondition',
    `the center's socket ${path} gives no certificate for a queue on the network: name the queue's own socket with --queue unix:PATH (on its machine), or log in with "muster login CENTER --token TOKEN"`,
    { reason: 'NO_CERTIFICATE' },
  );
}

async function addressOf(center: Channel, name: string): Promise<string> {
  const { queues } = await createClient(CenterService, center).listQueues({});
  const known = queues.filter(({ address }) => address !== '');
  const [only, ...others] = name === '' ? known : known.filter((queue) => queue.name === name);
  if (only && others.length === 0) return only.address;
  const names = known.map((queue) => queue.name);
  if (only)
    throw new MusterError('invalid', `the site has several queues: name one with --queue: ${names.join(', ')}`, USAGE);
  throw new MusterError(
    'not_found',
    name === '' || names.length === 0
      ? 'no queue of the site is known to its center: "muster token create --queue" prints the line that makes one'
      : `there is no queue "${name}".${didYouMean(name, names)} "muster queues" lists them.`,
  );
}

const USAGE = { reason: 'USAGE' } as const;

function channelTo({ address, identity }: QueuePlace): Channel {
  return openChannel({ address, peer: 'the queue', ...(identity ? { tls: { identity, expect: 'queue' } } : {}) });
}

/** Runs `work` with a channel to the queue. */
export async function withQueueChannel<T>(
  io: Io,
  options: QueueGlobalOptions,
  work: (channel: Channel) => Promise<T>,
): Promise<T> {
  const channel = channelTo(await queuePlace(io, options));
  try {
    return await work(channel);
  } finally {
    channel.close();
  }
}

/** Runs `work` with the queue's client. */
export function withQueue<T>(
  io: Io,
  options: QueueGlobalOptions,
  work: (queue: Client<typeof QueueService>) => Promise<T>,
): Promise<T> {
  return withQueueChannel(io, options, async (channel) => {
    try {
      return await work(createClient(QueueService, channel));
    } catch (error) {
      if (!isCode(error, 'unimplemented')) throw error;
      throw new MusterError(
        'unimplemented',
        `what answers there is no queue, or one of another version (${error.message}): name the queue's socket with --queue unix:PATH, for example of its queue.sock`,
        { cause: error },
      );
    }
  });
}

/**
 * Runs `work` with the library connected to the queue, and ends that in good order. The library waits for a queue that is away; a person is told
 * at once.
 */
export async function withQueueLibrary<T>(
  io: Io,
  options: QueueGlobalOptions,
  work: (queue: Queue) => Promise<T>,
): Promise<T> {
  const { Queue } = await import('../client/queue/queue.js');
  const place = await queuePlace(io, options);
  await assertReachable(place);
  const queue = new Queue(place, {});
  try {
    return await work(queue);
  } finally {
    await queue.close();
  }
}

async function assertReachable(place: QueuePlace): Promise<void> {
  const channel = channelTo(place);
  try {
    await createClient(HealthService, channel).check({ service: '' });
  } finally {
    channel.close();
  }
}
