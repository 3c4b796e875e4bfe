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
