import { chmod, mkdir } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { AgentService } from '../../generated/muster/v1/agent.js';
import { ConfigService } from '../../generated/muster/v1/config.js';
import { CounterService } from '../../generated/muster/v1/counter.js';
import { authorizeLocal } from '../../src/agent/local/access.js';
import { LocalApi } from '../../src/agent/local/api.js';
import { ServiceCertificates, type ServiceCertificatesOptions } from '../../src/agent/local/certificates.js';
import type { AgentFacts, FactsSource } from '../../src/agent/local/facts.js';
import { localHttp } from '../../src/agent/local/http.js';
import { listenLocally, type LocalListening } from '../../src/agent/local/listening.js';
import { LocalSearchSlots } from '../../src/agent/local/search-slots.js';
import { localServices, type LocalServiceOptions, type RollBack } from '../../src/agent/local/service.js';
import type { SearchLogs } from '../../src/agent/link/searches.js';
import type { TailLog } from '../../src/agent/link/tails.js';
import { ServiceSockets } from '../../src/agent/sockets/service-sockets.js';
import { systemClock } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { createClient, openChannel, type ChannelOptions } from '../../src/rpc/client.js';
import { RpcServer } from '../../src/rpc/server.js';
import type { Client, Definition, Handlers } from '../../src/rpc/types.js';
import { FakeServices } from './fake-services.js';
import { RESOURCES, temporaryData } from './linked-agent.js';

/** The agent's local API over real sockets, with fake services behind it. */

export const FACTS: AgentFacts = {
  machine: 'm-1',
  machineName: 'web-1',
  center: 'center.example:7400',
  version: '0.1.0',
  startedMs: 1_700_000_000_000,
  link: { at: 'offline', sinceMs: 1_700_000_000_000, reason: 'the center is away' },
  certificateExpiresMs: 1_800_000_000_000,
};

export interface LocalAgent {
  readonly data: string;
  readonly services: FakeServices;
  readonly server: RpcServer;
  readonly sockets: ServiceSockets;
  readonly listening: LocalListening;
  /** A client that is closed after the test. */
  readonly client: <D extends Definition>(definition: D, options: ChannelOptions) => Client<D>;
  readonly operator: () => Client<typeof AgentService>;
}

export interface LocalAgentOptions {
  readonly tail?: TailLog;
  readonly search?: SearchLogs;
  readonly sign?: ServiceCertificatesOptions['sign'];
  readonly backups?: LocalServiceOptions['backups'];
}

function unimplemented<D extends Definition>(definition: D): Handlers<D> {
  const refuse = (): Promise<never> => Promise.reject(new MusterError('unimplemented', 'ask the center'));
  const handlers: Partial<Handlers<D>> = {};
  for (const name of Object.keys(definition)) Reflect.set(handlers, name, refuse);
  return handlers as Handlers<D>;
}

const noRollback: RollBack = (service) =>
  Promise.reject(new MusterError('precondition', `there is nothing to roll ${service} back to`));

/** Opens everything; it is closed after the test. */
export async function localAgent(t: TestContext, options: LocalAgentOptions = {}): Promise<LocalAgent> {
  const data = await temporaryData(t);
  await mkdir(join(data, 'run', 'services'), { recursive: true });
  for (const path of ['', 'run', 'run/services']) await chmod(join(data, path), 0o711);
  const services = new FakeServices('orders', 'web');
  const api = new LocalApi(services);
  const facts: FactsSource = {
    agent: () => FACTS,
    resources: () => Promise.resolve(RESOURCES),
    config: () => ({ held: 3, applied: 2 }),
  };
  const { sign = () => Promise.reject(new MusterError('unavailable', 'the center is away')), tail = noTail } = options;
  const { search = noSearch } = options;
  const searching = { search, localSearchSlots: new LocalSearchSlots(), clock: systemClock };
  const queues = { get: () => Promise.resolve({ queues: [], stale: true }) };
  const certificates = new ServiceCertificates({ sign, clock: systemClock });
  const { backups = noBackups } = options;
  const server = new RpcServer({
    services: localServices(
      { api, backups, rollBack: noRollback, facts, tail, ...searching, certificates, queues },
      unimplemented(ConfigService),
      unimplemented(CounterService),
    ),
    authorize: authorizeLocal,
    logger: silentLogger,
    http: localHttp({ api, facts }),
  });
  t.after(() => server.drain(0));
  const listening = await listenLocally(server, { data, loopbackGrpc: 0, loopbackHttp: 0, logger: silentLogger });
  const client = <D extends Definition>(definition: D, channelOptions: ChannelOptions): Client<D> => {
    const channel = openChannel(channelOptions);
    t.after(() => {
      channel.close();
    });
    return createClient(definition, channel);
  };
  return {
    data,
    services,
    server,
    listening,
    client,
    sockets: new ServiceSockets({ data, server, machine: () => 'm-1', logger: silentLogger }),
    operator: () => client(AgentService, { address: `unix:${listening.socket}` }),
  };
}

const noTail: TailLog = () => {
  throw new MusterError('not_found', 'there is no log yet');
};

const noBackups: LocalServiceOptions['backups'] = {
  now: () => Promise.reject(new MusterError('precondition', 'there is no policy')),
  list: () => [],
};

const noSearch: SearchLogs = () => Promise.reject(new MusterError('not_found', 'there is no log yet'));

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

export interface HttpQuestion {
  readonly socketPath?: string;
  readonly port?: number;
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One HTTP request over a socket file or to a port of this machine. */
export function http({ path, method = 'GET', headers = {}, ...where }: HttpQuestion): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request({ ...where, host: 'localhost', path, method, headers, agent: false }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}
