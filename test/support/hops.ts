import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CounterService } from '../../generated/muster/v1/counter.js';
import { ConfigService } from '../../generated/muster/v1/config.js';
import { AgentConfig } from '../../src/agent/config/agent-config.js';
import { AgentCounters } from '../../src/agent/counters/agent-counters.js';
import type { CenterAccess } from '../../src/agent/ports.js';
import { Configs } from '../../src/center/config/configs.js';
import { configHandlers } from '../../src/center/config/service.js';
import { Counters } from '../../src/center/counters/counters.js';
import { counterHandlers } from '../../src/center/counters/service.js';
import { systemClock } from '../../src/kit/clock.js';
import { silentLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import { createClient, openChannel, type Channel } from '../../src/rpc/client.js';
import { implement, RpcServer } from '../../src/rpc/server.js';
import type { Client } from '../../src/rpc/types.js';
import { openLevelStore } from '../../src/store/leveldb.js';
import { FakeFleet } from './fleet.js';

/** The center's and the agent's parts in counting and configuration, over real gRPC and disks, without the rest of them. */

export const MACHINE = { id: 'm-1', name: 'web-1', online: true };
const GRACE_MS = 200;

export interface Host {
  close(): Promise<void>;
}

export interface CenterHost extends Host {
  readonly configs: Configs;
  readonly counters: Counters;
  readonly fleet: FakeFleet;
}

/** Listens on `DIRECTORY/agent.sock` for the agent of MACHINE and on `DIRECTORY/operator.sock` for an operator. */
export async function startCenterHost(directory: string, services: readonly string[]): Promise<CenterHost> {
  await mkdir(directory, { recursive: true });
  const store = await openLevelStore({ path: join(directory, 'state'), logger: silentLogger, clock: systemClock });
  const fleet = new FakeFleet([MACHINE], services);
  const configs = await Configs.open(store, { clock: systemClock, fleet });
  const counters = await Counters.open(store, { clock: systemClock, fleet });
  const server = new RpcServer({
    services: [
      implement(
        ConfigService,
        configHandlers({
          configs,
          fleet,
          clock: systemClock,
          hasService: (machine, service) => machine === MACHINE.id && services.includes(service),
        }),
      ),
      implement(CounterService, counterHandlers(counters, systemClock)),
    ],
    authorize: () => undefined,
    logger: silentLogger,
  });
  const agent = { kind: 'agent', machine: MACHINE.id } as const;
  await server.listen({ kind: 'unix', path: join(directory, 'agent.sock'), principal: agent });
  const operator = { kind: 'operator', name: 'ann' } as const;
  await server.listen({ kind: 'unix', path: join(directory, 'operator.sock'), principal: operator });
  const close = async (): Promise<void> => {
    await server.drain(GRACE_MS);
    await store.close();
  };
  return { configs, counters, fleet, close };
}

/** A way to a center that can be taken away. */
export class FakeCenterAccess implements CenterAccess {
  readonly #channel: Channel;
  readonly #listeners = new Set<(connected: boolean) => void>();
  #connected = true;

  constructor(address: string) {
    this.#channel = openChannel({ address, peer: 'the center', connectTimeoutMs: 1_000 });
  }

  get connected(): boolean {
    return this.#connected;
  }

  channel(): Channel {
    return this.#channel;
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  connect(connected: boolean): void {
    this.#connected = connected;
    for (const listener of this.#listeners) listener(connected);
  }

  close(): void {
    this.#channel.close();
  }
}

export interface AgentHost extends Host {
  readonly config: AgentConfig;
  readonly center: FakeCenterAccess;
}

/** Listens on `DIRECTORY/SERVICE.sock` for each service and on `DIRECTORY/operator.sock`. */
export async function startAgentHost(
  directory: string,
  { center: address, services }: { readonly center: string; readonly services: readonly string[] },
): Promise<AgentHost> {
  await mkdir(directory, { recursive: true });
  const store = await openLevelStore({ path: join(directory, 'state'), logger: silentLogger, clock: systemClock });
  const center = new FakeCenterAccess(address);
  const parts = { store, center, clock: systemClock, random: systemRandom, logger: silentLogger };
  const config = await AgentConfig.open(parts);
  const counters = await AgentCounters.open(parts);
  const server = new RpcServer({
    services: [implement(ConfigService, config.handlers()), implement(CounterService, counters.handlers())],
    authorize: () => undefined,
    logger: silentLogger,
  });
  const operator = { kind: 'operator', name: 'local' } as const;
  await server.listen({ kind: 'unix', path: join(directory, 'operator.sock'), principal: operator });
  for (const service of services) {
    const principal = { kind: 'service', machine: MACHINE.id, service } as const;
    await server.listen({ kind: 'unix', path: join(directory, `${service}.sock`), principal });
  }
  const stop = new AbortController();
  const tasks = [config.run(stop.signal), counters.run(stop.signal)];
  const close = async (): Promise<void> => {
    stop.abort();
    await Promise.all(tasks);
    await server.drain(GRACE_MS);
    center.close();
    await store.close();
  };
  return { config, center, close };
}

/** What the link does after a publication: tells the agent which revision its services should have. */
export function relay(center: CenterHost, agent: AgentHost): () => void {
  return center.configs.onChange((service) => {
    agent.config.refresh(service, center.configs.revisionOf(service, MACHINE.id));
  });
}

export interface Clients {
  readonly config: Client<typeof ConfigService>;
  readonly counter: Client<typeof CounterService>;
  close(): void;
}

export function clientsAt(path: string): Clients {
  const channel = openChannel({ address: `unix:${path}` });
  const close = (): void => {
    channel.close();
  };
  return { config: createClient(ConfigService, channel), counter: createClient(CounterService, channel), close };
}
