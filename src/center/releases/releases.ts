import { MusterError } from '../../kit/errors.js';
import { nearest } from '../../kit/suggest.js';
import type { Artifact, DeployOrder, ReleaseRef } from '../../model/release.js';
import { unknownService } from '../fleet/unknown.js';
import type { Table } from '../table.js';
import { unitId, type ModuleRecord, type ReleaseRecord } from './release.js';
import { revokedKey, type SigningKeys } from './signing-keys.js';

export interface ReleasesOptions {
  readonly releases: Table<ReleaseRecord>;
  readonly modules: Table<ModuleRecord>;
  readonly keys: SigningKeys;
  /** Why the archive cannot be sent, for people; undefined: it can. */
  readonly problemWith: (artifact: Artifact) => string | undefined;
  /** Names of services, for who mistypes one that has no release. */
  readonly serviceNames: () => readonly string[];
}

/** Versions named in an error. */
const VERSIONS_NAMED_MAX = 5;

/** The releases and modules that the center has. */
export class Releases {
  readonly #options: ReleasesOptions;

  constructor(options: ReleasesOptions) {
    this.#options = options;
  }

  /** All releases, the newest first; of one service where it is given. */
  list(service?: string): ReleaseRecord[] {
    const all = this.#options.releases.values();
    return all.filter((one) => service === undefined || one.service === service).sort((a, b) => b.number - a.number);
  }

  /** All modules at all versions, the newest first; of one name where it is given. */
  listModules(name?: string): ModuleRecord[] {
    const all = this.#options.modules.values();
    return all.filter((one) => name === undefined || one.name === name).sort((a, b) => b.number - a.number);
  }

  find(service: string, version: string): ReleaseRecord | undefined {
    return this.#options.releases.get(unitId(service, version));
  }

  findModule(name: string, version: string): ModuleRecord | undefined {
    return this.#options.modules.get(unitId(name, version));
  }

  /** @throws not_found naming the nearest version or service */
  require(service: string, version: string): ReleaseRecord {
    const found = this.find(service, version);
    if (found) return found;
    this.requireService(service);
    const versions = this.list(service).map((one) => one.version);
    const message =
      versions.length === 0
        ? `service "${service}" has no releases yet: push one with "muster release push"`
        : `service "${service}" has no release "${version}".${hint(version, versions)}`;
    throw new MusterError('not_found', message, { reason: 'RELEASE_UNKNOWN' });
  }

  /** A service without releases is fine. @throws not_found naming the nearest service */
  requireService(service: string): void {
    const pushed = this.#options.releases.values().map((one) => one.service);
    const known = new Set([...pushed, ...this.#options.serviceNames()]);
    if (!known.has(service)) throw unknownService(service, [...known]);
  }

  /** @throws not_found naming the nearest version or module */
  requireModule(name: string, version: string): ModuleRecord {
    const found = this.findModule(name, version);
    if (found) return found;
    throw new MusterError('not_found', this.missingModule(name, version), { reason: 'MODULE_UNKNOWN' });
  }

  /** @throws not_found naming the nearest module */
  requireModuleName(name: string): void {
    if (this.listModules(name).length > 0) return;
    throw new MusterError('not_found', this.missingModule(name, ''), { reason: 'MODULE_UNKNOWN' });
  }

  /** Names of modules. */
  moduleNames(): string[] {
    return [...new Set(this.#options.modules.values().map((one) => one.name))];
  }

  /** What to say of a module that is not here: what is wrong and what to do. */
  missingModule(name: string, version: string): string {
    const versions = this.listModules(name).map((one) => one.version);
    if (versions.length > 0) return `module "${name}" has no version "${version}" here.${hint(version, versions)}`;
    const near = nearest(name, this.moduleNames());
    const next = near === undefined ? 'Push it with "muster module push"' : `Did you mean "${near}"?`;
    return `there is no module "${name}". ${next}`;
  }

  /** The releases that pin the module, the newest first. */
  pinnedBy(name: string, version: string): ReleaseRecord[] {
    return this.list().filter(({ modules }) => modules.some((pin) => pin.name === name && pin.version === version));
  }

  /** Whether the archive is that of a release or a module. */
  needs(digest: string): boolean {
    const all = [...this.#options.releases.values(), ...this.#options.modules.values()];
    return all.some(({ artifact }) => artifact.digest === digest);
  }

  /**
   * An archive that a release or a module is made of, and that may be sent.
   * @throws not_found when nothing is made of it; precondition with reason KEY_REVOKED; data_loss with reason ARTIFACT_LOST
   */
  requireArtifact(digest: string): Artifact {
    const all = [...this.#options.releases.values(), ...this.#options.modules.values()];
    const users = all.filter(({ artifact }) => artifact.digest === digest).map(({ artifact }) => artifact);
    const good = users.find(({ signature }) => this.#options.keys.find(signature.publicKey)?.revoked === undefined);
    const artifact = good ?? users[0];
    if (!artifact) {
      const message = `no release or module here is made of the archive ${digest}: deploy a release that is`;
      throw new MusterError('not_found', message, { reason: 'ARTIFACT_UNKNOWN' });
    }
    this.#assertSendable(`the archive ${digest.slice(0, 12)}`, artifact);
    return artifact;
  }

  refOf({ service, version, artifact, modules }: ReleaseRecord): ReleaseRef {
    return { service, version, digest: artifact.digest, modules, configRevision: 0 };
  }

  /**
   * What an agent needs to deploy the release.
   * @throws not_found naming the nearest version; precondition with reason KEY_REVOKED when it or a module it pins was signed with a key revoked
   *   since; data_loss with reason ARTIFACT_LOST when an archive is not on the center's disk any more
   */
  deployOrder(service: string, version: string): DeployOrder {
    const release = this.require(service, version);
    const modules = release.modules.map((pin) => this.requireModule(pin.name, pin.version));
    this.#assertSendable(`release ${version} of ${service}`, release.artifact);
    for (const one of modules) this.#assertSendable(`module ${one.name} ${one.version}`, one.artifact);
    return {
      release: this.refOf(release),
      artifact: orderedOf(release),
      moduleArtifacts: modules.map(orderedOf),
    };
  }

  #assertSendable(what: string, artifact: Artifact): void {
    const key = this.#options.keys.find(artifact.signature.publicKey);
    if (!key || key.revoked) {
      const cause = key && revokedKey(key);
      const message = `${what} cannot be deployed: ${cause?.message ?? 'the key that signed it is not enrolled any more'}`;
      throw new MusterError('precondition', message, { reason: 'KEY_REVOKED', cause });
    }
    const problem = this.#options.problemWith(artifact);
    if (problem === undefined) return;
    throw new MusterError('data_loss', `${what} cannot be deployed: ${problem}`, { reason: 'ARTIFACT_LOST' });
  }
}

/** The archive as an order names it: with the room that it takes. */
function orderedOf({ artifact, files, unpackedBytes: bytes }: ReleaseRecord | ModuleRecord): Artifact {
  return { ...artifact, unpacked: { files, bytes } };
}

/** Versions, the newest first, for who named one that is not there. */
function hint(version: string, versions: readonly string[]): string {
  const near = nearest(version, versions);
  const newest = versions.slice(0, VERSIONS_NAMED_MAX).join(', ');
  const more = versions.length > VERSIONS_NAMED_MAX ? `, and ${versions.length - VERSIONS_NAMED_MAX} more` : '';
  return `${near === undefined ? '' : ` Did you mean "${near}"?`} There are: ${newest}${more}`;
}
