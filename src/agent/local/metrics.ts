import { HEALTHS, SERVICE_STATES, type InstanceReport } from '../../model/instance.js';
import type { AgentFacts } from './facts.js';

/** One metric family in the Prometheus text format, version 0.0.4. */
interface Family {
  readonly name: string;
  readonly kind: 'gauge' | 'counter';
  readonly help: string;
  readonly samples: readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[];
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** The agent and its instances as a page for Prometheus. */
export function metricsPage(agent: AgentFacts, instances: readonly InstanceReport[]): string {
  return [...agentFamilies(agent), ...instanceFamilies(instances)].map(formatFamily).join('');
}

function agentFamilies({ version, machine, machineName, startedMs, link, certificateExpiresMs }: AgentFacts): Family[] {
  const expires: Family = {
    name: 'muster_agent_certificate_expiry_seconds',
    kind: 'gauge',
    help: "End of the machine's certificate, Unix time.",
    samples: [[{}, (certificateExpiresMs ?? 0) / 1000]],
  };
  return [
    {
      name: 'muster_agent_info',
      kind: 'gauge',
      help: 'Always 1; says which agent this is.',
      samples: [[{ version, machine, machine_name: machineName }, 1]],
    },
    {
      name: 'muster_agent_connected',
      kind: 'gauge',
      help: 'Whether a session with the center is live.',
      samples: [[{}, link.at === 'live' ? 1 : 0]],
    },
    {
      name: 'muster_agent_start_time_seconds',
      kind: 'gauge',
      help: 'Start of the agent, Unix time.',
      samples: [[{}, startedMs / 1000]],
    },
    {
      name: 'muster_agent_resident_memory_bytes',
      kind: 'gauge',
      help: "The agent's resident memory.",
      samples: [[{}, process.memoryUsage.rss()]],
    },
    ...(certificateExpiresMs === undefined ? [] : [expires]),
  ];
}

function instanceFamilies(instances: readonly InstanceReport[]): Family[] {
  return [
    {
      name: 'muster_instance_state',
      kind: 'gauge',
      help: '1 for the state the instance is in, 0 for the others.',
      samples: instances.flatMap(({ service, state }) =>
        SERVICE_STATES.map((one) => [{ service, state: one }, one === state ? 1 : 0] as const),
      ),
    },
    {
      name: 'muster_instance_health',
      kind: 'gauge',
      help: '1 for what the checks of the instance say, 0 for the others.',
      samples: instances.flatMap(({ service, health }) =>
        HEALTHS.map((one) => [{ service, health: one }, one === health ? 1 : 0] as const),
      ),
    },
    {
      name: 'muster_instance_wanted',
      kind: 'gauge',
      help: 'Whether the instance is wanted to run.',
      samples: instances.map(({ service, wanted }) => [{ service }, wanted ? 1 : 0] as const),
    },
    {
      name: 'muster_instance_deploying',
      kind: 'gauge',
      help: '1 from the stop of a deploy or rollback to the end of its verify: no time for alarms.',
      samples: instances.map(({ service, deploying }) => [{ service }, deploying ? 1 : 0] as const),
    },
    {
      name: 'muster_instance_restarts',
      kind: 'gauge',
      help: 'Starts since the instance was last stopped, the first not counted.',
      samples: instances.map(({ service, restarts }) => [{ service }, restarts] as const),
    },
  ];
}

function formatFamily({ name, kind, help, samples }: Family): string {
  const lines = samples.map(([labels, value]) => `${name}${formatLabels(labels)} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${kind}\n${lines.join('')}`;
}

function formatLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escape(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escape(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
