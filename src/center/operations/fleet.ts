import type { Instances } from '../fleet/instances.js';
import { instanceId } from '../fleet/instances.js';
import type { Machine, Machines } from '../fleet/machines.js';
import type { Candidate, TargetFleet } from './targets.js';

export interface FleetSources {
  readonly machines: Machines;
  readonly instances: Instances;
  /** Whether the machine shall have the service, though it has not told of it yet. */
  readonly isAssigned: (machine: string, service: string) => boolean;
  readonly serviceNames: () => readonly string[];
}

/** The fleet as operations choose their targets from it. */
export function targetFleet({ machines, instances, isAssigned, serviceNames }: FleetSources): TargetFleet {
  const anyOf = (machine: Machine, service: string): Candidate => {
    const { id, name, labels, agentVersion, capabilities } = machine.record;
    const instance = instances.get(instanceId(id, service));
    const report = instance?.unknownSinceMs === undefined ? instance?.report : undefined;
    return {
      id,
      name,
      labels,
      online: machine.online,
      agentVersion,
      capabilities,
      state: report?.state,
      health: report?.health,
      report,
      absent: !instance && !isAssigned(id, service),
    };
  };
  const candidateOf = (machine: Machine, service: string): Candidate | undefined => {
    const candidate = anyOf(machine, service);
    return candidate.absent === true ? undefined : candidate;
  };
  return {
    candidates: (service) => machines.list().flatMap((machine) => candidateOf(machine, service) ?? []),
    candidate: (id, service) => {
      const machine = machines.get(id);
      return machine && candidateOf(machine, service);
    },
    anywhere: (service) => machines.list().map((machine) => anyOf(machine, service)),
    somewhere: (id, service) => {
      const machine = machines.get(id);
      return machine && anyOf(machine, service);
    },
    serviceNames,
  };
}
