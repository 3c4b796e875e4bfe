import type { CenterService } from '../../generated/muster/v1/center.js';
import type { Handlers } from '../rpc/types.js';
import { toDate } from '../wire/time.js';
import type { Alerts } from './alerts/alerts.js';
import { toWireAlert } from './alerts/service.js';
import type { Instances } from './fleet/instances.js';
import type { Machines } from './fleet/machines.js';

export type StatusHandlers = Pick<Handlers<typeof CenterService>, 'getStatus'>;

export interface StatusParts {
  readonly site: string;
  readonly version: string;
  readonly startedMs: number;
  readonly caExpiresMs: number;
  readonly machines: Machines;
  readonly instances: Instances;
  readonly alerts: Alerts;
  /** Why nothing can be stored now; empty when it can. */
  readonly storageProblem: () => Promise<string>;
}

/** Alerts named in one answer; ListAlerts has them all. */
const ALERTS_MAX = 200;

/** Is everything well, in one answer. */
export function statusHandlers(parts: StatusParts): StatusHandlers {
  const { machines, instances, alerts } = parts;
  return {
    getStatus: async () => {
      const all = instances.list();
      const known = all.filter(({ unknownSinceMs }) => unknownSinceMs === undefined);
      return {
        site: parts.site,
        centerVersion: parts.version,
        started: toDate(parts.startedMs),
        machines: machines.size,
        machinesOnline: machines.online,
        instances: all.length,
        instancesRunning: known.filter(({ report }) => report.state === 'RUNNING').length,
        instancesUnknown: all.length - known.length,
        instancesWanted: all.filter(({ report }) => report.wanted).length,
        alerts: alerts.open().slice(-ALERTS_MAX).map(toWireAlert),
        caExpires: toDate(parts.caExpiresMs),
        storageProblem: await parts.storageProblem(),
      };
    },
  };
}
