import { sleep, type Clock } from '../../kit/clock.js';
import type { Resources } from '../../model/machine.js';
import type { InstanceReport } from '../../model/instance.js';
import { VERSION } from '../../model/version.js';
import type { MachineIdentity } from '../identity/machine.js';
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
/** Rates over less say nothing: the first answer waits until so much has passed since the agent began to measure. */
const RATES_SPAN_MS = 500;

/**
 * Measures once now, so that already the first answer has rates, and then at most once a second, however many ask: rates over a shorter
 * time would say nothing.
 */
export function recentResources(sampler: { sample(): Promise<Resources> }, clock: Clock): () => Promise<Resources> {
  const begunMs = clock.monotonic();
  const begun = sampler.sample();
  let latest: { readonly atMs: number; readonly resources: Promise<Resources> } | undefined;
  const measure = async (waitMs: number): Promise<Resources> => {
    await begun;
    if (waitMs > 0) await sleep(clock, waitMs);
    return sampler.sample();
  };
  return () => {
    const nowMs = clock.monotonic();
    if (!latest || nowMs - latest.atMs >= RESOURCES_FRESH_MS) {
      const waitMs = Math.max(0, begunMs + RATES_SPAN_MS - nowMs);
      latest = { atMs: nowMs + waitMs, resources: measure(waitMs) };
    }
    return latest.resources;
  };
}

export interface FactsParts extends Pick<FactsSource, 'resources' | 'config'> {
  readonly clock: Clock;
  readonly identity: Pick<MachineIdentity, 'membership' | 'expiresMs'>;
  readonly link: { readonly state: LinkState };
}

/** Of an agent that has just started. */
export function factsOf({ clock, identity, link, resources, config }: FactsParts): FactsSource {
  const startedMs = clock.now();
  return {
    agent: () => ({
      machine: identity.membership?.machine ?? '',
      machineName: identity.membership?.name ?? '',
      center: identity.membership?.center ?? '',
      version: VERSION,
      startedMs,
      link: link.state,
      certificateExpiresMs: identity.expiresMs,
    }),
    resources,
    config,
  };
}
