import { isSignedBy } from '../../archive/signature.js';
import type { Clock } from '../../kit/clock.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Artifact, ModuleRef, ReleaseRef, Signature, SignedKind } from '../../model/release.js';
import type { Table } from '../table.js';
import { badPins, type BadPin } from './admission.js';
import type { Archives } from './archives.js';
import { COLLECT_AFTER_MS, planCollection } from './collection.js';
import { LookCache } from './look-cache.js';
import { unitId, type ModuleRecord, type ReleaseRecord } from './release.js';
import type { Releases } from './releases.js';
import type { SigningKeyRecord, SigningKeys } from './signing-keys.js';
import type { Usage } from './usage.js';

export interface PublishingOptions {
  readonly releases: Table<ReleaseRecord>;
  readonly modules: Table<ModuleRecord>;
  readonly records: Releases;
  readonly archives: Archives;
  readonly keys: SigningKeys;
  readonly usage: () => Usage;
  /** Releases that operations need. */
  readonly inUse: () => readonly ReleaseRef[];
  /** For people. */
  readonly machineName: (machine: string) => string;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface PutOrder {
  /** Of the uploaded archive. */
  readonly digest: string;
  readonly signature: Signature;
  readonly note: string;
  readonly by: string;
  readonly validateOnly: boolean;
}

/** Releases, and modules at all their versions, that the center takes. More are refused. */
export const RELEASES_MAX = 5000;
export const MODULES_MAX = 5000;
/** Users named in an error. */
const NAMED_MAX = 5;
/** The one key under which records come and go. */
const SHELF = 'shelf';
/** Parts that nobody has written to for so long are removed. */
const PART_IDLE_MS = 24 * 3_600_000;

/** What a refusal of a put says about the archive for good: it goes. */
const REFUSALS = ['invalid', 'denied', 'exists', 'data_loss'] as const;

/**
 * Makes uploaded archives releases and modules, and takes them away again. A record is stored after its archive is durable and removed before
 * it, so that a crash leaves at most an archive that no record names, which is collected.
 */
export class Publishing {
  readonly #options: PublishingOptions;
  readonly #looks = new LookCache();
  /** By digest: whoever looks at an archive keeps it from being removed. Taken before SHELF. */
  readonly #archiveTurns = new KeyedMutex();
  readonly #shelfTurns = new KeyedMutex();
  #lastNumber: number;

  constructor(options: PublishingOptions) {
    this.#options = options;
    const numbers = [...options.releases.values(), ...options.modules.values()].map(({ number }) => number);
    this.#lastNumber = numbers.reduce((highest, number) => Math.max(highest, number), 0);
  }

  /** Says of each record whose archive is not as it was that it cannot be deployed. */
  reconcile(): void {
    const { releases, modules, archives, logger } = this.#options;
    for (const { service, version, artifact } of releases.values()) {
      const problem = archives.reconcile(artifact);
      if (problem !== undefined) logger.error('a release cannot be deployed', { service, version, problem });
    }
    for (const { name, version, artifact } of modules.values()) {
      const problem = archives.reconcile(artifact);
      if (problem !== undefined) logger.error('a module cannot be installed', { module: name, version, problem });
    }
  }

  /**
   * Makes an uploaded archive a release. The same again answers with what is there. Resolves once durable.
   * @throws invalid with each mistake; denied with reason SIGNATURE; exists when the version is another archive; not_found with reason
   *   ARTIFACT_MISSING; exhausted at RELEASES_MAX; data_loss when the archive is damaged
   */
  putRelease(order: PutOrder): Promise<ReleaseRecord> {
    return this.#put(order, (key) => this.#putRelease(order, key));
  }

  /** As putRelease, for a module. @throws as putRelease */
  putModule(order: PutOrder): Promise<ModuleRecord> {
    return this.#put(order, (key) => this.#putModule(order, key));
  }

  /** Resolves once durable. @throws not_found; precondition while machines or an operation need it */
  async removeRelease(service: string, version: string): Promise<void> {
    const { records, releases, usage, inUse } = this.#options;
    const { artifact } = records.require(service, version);
    await this.#shelfTurns.run(SHELF, async () => {
      const found = usage();
      const machines = [...found.running(artifact.digest), ...found.holding(artifact.digest)];
      if (machines.length > 0) {
        const names = named(machines.map((id) => this.#options.machineName(id)).sort());
        const message = `release ${version} of ${service} is on ${names}: deploy others there until it is not held any more ("releases" in the manifest says how many are)`;
        throw new MusterError('precondition', message, { reason: 'RELEASE_IN_USE' });
      }
      if (inUse().some((one) => one.service === service && one.version === version)) {
        const message = `release ${version} of ${service} is needed by an operation: wait for its end, or cancel it`;
        throw new MusterError('precondition', message, { reason: 'RELEASE_IN_USE' });
      }
      await releases.remove([unitId(service, version)]);
    });
    await this.#dropArchive(artifact.digest);
  }

  /** Resolves once durable. @throws not_found; precondition while releases pin it or machines have it */
  async removeModule(name: string, version: string): Promise<void> {
    const { records, modules, usage, machineName } = this.#options;
    const { artifact } = records.requireModule(name, version);
    await this.#shelfTurns.run(SHELF, async () => {
      const pinned = records.pinnedBy(name, version).map((one) => `${one.service} ${one.version}`);
      const machines = usage().havingModule(name, version).map(machineName);
      const users = pinned.length > 0 ? pinned : machines;
      if (users.length > 0) {
        const how = pinned.length > 0 ? 'pinned by' : 'in use on';
        const message = `module ${name} ${version} is ${how} ${named(users)}: remove or replace those first`;
        throw new MusterError('precondition', message, { reason: 'MODULE_IN_USE' });
      }
      await modules.remove([unitId(name, version)]);
    });
    await this.#dropArchive(artifact.digest);
  }

  /** Removes what nobody needs: releases, modules, archives without either, uploads nobody goes on with. */
  async collect(): Promise<void> {
    const { archives, releases, modules, logger, clock } = this.#options;
    const plan = await this.#shelfTurns.run(SHELF, async () => {
      const facts = {
        releases: releases.values(),
        modules: modules.values(),
        usage: this.#options.usage(),
        inUse: this.#options.inUse(),
      };
      const found = planCollection({ ...facts, nowMs: clock.now() });
      if (found.releases.length > 0)
        await releases.remove(found.releases.map((one) => unitId(one.service, one.version)));
      if (found.modules.length > 0) await modules.remove(found.modules.map((one) => unitId(one.name, one.version)));
      return found;
    });
    for (const { service, version } of plan.releases)
      logger.info('an unused release was removed', { service, version });
    for (const { name, version } of plan.modules)
      logger.info('an unused module was removed', { module: name, version });
    for (const { artifact } of [...plan.releases, ...plan.modules]) await this.#dropArchive(artifact.digest);
    for (const digest of archives.digests()) {
      if (clock.now() - archives.sinceMs(digest) > COLLECT_AFTER_MS) await this.#dropArchive(digest);
    }
    const parts = await archives.removeParts(PART_IDLE_MS);
    if (parts > 0) logger.info('unfinished uploads were removed', { parts });
  }

  #put<T>(order: PutOrder, put: (key: SigningKeyRecord) => Promise<T>): Promise<T> {
    const { digest, signature } = order;
    return this.#archiveTurns.run(digest, async () => {
      try {
        if (this.#options.archives.sizeOf(digest) === undefined) throw notUploaded(digest);
        return await put(this.#options.keys.requireGood(signature.publicKey));
      } catch (error) {
        if (isCode(error, ...REFUSALS)) await this.#discard(digest);
        throw error;
      }
    });
  }

  async #putRelease(order: PutOrder, key: SigningKeyRecord): Promise<ReleaseRecord> {
    const { records, releases } = this.#options;
    const known = records.list().find(({ artifact }) => artifact.digest === order.digest);
    if (known) {
      assertSigned('release', { ...order, name: known.service, version: known.version });
      return this.#again(releases, unitId(known.service, known.version), { known, order, key });
    }
    const { manifest, text, files, unpackedBytes } = await this.#looks.release(order.digest, this.#options.archives);
    const { name: service, version } = manifest;
    assertSigned('release', { ...order, name: service, version });
    return this.#shelfTurns.run(SHELF, async () => {
      assertFree(`release ${version} of ${service}`, records.find(service, version)?.artifact);
      assertBelow(releases.size, RELEASES_MAX, 'releases');
      const modules = this.#pins(manifest.modules, text);
      const record = { service, version, modules, manifest: text, files, unpackedBytes, ...this.#pushed(order, key) };
      if (!order.validateOnly) await releases.put(unitId(service, version), record);
      return record;
    });
  }

  async #putModule(order: PutOrder, key: SigningKeyRecord): Promise<ModuleRecord> {
    const { records, modules } = this.#options;
    const known = records.listModules().find(({ artifact }) => artifact.digest === order.digest);
    if (known) {
      assertSigned('module', { ...order, name: known.name, version: known.version });
      return this.#again(modules, unitId(known.name, known.version), { known, order, key });
    }
    const { manifest, files, unpackedBytes } = await this.#looks.module(order.digest, this.#options.archives);
    const { name, version } = manifest;
    assertSigned('module', { ...order, name, version });
    return this.#shelfTurns.run(SHELF, async () => {
      assertFree(`module ${name} ${version}`, records.findModule(name, version)?.artifact);
      assertBelow(modules.size, MODULES_MAX, 'modules');
      const record = { name, version, files, unpackedBytes, ...this.#pushed(order, key) };
      if (!order.validateOnly) await modules.put(unitId(name, version), record);
      return record;
    });
  }

  /** The same archive again changes nothing, except that a good signature takes the place of one whose key was revoked. */
  async #again<T extends ReleaseRecord | ModuleRecord>(
    table: Table<T>,
    id: string,
    { known, order, key }: { known: T; order: PutOrder; key: SigningKeyRecord },
  ): Promise<T> {
    const before = this.#options.keys.find(known.artifact.signature.publicKey);
    if (order.validateOnly || before?.revoked === undefined) return known;
    const signed = { ...known, artifact: { ...known.artifact, signature: order.signature }, signedBy: key.operator };
    await this.#shelfTurns.run(SHELF, () => table.save(id, (current) => current && signed));
    return signed;
  }

  #pushed(
    { digest, signature, by, note, validateOnly }: PutOrder,
    { operator }: SigningKeyRecord,
  ): Pick<ReleaseRecord, 'artifact' | 'number' | 'pushedMs' | 'pushedBy' | 'signedBy' | 'note'> {
    if (!validateOnly) this.#lastNumber += 1;
    return {
      artifact: { digest, sizeBytes: this.#options.archives.sizeOf(digest) ?? 0, signature },
      number: this.#lastNumber,
      pushedMs: this.#options.clock.now(),
      pushedBy: by,
      signedBy: operator,
      note,
    };
  }

  /** @throws invalid with the place of each pin that cannot be had */
  #pins(pins: Readonly<Record<string, string>>, text: string): ModuleRef[] {
    const { records, keys } = this.#options;
    const bad: BadPin[] = [];
    const found = Object.entries(pins).flatMap(([name, version]) => {
      const module = records.findModule(name, version);
      if (!module) bad.push({ name, problem: records.missingModule(name, version) });
      else if (keys.find(module.artifact.signature.publicKey)?.revoked) {
        bad.push({
          name,
          problem: `module "${name}" ${version} was signed with a key that was revoked: pin another version`,
        });
      }
      return module ? [{ name, version, digest: module.artifact.digest }] : [];
    });
    if (bad.length > 0) throw badPins(text, bad);
    return found;
  }

  async #dropArchive(digest: string): Promise<void> {
    await this.#archiveTurns.run(digest, () => this.#discard(digest));
  }

  /** Removes an archive unless a record names it. */
  async #discard(digest: string): Promise<void> {
    if (this.#options.records.needs(digest)) return;
    this.#looks.forget(digest);
    await this.#options.archives.remove(digest);
  }
}

function named(all: readonly string[]): string {
  const more = all.length > NAMED_MAX ? ` and ${all.length - NAMED_MAX} more` : '';
  return all.slice(0, NAMED_MAX).join(', ') + more;
}

function notUploaded(digest: string): MusterError {
  return new MusterError('not_found', `the archive ${digest} is not here, or not whole: upload it first`, {
    reason: 'ARTIFACT_MISSING',
  });
}

/** @throws denied */
function assertSigned(
  kind: SignedKind,
  { name, version, digest, signature }: { name: string; version: string; digest: string; signature: Signature },
): void {
  if (isSignedBy(kind, { name, version, digest }, signature)) return;
  const message = `the signature is not one of ${kind} ${name} ${version} with this archive: sign it again, then push again`;
  throw new MusterError('denied', message, { reason: 'SIGNATURE' });
}

/** @throws exists */
function assertFree(what: string, taken: Artifact | undefined): void {
  if (!taken) return;
  const message = `${what} is another archive already (${taken.digest.slice(0, 12)}), and a version stays what it is: choose a new version`;
  throw new MusterError('exists', message, { reason: 'VERSION_TAKEN', metadata: { digest: taken.digest } });
}

/** @throws exhausted */
function assertBelow(size: number, max: number, what: string): void {
  if (size < max) return;
  throw new MusterError('exhausted', `there are ${max} ${what}: remove some that are not needed`, {
    reason: 'RELEASES_MAX',
  });
}
