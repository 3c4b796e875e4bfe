import type { Clock } from '../../kit/clock.js';
import type { Resources } from '../../model/machine.js';
import type { InstanceReport } from '../../model/instance.js';
import type { ConfigRevisions } from '../link/frames.js';
import type { LinkState } from '../link/link.js';
import type { InstanceSurroundings } from './wire.js';

/** What the agent says of itself. Times are wall-clock milliseconds. */
export interface AgentFacts {
  /** Empty before the machine has joined, as is the center. */
  readonly machine: string;
  readonly machineName: string;
  readonly center: string;
  readonly version: string;
  readonly startedMs: number;
  readonly link: LinkState;
  readonly certificateExpiresMs: number | undefined;
}

/** Asked afresh each time. */
export interface FactsSource {
  agent(): AgentFacts;
  resources(): Promise<Resources>;
  config(service: string): ConfigRevisions;
}

export function surroundingsOf(facts: FactsSource, report: InstanceReport): InstanceSurroundings {
  const { machine, machineName } = facts.agent();
  return { machine, machineName, config: facts.config(report.service) };
}

const RESOURCES_FRESH_MS = 1000;

/** Measures at most once a second, however many ask: rates over a shorter time would say nothing. */
export function recentResources(
  sampler: { sample(): Promise<Resources> },
  clock: Pick<Clock, 'monotonic'>,
): () => Promise<Resources> {
  let latest: { readonly atMs: number; readonly resources: Promise<Resources> } | undefined;
  return () => {
    const nowMs = clock.monotonic();
    if (!latest || nowMs - latest.atMs >= RESOURCES_FRESH_MS) latest = { atMs: nowMs, resources: sampler.sample() };
    return latest.resources;
  };
}
