import type { CenterService, WatchAlertsResponse } from '../../../generated/muster/v1/center.js';
import type { Alert } from '../../../generated/muster/v1/types.js';
import type { Handlers } from '../../rpc/types.js';
import { toDate } from '../../wire/time.js';
import { watchValues } from '../changes.js';
import { pageOf } from '../../model/paging.js';
import type { AlertRecord, Alerts } from './alerts.js';

export type AlertHandlers = Pick<Handlers<typeof CenterService>, 'listAlerts' | 'watchAlerts'>;

const ALERTS_PER_FRAME = 500;
/** Digits of a time in a page token, so that text order is time order. */
const TIME_DIGITS = 15;

export function toWireAlert(alert: AlertRecord): Alert {
  return {
    id: alert.id,
    kind: alert.kind,
    severity: `SEVERITY_${alert.severity}`,
    machine: alert.machine,
    machineName: alert.machineName,
    service: alert.service,
    check: alert.check,
    message: alert.message,
    raised: toDate(alert.raisedMs),
    cleared: toDate(alert.clearedMs),
    unknownSince: toDate(alert.unknownSinceMs),
  };
}

/** Alerts: what is wrong, and what was. */
export function alertHandlers(alerts: Alerts): AlertHandlers {
  return {
    listAlerts: (request) => {
      const page = pageOf(
        request.includeCleared ? alerts.list() : alerts.open(),
        { size: request.pageSize, token: request.pageToken },
        { keyOf: (one) => `${String(one.raisedMs).padStart(TIME_DIGITS, '0')} ${one.id}`, reverse: true },
      );
      return Promise.resolve({ alerts: page.items.map(toWireAlert), nextPageToken: page.nextToken });
    },
    watchAlerts: async function* (_request, { signal }): AsyncGenerator<WatchAlertsResponse> {
      const source = {
        changes: alerts.changes,
        ids: () => alerts.open().map(({ id }) => id),
        get: (id: string) => alerts.get(id),
      };
      for await (const { snapshot, values } of watchValues(source, { signal, batch: ALERTS_PER_FRAME })) {
        yield { snapshot, alerts: values.map(toWireAlert) };
      }
    },
  };
}
