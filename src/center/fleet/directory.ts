import type { FleetDirectory, InstanceFact, MachineName } from '../ports.js';
import type { Instances } from './instances.js';
import type { Machine, Machines } from './machines.js';

function nameOf(machine: Machine): MachineName {
  return { id: machine.record.id, name: machine.record.name, online: machine.online };
}

/** What the other parts of the center may know of the fleet. */
export class Directory implements FleetDirectory {
  readonly #machines: Machines;
  readonly #instances: Instances;
  readonly #defined: () => Iterable<string>;

  /** `defined`: names of the services that have a definition. */
  constructor(machines: Machines, instances: Instances, defined: () => Iterable<string>) {
    this.#machines = machines;
    this.#instances = instances;
    this.#defined = defined;
  }

  machine(idOrName: string): MachineName {
    return nameOf(this.#machines.require(idOrName));
  }

  findMachine(id: string): MachineName | undefined {
    const machine = this.#machines.get(id);
    return machine && nameOf(machine);
  }

  instancesOf(service: string): readonly InstanceFact[] {
    return this.#instances.list().flatMap((instance) => {
      const machine = this.findMachine(instance.machine);
      if (!machine || instance.report.service !== service) return [];
      return [{ machine, service, configHeld: instance.configHeld, configApplied: instance.configApplied }];
    });
  }

  serviceNames(): readonly string[] {
    return [...new Set([...this.#defined(), ...this.#instances.serviceNames()])].sort();
  }
}
