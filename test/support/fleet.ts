import type { FleetDirectory, InstanceFact, MachineName } from '../../src/center/ports.js';
import { MusterError } from '../../src/kit/errors.js';
import { didYouMean } from '../../src/kit/suggest.js';

/** A fleet as tests say it is. */
export class FakeFleet implements FleetDirectory {
  readonly machines: MachineName[];
  readonly services: string[];
  readonly facts: InstanceFact[] = [];

  constructor(machines: readonly MachineName[] = [], services: readonly string[] = []) {
    this.machines = [...machines];
    this.services = [...services];
  }

  machine(idOrName: string): MachineName {
    const found = this.machines.find(({ id, name }) => id === idOrName || name === idOrName);
    if (found) return found;
    const names = this.machines.map(({ name }) => name);
    throw new MusterError('not_found', `there is no machine "${idOrName}".${didYouMean(idOrName, names)}`);
  }

  findMachine(id: string): MachineName | undefined {
    return this.machines.find((machine) => machine.id === id);
  }

  instancesOf(service: string): readonly InstanceFact[] {
    return this.facts.filter((fact) => fact.service === service);
  }

  serviceNames(): readonly string[] {
    return this.services;
  }
}
