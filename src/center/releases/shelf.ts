import { sleep, type Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { ReleaseRef } from '../../model/release.js';
import type { Instances } from '../fleet/instances.js';
import type { Table } from '../table.js';
import type { Archives } from './archives.js';
import { Publishing } from './publishing.js';
import type { ModuleRecord, ReleaseRecord } from './release.js';
import { Releases } from './releases.js';
import { SigningKeys, type SigningKeyRecord } from './signing-keys.js';
import { Usage } from './usage.js';

/** How often what nobody needs is looked for; first so long after the start: agents have told by then what they have. */
export const COLLECT_EVERY_MS = 3_600_000;

export interface ShelfOptions {
  readonly releases: Table<ReleaseRecord>;
  readonly modules: Table<ModuleRecord>;
  readonly signingKeys: Table<SigningKeyRecord>;
  readonly archives: Archives;
  readonly instances: Instances;
  readonly serviceNames: () => readonly string[];
  /** For people. */
  readonly machineName: (machine: string) => string;
  /** Releases that operations need. */
  readonly inUse: () => readonly ReleaseRef[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the site has of releases and modules: their records, their archives, and the keys that sign them. */
export interface Shelf {
  readonly releases: Releases;
  readonly publishing: Publishing;
  readonly archives: Archives;
  readonly keys: SigningKeys;
  /** What machines have of it now. */
  readonly usage: () => Usage;
  /** Removes by and by what nobody needs. */
  run(signal: AbortSignal): Promise<void>;
}

export function openShelf(options: ShelfOptions): Shelf {
  const { archives, instances, clock, logger } = options;
  const keys = new SigningKeys({ table: options.signingKeys, clock });
  const usage = (): Usage => new Usage(instances.list());
  const releases = new Releases({ ...options, keys, problemWith: (artifact) => archives.problemWith(artifact) });
  const publishing = new Publishing({ ...options, records: releases, keys, usage });
  return {
    releases,
    publishing,
    archives,
    keys,
    usage,
    run: async (signal) => {
      for (;;) {
        await sleep(clock, COLLECT_EVERY_MS, signal);
        await publishing.collect().catch((error: unknown) => {
          logger.error('unused releases could not be removed; it is tried again in an hour', {
            error: messageOf(error),
          });
        });
      }
    },
  };
}
