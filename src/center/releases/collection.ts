import type { ReleaseRef } from '../../model/release.js';
import { unitId, type ModuleRecord, type ReleaseRecord } from './release.js';
import type { Usage } from './usage.js';

/** The newest releases of each service that are kept whether anything uses them or not. */
export const RELEASES_KEPT = 20;
/** The newest versions of each module that are kept whether any release pins them or not. */
export const MODULE_VERSIONS_KEPT = 5;
/** What was pushed or uploaded less long ago is kept: its owner may not have come to use it yet. */
export const COLLECT_AFTER_MS = 24 * 3_600_000;

export interface CollectionFacts {
  readonly releases: readonly ReleaseRecord[];
  readonly modules: readonly ModuleRecord[];
  readonly usage: Usage;
  /** Releases that operations need. */
  readonly inUse: readonly ReleaseRef[];
  readonly nowMs: number;
}

export interface Collection {
  readonly releases: readonly ReleaseRecord[];
  readonly modules: readonly ModuleRecord[];
}

/** What is collected: what nobody uses and that is not among the newest of its name. */
export function planCollection(facts: CollectionFacts): Collection {
  const { usage, nowMs } = facts;
  const inUse = new Set(facts.inUse.map(({ service, version }) => unitId(service, version)));
  const isOld = ({ pushedMs }: { readonly pushedMs: number }): boolean => nowMs - pushedMs > COLLECT_AFTER_MS;
  const releases = beyondNewest(facts.releases, ({ service }) => service, RELEASES_KEPT).filter(
    (one) =>
      isOld(one) &&
      usage.running(one.artifact.digest).length === 0 &&
      usage.holding(one.artifact.digest).length === 0 &&
      !inUse.has(unitId(one.service, one.version)),
  );
  const going = new Set(releases);
  const staying = facts.releases.filter((one) => !going.has(one));
  const pinned = new Set(staying.flatMap((one) => one.modules.map(({ name, version }) => unitId(name, version))));
  const modules = beyondNewest(facts.modules, ({ name }) => name, MODULE_VERSIONS_KEPT).filter(
    (one) =>
      isOld(one) &&
      !pinned.has(unitId(one.name, one.version)) &&
      usage.havingModule(one.name, one.version).length === 0,
  );
  return { releases, modules };
}

/** All but the newest `kept` of each group. */
function beyondNewest<T extends { readonly number: number }>(
  all: readonly T[],
  groupOf: (one: T) => string,
  kept: number,
): T[] {
  const seen = new Map<string, number>();
  return [...all]
    .sort((a, b) => b.number - a.number)
    .filter((one) => {
      const newer = seen.get(groupOf(one)) ?? 0;
      seen.set(groupOf(one), newer + 1);
      return newer >= kept;
    });
}
