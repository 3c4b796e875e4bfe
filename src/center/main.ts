import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { systemClock, type Clock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import { explainFullDisk, makeDirectory } from '../kit/files.js';
import type { Logger } from '../kit/logger.js';
import { aborted, runTasks } from '../kit/tasks.js';
import { PORTS, adminSocket } from '../model/places.js';
import { formatAddress, parseAddress } from '../rpc/addresses.js';
import { readDescriptors } from '../rpc/descriptor-set.js';
import { RpcServer, type Bound } from '../rpc/server.js';
import { openLevelStore } from '../store/leveldb.js';
import type { Store } from '../store/port.js';
import type { Schema } from '../store/schema.js';
import { Authority } from './access/authority.js';
import { authorize } from './access/authorize.js';
import { CenterLeaf } from './access/leaf.js';
import { joinLine } from './access/service.js';
import { BackupCopies } from './backups/copies.js';
import { openCenter, type Center } from './center.js';
import { Configs } from './config/configs.js';
import { Counters } from './counters/counters.js';
import { Archives } from './releases/archives.js';
import { centerImplementations } from './service.js';

export interface CenterMainOptions {
  /** Where the center keeps its state. */
  readonly data: string;
  /** HOST:PORT for agents and operators; port 0 takes a free one. */
  readonly listen: string;
  /** The operators' socket; default DATA/admin.sock. */
  readonly adminSocket?: string;
  /** Send agents to this center instead. */
  readonly redirect?: string;
  /** HOST:PORT that machines are told; default: this host's name and the port. */
  readonly advertise?: string;
  readonly logger: Logger;
  /** Ends the center in good order. */
  readonly signal: AbortSignal;
  readonly onReady?: (ready: CenterReady) => void | Promise<void>;
  readonly clock?: Clock;
  /** Beat of a small fleet, milliseconds. */
  readonly heartbeatMs?: number;
  /** Life of certificates, milliseconds. */
  readonly leafLifetimeMs?: number;
}

/** A center that serves. */
export interface CenterReady {
  readonly site: string;
  /** HOST:PORT it listens on. */
  readonly address: string;
  readonly port: number;
  readonly adminSocket: string;
  /** The line to paste on a machine; only while no machine has joined. */
  readonly joinCommand?: string;
}

/** Whose data it is: a directory of another process is refused. */
const CENTER_SCHEMA: Schema = { name: 'center', migrations: [] };
/** How long calls under way may take when the center stops. */
const DRAIN_MS = 5000;

/**
 * Runs a center until the signal aborts.
 * @throws precondition when an address or the data directory is taken; data_loss; unavailable when the store failed: restart it then
 */
export async function runCenter(options: CenterMainOptions): Promise<void> {
  try {
    await runOn(options);
  } catch (error) {
    throw explainFullDisk(error, options.data);
  }
}

async function runOn(options: CenterMainOptions): Promise<void> {
  const clock = options.clock ?? systemClock;
  await makeDirectory(options.data, 0o700);
  const store = await openLevelStore({
    path: join(options.data, 'state'),
    schema: CENTER_SCHEMA,
    logger: options.logger,
    clock,
  });
  try {
    await serve(options, store, clock);
  } finally {
    await store.close();
  }
}

async function serve(options: CenterMainOptions, store: Store, clock: Clock): Promise<void> {
  const { logger, leafLifetimeMs } = options;
  const authority = await Authority.open(join(options.data, 'ca'), clock, { mayMake: store.revision === 0 });
  const lifetime = leafLifetimeMs === undefined ? {} : { lifetimeMs: leafLifetimeMs };
  const leaf = await CenterLeaf.make({ authority, clock, logger, ...lifetime });
  const archives = await Archives.open({ directory: join(resolve(options.data), 'artifacts'), clock, logger });
  const copies = await BackupCopies.open({ directory: join(resolve(options.data), 'backups'), clock, logger });
  const listening: Listening = { server: undefined, network: undefined };
  const center = await openCenter({
    ...options,
    store,
    authority,
    archives,
    copies,
    clock,
    advertise: () => advertised(options, listening.network?.port ?? 0),
    config: (fleet) => Configs.open(store, { clock, fleet }),
    endCalls: (matches, reason) => listening.server?.endCalls(matches, reason),
    forgetRemoved: () => forgetRemoved(),
  });
  const counters = await Counters.open(store, { clock, fleet: center.directory });
  const forgetRemoved = async (): Promise<void> => {
    try {
      await center.config.forgetRemoved();
      await counters.forgetRemoved();
    } catch (error) {
      logger.error('could not clear what is kept of removed machines; it is tried again at the next start', { error });
    }
  };
  await center.resume();
  const server = new RpcServer({
    services: centerImplementations({ parts: center.parts, configs: center.config, counters, clock }),
    authorize: (principal, method) => {
      center.assertValid(principal);
      authorize(principal, method);
    },
    logger,
    clock,
    descriptors: await readDescriptors(),
  });
  listening.server = server;
  try {
    const socket = options.adminSocket ?? adminSocket(options.data);
    await server.listen({ kind: 'unix', path: socket, principal: { kind: 'operator', name: 'local' } });
    const network = await server.listen({ kind: 'tls', ...tcp(options.listen), identity: leaf });
    listening.network = network;
    const place = { site: authority.site, address: network.address, port: network.port, adminSocket: socket };
    logger.info('the center serves', place);
    await options.onReady?.(await readiness(options, center, place));
    await runTasks(options.signal, [
      ...center.tasks,
      (signal) => leaf.run(signal),
      (signal) => failWith(store, signal),
    ]);
  } finally {
    const reason = new MusterError('unavailable', 'the center is stopping: connect again in a moment', {
      reason: 'STOPPING',
    });
    await center.close(reason);
    await server.drain(DRAIN_MS);
  }
}

/** What exists only once the center listens, for parts made before. */
interface Listening {
  server: RpcServer | undefined;
  network: Bound | undefined;
}

/** A store that failed cannot be trusted any more: the process must end, so that it is opened anew. */
async function failWith(store: Store, signal: AbortSignal): Promise<void> {
  const failure = await Promise.race([store.failed, aborted(signal)]);
  if (failure) throw failure;
}

function tcp(listen: string): { host: string; port: number } {
  const address = parseAddress(listen, PORTS.centerGrpc);
  if (address.kind === 'tcp') return { host: address.host, port: address.port };
  throw new MusterError(
    'invalid',
    `cannot listen on "${listen}": write it as HOST:PORT, for example 0.0.0.0:${PORTS.centerGrpc}`,
  );
}

function advertised(options: CenterMainOptions, port: number): string {
  if (options.advertise !== undefined) return formatAddress(parseAddress(options.advertise, port));
  const { host } = tcp(options.listen);
  const everywhere = host === '0.0.0.0' || host === '::';
  return formatAddress({ kind: 'tcp', host: everywhere ? hostname() : host, port });
}

/** At first, while no machine has joined, with the line to paste on one. */
async function readiness(
  options: CenterMainOptions,
  { machines, parts }: Center,
  place: CenterReady,
): Promise<CenterReady> {
  if (machines.size > 0) return place;
  const order = { kind: 'agent', lifetimeMs: undefined, name: '', labels: {}, createdBy: 'the center' } as const;
  const { text } = await parts.tokens.create(order);
  const details = { token: text.reveal(), name: '' };
  return { ...place, joinCommand: joinLine('agent', advertised(options, place.port), details) };
}
