import type { ReleaseRef } from '../../model/release.js';
import type { InstanceRecord } from '../fleet/instances.js';
import { unitId } from './release.js';

/** What the machines run from and hold, by their last reports: those of machines that are away too. */
export class Usage {
  /** Ids of machines by digest of the release. */
  readonly #running = new Map<string, Set<string>>();
  readonly #holding = new Map<string, Set<string>>();
  /** Ids of machines by module and version, of releases that they run from or hold. */
  readonly #modules = new Map<string, Set<string>>();

  constructor(instances: Iterable<Pick<InstanceRecord, 'machine' | 'report'>>) {
    for (const { machine, report } of instances) {
      if (report.release) this.#note(this.#running, report.release.ref, machine);
      for (const held of report.heldReleases ?? []) this.#note(this.#holding, held, machine);
    }
  }

  /** Ids of machines with a service that runs from it. */
  running(digest: string): readonly string[] {
    return [...(this.#running.get(digest) ?? [])];
  }

  /** Ids of machines that hold it to go back to, and do not run from it. */
  holding(digest: string): readonly string[] {
    const running = this.#running.get(digest);
    return [...(this.#holding.get(digest) ?? [])].filter((machine) => running?.has(machine) !== true);
  }

  /** Ids of machines with a release, running or held, that pins it. */
  havingModule(name: string, version: string): readonly string[] {
    return [...(this.#modules.get(unitId(name, version)) ?? [])];
  }

  #note(into: Map<string, Set<string>>, { digest, modules }: ReleaseRef, machine: string): void {
    add(into, digest, machine);
    for (const { name, version } of modules) add(this.#modules, unitId(name, version), machine);
  }
}

function add(map: Map<string, Set<string>>, key: string, machine: string): void {
  const machines = map.get(key) ?? new Set();
  map.set(key, machines.add(machine));
}
