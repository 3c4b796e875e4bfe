import type { Clock } from '../../kit/clock.js';
import type { Ping, PingTiming } from '../../model/manifest.js';
import { unreachable } from '../../kit/errors.js';
import type { Probe } from './answer.js';
import type { CheckSubject } from './checks.js';
import { execProbe } from './exec.js';
import { grpcProbe } from './grpc.js';
import { httpProbe } from './http.js';
import type { PolledCheckSpec } from './polled-check.js';
import { tcpProbe } from './tcp.js';

/** A shorter interval counts as this: checks cost the service work too. */
const EVERY_MS_MIN = 100;

/** How ports are checked where no ping says otherwise. */
const PORT_TIMING: PingTiming = { everyMs: 10_000, timeoutMs: 2000, failures: 3, successes: 1 };

export type PolledPing = Exclude<Ping, { kind: 'ttl' }>;

/** The checks of a service's declared ports: at the pace of its ping, where that has one. */
export function portChecks({ manifest: { ports, ping } }: CheckSubject): PolledCheckSpec[] {
  const timing = ping === undefined || ping.kind === 'ttl' ? PORT_TIMING : ping;
  return ports.map((port) => ({
    name: `port ${port.name}`,
    kind: 'tcp',
    probe: tcpProbe(port),
    ...paceOf(timing),
  }));
}

export function pingCheck(ping: PolledPing, subject: CheckSubject, clock: Clock): PolledCheckSpec {
  return { name: 'ping', kind: ping.kind, probe: probeOf(ping, subject, clock), ...paceOf(ping) };
}

function paceOf({
  everyMs,
  timeoutMs,
  failures,
  successes,
}: PingTiming): Omit<PolledCheckSpec, 'name' | 'kind' | 'probe'> {
  return { everyMs: Math.max(EVERY_MS_MIN, everyMs), timeoutMs, thresholds: { failures, successes } };
}

function probeOf(ping: PolledPing, subject: CheckSubject, clock: Clock): Probe {
  switch (ping.kind) {
    case 'http':
      return httpProbe(ping);
    case 'grpc':
      return grpcProbe(ping);
    case 'tcp':
      return tcpProbe(ping);
    case 'exec':
      return execProbe({ ...subject, command: ping.command }, clock);
    default:
      return unreachable(ping);
  }
}
