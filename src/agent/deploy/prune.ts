import { join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Manifest } from '../../model/manifest.js';
import type { ModuleRef } from '../../model/release.js';
import type { ConfigPins, Hold } from '../ports.js';
import type { Deploy } from './deploy.js';
import type { Fetcher } from './fetch.js';
import { amended, good, surplus, type Held } from './held.js';
import type { DeployJournal } from './journal.js';
import { entriesOf, type Modules } from './modules.js';
import { directoryName, type Places } from './places.js';
import type { Done } from './steps.js';
import { removeTheirs } from './takeover.js';

export interface PrunerOptions {
  readonly places: Places;
  readonly held: Held;
  readonly modules: Modules;
  readonly fetcher: Fetcher;
  readonly journal: DeployJournal;
  readonly pins: ConfigPins;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The last step: the release is known to be good from here on, and what is not needed any more goes. */
export class Pruner {
  readonly #options: PrunerOptions;

  constructor(options: PrunerOptions) {
    this.#options = options;
  }

  /** Durable: the release was verified, with the configuration it was verified with. */
  async keep(deploy: Deploy, hold: Hold): Promise<void> {
    const { held, pins, clock } = this.#options;
    const { service, to, kind } = deploy;
    const configRevision = await pins.keep(service, to.digest);
    await held.change(service, (one) =>
      amended(good(one, to.digest, { nowMs: clock.now(), deployed: kind === 'DEPLOY' }), to.digest, (release) => ({
        ...release,
        ref: { ...release.ref, configRevision },
      })),
    );
    await hold.verified(configRevision);
  }

  /** Never fails over what cannot be removed: that is tried again by the next deploy. */
  async prune(deploy: Deploy, manifest: Manifest): Promise<Done> {
    const removed: string[] = [];
    const problems: string[] = [];
    const part = async (work: () => Promise<readonly string[]>): Promise<void> => {
      try {
        removed.push(...(await work()));
      } catch (error) {
        this.#options.logger.warn('what is not needed any more could not be removed', {
          service: deploy.service,
          error,
        });
        problems.push(messageOf(error));
      }
    };
    await part(() => this.#releases(deploy, manifest));
    await part(() => this.#modules());
    await part(() => this.forgetArchives(deploy));
    if (problems.length > 0) return { message: `not all that is not needed could be removed: ${problems.join('; ')}` };
    if (removed.length === 0) return { message: 'all that is held is within its limits', skipped: true };
    return { message: `removed ${removed.join(', ')}` };
  }

  /** Downloads that no other deploy is about to use. */
  async forgetArchives({ id, to }: Deploy): Promise<readonly string[]> {
    const { fetcher, journal } = this.#options;
    const others = journal.unfinished().filter((one) => one.id !== id);
    const needed = new Set(others.flatMap((one) => [one.to.digest, ...one.to.modules.map(({ digest }) => digest)]));
    for (const { digest } of [to, ...to.modules]) if (!needed.has(digest)) await fetcher.forget(digest);
    return [];
  }

  async #releases({ service, to }: Deploy, manifest: Manifest): Promise<readonly string[]> {
    const { held, places, pins } = this.#options;
    const { keep, maxSizeBytes } = manifest.releases;
    const gone = surplus(held.of(service), { keep, maxSizeBytes, needed: new Set([to.digest]) });
    const digests = new Set(gone.map(({ ref }) => ref.digest));
    if (gone.length > 0) {
      await held.change(service, (one) => ({
        ...one,
        releases: one.releases.filter(({ ref }) => !digests.has(ref.digest)),
      }));
    }
    for (const { ref } of gone) await pins.forget(service, ref.digest);
    // Not only those: also what an earlier process unlisted and did not come to remove.
    const listed = new Set(held.of(service).releases.map(({ ref }) => directoryName(ref)));
    for (const name of await entriesOf(places.releases(service))) {
      if (!listed.has(name)) await removeTheirs(join(places.releases(service), name));
    }
    return gone.map(({ ref }) => `${service} ${ref.version}`);
  }

  async #modules(): Promise<readonly string[]> {
    const { modules, held, journal } = this.#options;
    const pins = (): readonly ModuleRef[] => [...held.pins(), ...journal.unfinished().flatMap(({ to }) => to.modules)];
    return (await modules.prune(pins)).map((one) => `module ${one}`);
  }
}
