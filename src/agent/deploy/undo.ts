import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { ConfigPins, Hold } from '../ports.js';
import { switchCurrent } from './current.js';
import type { Before, Deploy } from './deploy.js';
import { bad, type Held } from './held.js';
import type { Places } from './places.js';
import { sourceOfBefore } from './source.js';
import { startOf, type Done } from './steps.js';
import { checksPass } from './verify.js';

export interface UndoOptions {
  readonly places: Places;
  readonly held: Held;
  readonly pins: ConfigPins;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Tries of what must not fail; a full disk is waited for as long as it is full. */
const TRIES_MAX = 5;
const RETRY = { initialMs: 200, maxMs: 10_000, multiplier: 2 } as const;

/** Puts back what was there before. Runs nothing of the release that failed: it is ended by its driver, and that is all. */
export class Undo {
  readonly #options: UndoOptions;

  constructor(options: UndoOptions) {
    this.#options = options;
  }

  async stop(hold: Hold, signal: AbortSignal): Promise<Done> {
    await this.#stubbornly('a service could not be stopped to put back what was there before', signal, () =>
      hold.stop(),
    );
    return { message: 'it ended' };
  }

  async switch(deploy: Deploy, hold: Hold, signal: AbortSignal): Promise<Done> {
    const before = beforeOf(deploy);
    const { service, to } = deploy;
    const { places, held, pins, clock } = this.#options;
    const release = before.source?.release?.ref;
    await this.#stubbornly('what a service ran from could not be put back', signal, async () => {
      await hold.become(sourceOfBefore(before));
      await switchCurrent(places, service, release);
      if (before.pinned && release) await pins.restore(service, release.digest);
      else await pins.unpin(service);
      await held.change(service, (one) => {
        const marked = release?.digest === to.digest ? one : bad(one, to.digest, clock.now());
        return { ...marked, pinned: before.pinned };
      });
    });
    if (release) return { message: `it runs from ${release.version} again` };
    return { message: before.source ? 'it runs by its own manifest again' : 'there is no such service any more' };
  }

  start(hold: Hold): Promise<Done> {
    return startOf(hold);
  }

  /** Its ports and its ping, as they are now; no program. */
  async verify(hold: Hold): Promise<Done> {
    const source = hold.source();
    if (!source) throw new MusterError('internal', 'an undo waits for a service that is not there');
    const passed = await checksPass(hold, source.manifest, this.#options.clock);
    return { message: passed.length === 0 ? 'it stayed up' : passed.join(', ') };
  }

  async #stubbornly(what: string, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { clock, random, logger } = this.#options;
    const retry = new Backoff(RETRY, random);
    for (let tries = 1; ; tries += 1) {
      try {
        await work();
        return;
      } catch (error) {
        if (isCode(error, 'exhausted')) tries -= 1;
        if (tries >= TRIES_MAX) throw error;
        logger.warn(what, { error });
        await sleep(clock, retry.next(), signal);
      }
    }
  }
}

export function beforeOf({ before }: Deploy): Before {
  if (before) return before;
  throw new MusterError('internal', 'an undo does not know what was there before');
}
