import type { Manifest } from '../../model/manifest.js';
import type { Heard } from '../ports.js';
import type { ServiceParts } from './parts.js';
import { withManifest, type InstanceRecord } from './records.js';
import { definitionOf } from './sources.js';

export interface Assignment {
  readonly manifest: Manifest;
  readonly manifestText: string;
  readonly generation: number;
}

/**
 * What the center assigned. An assignment of a service that is run from a release, or held by a deploy, is stored and not used: it is when the
 * service is let go and is run from no release.
 */
export class AssignedServices {
  readonly #options: ServiceParts;
  /** Who asked last what becomes of a service's assignment. */
  readonly #heard = new Map<string, Heard>();

  constructor(options: ServiceParts) {
    this.#options = options;
  }

  generations(): ReadonlyMap<string, number> {
    const held = new Map<string, number>();
    for (const [service, { assigned }] of this.#options.records.all())
      if (assigned) held.set(service, assigned.generation);
    return held;
  }

  async assign(assignment: Assignment, heard: Heard): Promise<void> {
    const { ready, mutations, retirements, records } = this.#options;
    const service = assignment.manifest.name;
    await ready;
    await mutations.run(service, async () => {
      await retirements.cleared(service);
      if (assignment.generation > (records.get(service)?.assigned?.generation ?? 0)) await this.#take(assignment);
      this.#heard.set(service, heard);
      this.#answer(service);
    });
  }

  async unassign(service: string, generation: number, heard: Heard): Promise<void> {
    const { ready, mutations, records } = this.#options;
    await ready;
    await mutations.run(service, async () => {
      const assigned = records.get(service)?.assigned;
      this.#heard.delete(service);
      if (!assigned || assigned.generation > generation) heard(undefined);
      else await this.#end(service, heard);
    });
  }

  /** Does what was put off while a deploy held the service. Call in its turn among the mutations. */
  async settle(service: string): Promise<void> {
    const { records, holds } = this.#options;
    const record = records.get(service);
    const assigned = record?.assigned;
    if (!assigned || holds.has(service)) return;
    if (assigned.removed) {
      await this.#end(service, this.#heard.get(service) ?? (() => undefined));
      return;
    }
    const { manifestText, generation } = assigned;
    if (!record.release && manifestText !== undefined) await this.#run(service, { manifestText, generation });
    this.#answer(service);
  }

  async #take({ manifest, manifestText, generation }: Assignment): Promise<void> {
    const { records, holds } = this.#options;
    const service = manifest.name;
    if (holds.has(service) || records.get(service)?.release) {
      await records.update(service, (record) => ({
        ...(record ?? { wanted: true, manifestText, folder: '' }),
        assigned: { generation, manifestText },
      }));
      return;
    }
    await this.#run(service, { manifestText, generation });
  }

  async #run(service: string, { manifestText, generation }: Omit<Assignment, 'manifest'>): Promise<void> {
    const { records, put } = this.#options;
    await records.update(service, (record) => ({
      ...withManifest(record, { manifestText, folder: '' }),
      assigned: { generation },
    }));
    const record = records.get(service);
    const definition = record && definitionOf(service, record);
    if (definition) await put(definition);
  }

  /** Held on disk until it has ended: the center asks again, and so does the next agent. */
  async #end(service: string, heard: Heard): Promise<void> {
    const { records, holds, retirements, retire, logger } = this.#options;
    if (records.get(service)?.release) {
      await records.amend(service, withoutAssignment);
      logger.info('its assignment has ended; it goes on, run from its release', { service });
      heard(undefined);
      return;
    }
    await records.amend(service, (record) =>
      record.assigned ? { ...record, assigned: { ...record.assigned, removed: true } } : record,
    );
    if (holds.has(service)) {
      this.#heard.set(service, heard);
      return;
    }
    this.#heard.delete(service);
    const supervisor = this.#options.supervisors.get(service);
    if (!supervisor) {
      await records.update(service, () => undefined);
      heard(undefined);
      return;
    }
    retire(supervisor);
    retirements.hear(service, heard);
  }

  #answer(service: string): void {
    this.#heard.get(service)?.(this.#problem(service));
  }

  /** Why its assignment is not what it is run by. */
  #problem(service: string): string | undefined {
    const record = this.#options.records.get(service);
    if (record?.release) return unusedAssignment(service, record.release.ref.version);
    if (record?.assigned?.manifestText === undefined || !this.#options.holds.has(service)) return undefined;
    return `a deploy of ${service} is under way: what is assigned is used after it, unless ${service} is run from a release then`;
  }
}

function withoutAssignment(record: InstanceRecord): InstanceRecord {
  const { assigned, ...others } = record;
  return assigned ? others : record;
}

function unusedAssignment(service: string, version: string): string {
  return (
    `${service} is run from release ${version}, which was deployed here, so what is assigned is not used: ` +
    `push a release with this manifest and deploy it ("muster deploy ${service} VERSION"), or remove the assignment`
  );
}
