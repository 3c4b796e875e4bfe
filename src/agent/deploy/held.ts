import { MusterError } from '../../kit/errors.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { ModuleRef, ReleaseRef } from '../../model/release.js';

/** A release that is complete on this machine. Times are wall-clock milliseconds. */
export interface HeldRelease {
  readonly ref: ReleaseRef;
  readonly manifestText: string;
  /** Of its files, unpacked, and of what its install hook made. */
  readonly bytes: number;
  /** Since when it is complete. */
  readonly sinceMs: number;
  /** When it was verified by its last deploy; a rollback to it does not change that, so that one rollback after another goes further back. */
  readonly verifiedMs?: number | undefined;
  /** Its last deploy failed. */
  readonly failedMs?: number | undefined;
  /** Its last deploy found the service stopped, so nothing was verified then. */
  readonly untriedMs?: number | undefined;
}

/** What a machine holds of a service. */
export interface HeldReleases {
  readonly releases: readonly HeldRelease[];
  /** Digest of the one that was verified last. */
  readonly lastGood?: string | undefined;
  /** Its configuration is the one kept with its release. */
  readonly pinned: boolean;
}

const NOTHING: HeldReleases = { releases: [], pinned: false };

/** Which releases are complete on this machine: what is not listed here is not, whatever its directory holds. */
export class Held {
  readonly #documents: Documents<HeldReleases>;
  readonly #held = new Map<string, HeldReleases>();

  private constructor(documents: Documents<HeldReleases>) {
    this.#documents = documents;
  }

  /** @throws as Store.range */
  static async open(store: Store): Promise<Held> {
    const held = new Held(new Documents<HeldReleases>(store, 'held-releases/'));
    for (const { id, value } of await held.#documents.all()) held.#held.set(id, value);
    return held;
  }

  of(service: string): HeldReleases {
    return this.#held.get(service) ?? NOTHING;
  }

  find(service: string, digest: string): HeldRelease | undefined {
    return this.of(service).releases.find(({ ref }) => ref.digest === digest);
  }

  /** Pins of every release of every service. */
  pins(): readonly ModuleRef[] {
    return [...this.#held.values()].flatMap(({ releases }) => releases.flatMap(({ ref }) => ref.modules));
  }

  services(): readonly string[] {
    return [...this.#held.keys()];
  }

  /** One change of a service at a time: its deploys are. Resolves once durable. @throws as Store.write */
  async change(service: string, change: (held: HeldReleases) => HeldReleases): Promise<void> {
    const current = this.of(service);
    const changed = change(current);
    if (changed === current) return;
    await this.#documents.put(service, changed);
    this.#held.set(service, changed);
  }
}

/** The list with this release changed. */
export function amended(
  held: HeldReleases,
  digest: string,
  change: (release: HeldRelease) => HeldRelease,
): HeldReleases {
  return { ...held, releases: held.releases.map((one) => (one.ref.digest === digest ? change(one) : one)) };
}

/** The list with this release, whatever was there of it before. */
export function listed(held: HeldReleases, release: HeldRelease): HeldReleases {
  return { ...held, releases: [...held.releases.filter(({ ref }) => ref.digest !== release.ref.digest), release] };
}

/**
 * The list with this release verified as what the service runs from; `deployed`: by a deploy, not by a rollback to it. Which was verified
 * before which holds also when the clock was set back meanwhile: it is the latest of all, whatever the time.
 */
export function good(
  held: HeldReleases,
  digest: string,
  { nowMs, deployed }: { readonly nowMs: number; readonly deployed: boolean },
): HeldReleases {
  const others = held.releases.filter(({ ref }) => ref.digest !== digest);
  const latestMs = Math.max(nowMs, ...others.map(({ verifiedMs = 0 }) => verifiedMs + 1));
  const verified = ({ verifiedMs, ...one }: HeldRelease): HeldRelease => ({
    ...one,
    verifiedMs: deployed ? latestMs : (verifiedMs ?? latestMs),
    failedMs: undefined,
    untriedMs: undefined,
  });
  return { ...amended(held, digest, verified), lastGood: digest };
}

/** The list with this release failed; what was good before is the last good one again. */
export function bad(held: HeldReleases, digest: string, nowMs: number): HeldReleases {
  return amended(held, digest, (one) => ({ ...one, failedMs: nowMs }));
}

/** The list with this release deployed to a stopped service: what was verified last comes before it, whenever it was verified itself. */
export function untried(held: HeldReleases, digest: string, nowMs: number): HeldReleases {
  return amended(held, digest, (one) => ({ ...one, untriedMs: nowMs }));
}

/** When the present one was verified, as far as going back from it is concerned. */
function presentVerifiedMs(held: HeldReleases, present: string | undefined): number {
  const found = held.releases.find(({ ref }) => ref.digest === present);
  return found?.untriedMs === undefined ? (found?.verifiedMs ?? Infinity) : Infinity;
}

/**
 * Releases a service can go back to, best first: those verified before the present one, the newest first; then the other verified ones; then
 * those that were never verified because the service was stopped. Those whose deploy failed are not among them.
 */
export function goingBack(held: HeldReleases, present: string | undefined): readonly HeldRelease[] {
  const others = held.releases.filter(({ ref, failedMs }) => ref.digest !== present && failedMs === undefined);
  const presentMs = presentVerifiedMs(held, present);
  const rank = ({ verifiedMs }: HeldRelease): number => {
    if (verifiedMs === undefined) return 2;
    return verifiedMs < presentMs ? 0 : 1;
  };
  return [...others].sort((a, b) => rank(a) - rank(b) || timeOf(b) - timeOf(a));
}

function timeOf({ verifiedMs, sinceMs }: HeldRelease): number {
  return verifiedMs ?? sinceMs;
}

/** What the present one is rolled back to where no version is named; undefined: nothing was verified before it. */
export function verifiedBefore(held: HeldReleases, present: string | undefined): HeldRelease | undefined {
  const presentMs = presentVerifiedMs(held, present);
  const [best] = goingBack(held, present);
  return best?.verifiedMs !== undefined && best.verifiedMs < presentMs ? best : undefined;
}

/**
 * The release of that version to go back to, if it is on the machine.
 * @throws precondition when its last deploy failed here
 */
export function ofVersion(held: HeldReleases, version: string): HeldRelease | undefined {
  const found = held.releases.filter(({ ref }) => ref.version === version).sort((a, b) => b.sinceMs - a.sinceMs)[0];
  if (found?.failedMs === undefined) return found;
  throw new MusterError(
    'precondition',
    `the last deploy of ${found.ref.service} ${version} on this machine failed, so it is nothing to go back to: deploy it if it is wanted`,
    { reason: 'RELEASE_FAILED' },
  );
}

export interface KeepPolicy {
  /** Releases, the present one counted. */
  readonly keep: number;
  readonly maxSizeBytes: number;
  /** Digests that stay whatever the policy says, beside the last good one: the present one, and what deploys under way need. */
  readonly needed: ReadonlySet<string>;
}

/** Which releases are to go: beyond the count or the size, those least likely to be gone back to first. */
export function surplus(held: HeldReleases, { keep, maxSizeBytes, needed }: KeepPolicy): readonly HeldRelease[] {
  const stays = ({ ref }: HeldRelease): boolean => needed.has(ref.digest) || ref.digest === held.lastGood;
  const fixed = held.releases.filter(stays);
  const rest = held.releases
    .filter((one) => !stays(one))
    .sort((a, b) => usefulness(b) - usefulness(a) || timeOf(b) - timeOf(a));
  let count = fixed.length;
  let bytes = sum(fixed);
  let full = false;
  return rest.filter((one) => {
    full ||= count + 1 > keep || bytes + one.bytes > maxSizeBytes;
    if (full) return true;
    count += 1;
    bytes += one.bytes;
    return false;
  });
}

function usefulness({ verifiedMs, failedMs }: HeldRelease): number {
  if (failedMs !== undefined) return 0;
  return verifiedMs === undefined ? 1 : 2;
}

function sum(releases: readonly HeldRelease[]): number {
  return releases.reduce((bytes, one) => bytes + one.bytes, 0);
}
