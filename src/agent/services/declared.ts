import { makeDirectory } from '../../kit/files.js';
import { ManifestDirectory, usualFiles, type BrokenFile, type Scan } from './manifests.js';
import type { ServiceParts } from './parts.js';
import { isAssigned, isLocal, sameText, type Definition } from './sources.js';

export interface DeclaredServicesOptions extends Omit<ServiceParts, 'ready'> {
  /** Absolute. */
  readonly directory: string;
}

/** What the services directory declares. A manifest there is used where the service is run from no release and the center assigned none. */
export class DeclaredServices {
  readonly #options: DeclaredServicesOptions;
  readonly #directory: ManifestDirectory;
  #broken: readonly BrokenFile[] = [];
  #missing = new Set<string>();

  constructor(options: DeclaredServicesOptions) {
    this.#options = options;
    this.#directory = new ManifestDirectory(options.directory);
  }

  /** Manifests that are not used, and why. */
  get broken(): readonly BrokenFile[] {
    return this.#broken;
  }

  /** Call once, first. A directory that is gone while services came from it is not made anew: an empty one would say that they are to end. */
  async open(): Promise<void> {
    const own = [...this.#options.records.all()].filter(([, { assigned, release }]) => !assigned && !release);
    for (const [service, { file = '' }] of own) {
      for (const path of file === '' ? usualFiles(service) : [file]) this.#directory.remember(path, service);
    }
    if (own.length === 0) await makeDirectory(this.#options.directory, 0o755);
  }

  /** Undefined: the directory cannot be read now. What is not used is said. */
  async scan(): Promise<Scan | undefined> {
    const scan = await this.#directory.scan();
    this.#sayBroken(scan);
    return scan;
  }

  /** Makes services what a scan found. */
  async follow(scan: Scan): Promise<void> {
    for (const definition of scan.definitions.values()) {
      if (!this.#isNews(definition)) continue;
      await this.#options.mutations.run(definition.manifest.name, async () => {
        // A deploy or an assignment may have come first.
        if (this.#isNews(definition)) await this.#options.put(definition);
      });
    }
    this.#retireMissing(scan);
  }

  forget(service: string): void {
    this.#missing.delete(service);
  }

  /** Whether the service is to be made what this says, and is not yet. */
  #isNews(definition: Definition): boolean {
    const { supervisors, retirements, holds } = this.#options;
    const { name } = definition.manifest;
    const current = supervisors.get(name)?.definition;
    if (retirements.has(name) || holds.has(name)) return false;
    return !current || (isLocal(current) && !sameText(current, definition));
  }

  /** A manifest is gone when two looks in a row do not find it: editors replace files by removing them. */
  #retireMissing(scan: Scan): void {
    const { supervisors, holds, retire } = this.#options;
    const missing = [...supervisors.values()].filter(
      ({ service, definition }) =>
        isLocal(definition) && !holds.has(service) && !scan.definitions.has(service) && !scan.kept.has(service),
    );
    for (const supervisor of missing) if (this.#missing.has(supervisor.service)) retire(supervisor);
    this.#missing = new Set(missing.map(({ service }) => service));
  }

  #sayBroken(scan: Scan | undefined): void {
    const unused = [...(scan?.definitions.keys() ?? [])].flatMap((service) => {
      const why = this.#unused(service);
      return why === undefined ? [] : [{ file: service, errors: [why] }];
    });
    const broken = [...(scan?.broken ?? [this.#unreadable()]), ...unused];
    const said = new Set(this.#broken.map(({ file, errors }) => file + errors.join('\n')));
    for (const { file, errors } of broken) {
      if (!said.has(file + errors.join('\n'))) this.#options.logger.warn('a manifest cannot be used', { file, errors });
    }
    this.#broken = broken;
  }

  #unused(service: string): string | undefined {
    const record = this.#options.records.get(service);
    const todo = 'its manifest on this machine is not used, remove it';
    if (record?.release)
      return `service ${service} is run from release ${record.release.ref.version}, which was deployed here: ${todo}`;
    return isAssigned(record) ? `service ${service} is assigned by the center: ${todo}` : undefined;
  }

  #unreadable(): BrokenFile {
    const file = this.#options.directory;
    const text = `the services directory cannot be read, and its services go on as they were: mount it or make it again (${this.#directory.problem})`;
    return { file, errors: [text] };
  }
}
