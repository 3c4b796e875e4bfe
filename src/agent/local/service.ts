import {
  AgentService,
  type GetAgentResponse,
  type TailLocalLogRequest,
  type WatchLocalServicesResponse,
} from '../../../generated/muster/v1/agent.js';
import { ConfigService } from '../../../generated/muster/v1/config.js';
import { CounterService } from '../../../generated/muster/v1/counter.js';
import type { Health as WireHealth, Instance } from '../../../generated/muster/v1/types.js';
import { CoalescingQueue } from '../../kit/coalescing.js';
import { MusterError } from '../../kit/errors.js';
import type { Action, InstanceReport } from '../../model/instance.js';
import type { DeployReport } from '../../model/release.js';
import type { Principal } from '../../rpc/principal.js';
import { implement, type Implementation } from '../../rpc/server.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import { fromWireHealth } from '../../wire/instance.js';
import { toWireResources } from '../../wire/machine.js';
import { toWireDeployReport } from '../../wire/release.js';
import { toDate, toDuration } from '../../wire/time.js';
import type { AgentBackups } from '../backups/backups.js';
import { TAIL_LINES_DEFAULT, TAIL_LINES_MAX, toWireLine, type TailLog } from '../link/tails.js';
import type { ServicesChange } from '../ports.js';
import type { KnownQueues } from '../queues/queues.js';
import { toWireQueue } from '../queues/wire.js';
import type { LocalApi } from './api.js';
import type { ServiceCertificates } from './certificates.js';
import { surroundingsOf, type FactsSource } from './facts.js';
import { searchLocalLogs, type LocalSearchOptions } from './search-service.js';
import { toLocalBackup, toLocalInstance } from './wire.js';

export interface LocalServiceOptions extends LocalSearchOptions {
  readonly api: LocalApi;
  readonly backups: Pick<AgentBackups, 'now' | 'list'>;
  readonly facts: FactsSource;
  readonly rollBack: RollBack;
  readonly tail: TailLog;
  readonly certificates: ServiceCertificates;
  readonly queues: Pick<KnownQueues, 'get'>;
}

/** To a release on this machine; empty: the one verified before. @throws precondition when there is none, or it failed; conflict */
export type RollBack = (service: string, version: string) => Promise<DeployReport>;

/** Services a watcher may be behind by; beyond it the watch ends with "exhausted". */
export const WATCH_SERVICES_MAX = 4000;

/** Everything that is served on this machine; configuration and counters are other parts' own. */
export function localServices(
  options: LocalServiceOptions,
  config: Handlers<typeof ConfigService>,
  counter: Handlers<typeof CounterService>,
): readonly Implementation[] {
  return [
    implement(AgentService, agentHandlers(options)),
    implement(ConfigService, config),
    implement(CounterService, counter),
  ];
}

/** The contract muster.v1.Agent over LocalApi. */
function agentHandlers(options: LocalServiceOptions): Handlers<typeof AgentService> {
  const { api, backups, facts, certificates, queues } = options;
  const shown = (report: InstanceReport): Instance => toLocalInstance(report, surroundingsOf(facts, report));
  const act =
    (action: Action) =>
    async ({ service }: { service: string }, { principal }: CallContext): Promise<Instance> =>
      shown(await api.act(principal, action, service));
  return {
    getAgent: () => describeAgent(facts),
    listLocalServices: (_request, { principal }) => {
      const { instances, broken } = api.list(principal);
      return Promise.resolve({
        instances: instances.map(shown),
        broken: broken.map(({ file, errors }) => ({ file, errors: [...errors] })),
      });
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- a failure must reject, not throw
    getLocalService: async ({ service }, { principal }) => shown(api.get(principal, service)),
    watchLocalServices: (_request, context) => watchServices(api, shown, context),
    startService: act('START'),
    stopService: act('STOP'),
    restartService: act('RESTART'),
    tailLocalLog: (request, context) => tailLog(options, request, context),
    searchLocalLogs: (request, context) => searchLocalLogs(options, request, context),
    // eslint-disable-next-line @typescript-eslint/require-await -- as above
    reportHealth: async ({ service, health, output }, { principal }) => {
      const ttlMs = api.reportHealth(principal, service, { health: reported(health), output });
      return { ttl: toDuration(ttlMs) };
    },
    getCertificate: async (_request, { principal }) => {
      const { certificate, ca, privateKey, expiresMs } = await certificates.get(api.get(principal, '').service);
      return { certificate, ca, privateKey: privateKey.reveal(), expires: toDate(expiresMs) };
    },
    rollBackService: async ({ service, version }, { principal }) => {
      const { service: name } = api.get(principal, service);
      const report = await options.rollBack(name, version);
      return { instance: shown(api.get(principal, name)), report: toWireDeployReport(report) };
    },
    backUpService: async ({ service }, { principal }) =>
      toLocalBackup(await backups.now(api.get(principal, service).service), facts.agent()),
    listLocalBackups: (request, { principal }) => {
      // Of a service that is not there any more, too.
      const all = principal.kind !== 'service' && request.service === '';
      const service = all ? undefined : api.nameFor(principal, request.service);
      return Promise.resolve({ backups: backups.list(service).map((backup) => toLocalBackup(backup, facts.agent())) });
    },
    getQueues: async () => {
      const { queues: known, stale } = await queues.get();
      return { queues: known.map(toWireQueue), stale };
    },
  };
}

async function describeAgent(facts: FactsSource): Promise<GetAgentResponse> {
  const { machine, machineName, version, startedMs, center, link, certificateExpiresMs } = facts.agent();
  return {
    machine,
    machineName,
    agentVersion: version,
    started: toDate(startedMs),
    pid: process.pid,
    center,
    connected: link.at === 'live',
    since: toDate(link.sinceMs),
    lastError: link.at === 'live' ? '' : link.reason,
    resources: toWireResources(await facts.resources()),
    certificateExpires: toDate(certificateExpiresMs),
  };
}

/** First all, then the newest of each service that changed; one that is slow to read gets fewer steps, never an old end. */
async function* watchServices(
  api: LocalApi,
  shown: (report: InstanceReport) => Instance,
  { principal, signal }: CallContext,
): AsyncGenerator<WatchLocalServicesResponse> {
  const changes = new CoalescingQueue<ServicesChange>(WATCH_SERVICES_MAX);
  const stop = api.onChange(principal, (change) => {
    if (changes.put(change.service, change)) return;
    changes.close(new MusterError('exhausted', `more than ${WATCH_SERVICES_MAX} services changed unread: watch again`));
  });
  const end = (): void => {
    changes.close();
  };
  signal.addEventListener('abort', end);
  try {
    yield { snapshot: true, instances: api.list(principal).instances.map(shown), removed: [] };
    for await (const { service, report } of changes) {
      yield report
        ? { snapshot: false, instances: [shown(report)], removed: [] }
        : { snapshot: false, instances: [], removed: [service] };
    }
  } finally {
    signal.removeEventListener('abort', end);
    stop();
  }
}

async function* tailLog(
  { api, facts, tail }: LocalServiceOptions,
  request: TailLocalLogRequest,
  { principal, signal }: { principal: Principal; signal: AbortSignal },
) {
  const { service } = api.get(principal, request.service);
  const lines = Math.min(request.lines, TAIL_LINES_MAX) || TAIL_LINES_DEFAULT;
  const { machineName } = facts.agent();
  const { follow, position, file } = request;
  for await (const batch of tail({ service, lines, follow, position, file }, signal)) {
    for (const line of batch) yield toWireLine(line, service, machineName);
  }
}

/** @throws invalid */
function reported(wire: WireHealth): 'PASSING' | 'WARNING' | 'CRITICAL' {
  const health = fromWireHealth(wire);
  if (health !== 'UNKNOWN') return health;
  throw new MusterError('invalid', 'say how the service is: HEALTH_PASSING, HEALTH_WARNING or HEALTH_CRITICAL', {
    fields: [{ field: 'health', description: 'must be PASSING, WARNING or CRITICAL' }],
  });
}
