import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { stopped } from '../../kit/tasks.js';
import type { DeployOrder, DeployReport, ReleaseRef, RollbackOrder } from '../../model/release.js';
import type { Store } from '../../store/port.js';
import type { ConfigPins, DeployableServices } from '../ports.js';
import type { Archives } from './archives.js';
import { firstPosition, next } from './decide.js';
import type { Deploy, DeployEnd, Position } from './deploy.js';
import { Fetcher, type ArtifactSource } from './fetch.js';
import { goingBack, Held, ofVersion, verifiedBefore } from './held.js';
import { DeployJournal } from './journal.js';
import { isDirectory, Modules } from './modules.js';
import { checkRef, Places } from './places.js';
import { Pruner } from './prune.js';
import { Run } from './run.js';
import { Space, type SpaceOptions } from './space.js';
import { Steps, type BackupBefore } from './steps.js';
import { Undo } from './undo.js';

export interface DeploysOptions {
  readonly data: string;
  readonly store: Store;
  readonly services: DeployableServices;
  readonly pins: ConfigPins;
  readonly archives: Archives;
  readonly source: ArtifactSource;
  readonly backupBefore: BackupBefore;
  readonly space: SpaceOptions;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The parts that every deploy uses. */
interface Parts {
  readonly places: Places;
  readonly space: Space;
  readonly journal: DeployJournal;
  readonly held: Held;
  readonly modules: Modules;
  readonly fetcher: Fetcher;
  readonly pruner: Pruner;
  readonly undo: Undo;
}

/** Hears how far a deploy is. */
export type Heard = (deploy: Deploy) => void;

/**
 * The releases of this machine: deployed and rolled back to, one at a time for each service, each to one end whatever becomes of the agent
 * meanwhile.
 */
export class Deploys {
  readonly #options: DeploysOptions;
  readonly #parts: Parts;
  readonly #closing = new AbortController();
  /** Of services whose deploy runs: what is under way. */
  readonly #running = new Map<string, string>();

  private constructor(options: DeploysOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
  }

  /** @throws as Store.range */
  static async open(options: DeploysOptions): Promise<Deploys> {
    const { store } = options;
    const places = new Places(options.data);
    const space = new Space(options.space);
    const shared = { ...options, places, space };
    const journal = await DeployJournal.open(store);
    const held = await Held.open(store);
    const modules = await Modules.open(shared);
    const fetcher = new Fetcher(shared);
    const pruner = new Pruner({ ...shared, journal, held, modules, fetcher });
    const undo = new Undo({ ...shared, held });
    return new Deploys(options, { places, space, journal, held, modules, fetcher, pruner, undo });
  }

  /** Stops at the next entry of the journal: the agent's next process goes on from there. */
  close(): void {
    this.#closing.abort(stopped('the agent'));
  }

  /** Whether the agent is ending: then what a deploy throws is no end of it. */
  get closing(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Releases a service can go back to without a download, best first; `present`: digest of the one it runs from, which is not among them. */
  heldReleases(service: string, present: string | undefined): readonly ReleaseRef[] {
    return goingBack(this.#parts.held.of(service), present).map(({ ref }) => ref);
  }

  /**
   * Whether a deploy of it is at a step that starts it or comes before that: an agent that begins leaves the start to the deploy. Before the
   * stop, and once it has been started, it is run as its record says.
   */
  isDeploying(service: string): boolean {
    return this.#parts.journal.unfinished().some(({ service: its, at }) => its === service && startsLater(at));
  }

  /** An unfinished deploy, or one whose end the command has not heard yet. */
  find(id: string): Deploy | undefined {
    return this.#parts.journal.find(id);
  }

  /** @throws invalid; conflict while another is under way on the service; the store's failure, the closing */
  async deploy(id: string, order: DeployOrder, heard: Heard): Promise<DeployEnd> {
    const { service } = order.release;
    checkRef(service, order.release);
    return this.#alone(service, `the deploy of ${order.release.version}`, async () => {
      await this.#checkDirectories(order.release);
      const to = { ...order.release, configRevision: 0 };
      return this.#begin({ id, service, kind: 'DEPLOY', local: false, to, order }, heard);
    });
  }

  /** @throws as deploy; precondition, not_found when there is nothing to go back to */
  async rollBack(id: string, service: string, order: RollbackOrder, heard: Heard): Promise<DeployEnd> {
    return this.#rollBack({ id, service, local: false }, order, heard);
  }

  /** A rollback asked for on the machine itself, only to what is on it. @throws as rollBack; precondition when it failed */
  async rollBackHere(service: string, version: string): Promise<DeployReport> {
    const id = newId('rollback');
    const begun = { id, service, local: true };
    const end = await this.#rollBack(begun, { version, release: undefined }, () => undefined);
    if (end.outcome === 'SUCCEEDED') return end.report;
    throw new MusterError('precondition', end.message, { reason: 'ROLLBACK_FAILED' });
  }

  /** Goes on with what an earlier process left, to its end; one that has ended is answered. @throws not_found; as deploy */
  async resume(id: string, heard: Heard): Promise<DeployEnd> {
    const { journal } = this.#parts;
    const deploy = journal.find(id);
    if (!deploy) throw neverBegun();
    if (deploy.end) return deploy.end;
    return this.#alone(deploy.service, `the deploy of ${deploy.to.version}`, () => {
      const found = deploy.found + 1;
      const at = next(deploy.at, 'found', found);
      return this.#run({ ...deploy, found, at, ...gaveUp(deploy, at) }, heard);
    });
  }

  /**
   * Forgets deploys whose commands have ended, and goes on with rollbacks that were asked for on the machine. Call once, when services are
   * ready; `claimed`: commands that go on with theirs.
   */
  async resumeOthers(claimed: ReadonlySet<string>): Promise<void> {
    const { journal } = this.#parts;
    const { logger } = this.#options;
    for (const { id, local, end } of journal.all()) {
      if (claimed.has(id)) continue;
      if (end || !local) await journal.remove(id);
      else {
        void this.resume(id, () => undefined).catch((error: unknown) => {
          if (!this.closing) logger.error('a rollback could not be gone on with', { id, error });
        });
      }
    }
  }

  async #rollBack(
    { id, service, local }: Pick<Deploy, 'id' | 'service' | 'local'>,
    order: RollbackOrder,
    heard: Heard,
  ): Promise<DeployEnd> {
    const what = `a rollback${order.version === '' ? '' : ` to ${order.version}`}`;
    return this.#alone(service, what, async () => {
      const { to, from } = await this.#target(service, order);
      checkRef(service, to);
      if (to.digest === from?.digest) return alreadyThere(to);
      return this.#begin({ id, service, kind: 'ROLLBACK', local, to, order: order.release }, heard, from);
    });
  }

  /** Where to go back to: what is on the machine first, then what the center offers. */
  async #target(
    service: string,
    { version, release }: RollbackOrder,
  ): Promise<{ readonly to: ReleaseRef; readonly from: ReleaseRef | undefined }> {
    const from = await this.#present(service);
    const held = this.#parts.held.of(service);
    const here = version === '' ? verifiedBefore(held, from?.digest) : ofVersion(held, version);
    if (here && (await this.#checkDirectories(here.ref))) return { to: here.ref, from };
    if (release) return { to: { ...release.release, configRevision: 0 }, from };
    throw nothingBefore(service, version);
  }

  async #present(service: string): Promise<ReleaseRef | undefined> {
    const hold = await this.#options.services.hold(service, 'a rollback');
    try {
      return hold.source()?.release?.ref;
    } finally {
      hold.letGo();
    }
  }

  async #begin(
    begun: Pick<Deploy, 'id' | 'service' | 'kind' | 'local' | 'to' | 'order'>,
    heard: Heard,
    from?: ReleaseRef,
  ): Promise<DeployEnd> {
    const { held, modules } = this.#parts;
    const known =
      held.find(begun.service, begun.to.digest) !== undefined && begun.to.modules.every((ref) => modules.has(ref));
    const deploy: Deploy = {
      ...begun,
      from: from ?? (await this.#present(begun.service)),
      startedMs: this.#options.clock.now(),
      found: 0,
      at: firstPosition(begun, { held: known }),
      steps: [],
      backup: '',
      verified: [],
    };
    return this.#run(deploy, heard);
  }

  #run(deploy: Deploy, heard: Heard): Promise<DeployEnd> {
    const { signal } = this.#closing;
    const steps = new Steps({ ...this.#options, ...this.#parts });
    const run = new Run(deploy, { ...this.#options, ...this.#parts, steps, tell: heard, signal });
    return run.toEnd();
  }

  /** @throws conflict */
  async #alone(service: string, what: string, work: () => Promise<DeployEnd>): Promise<DeployEnd> {
    const other = this.#running.get(service);
    if (other !== undefined) {
      throw new MusterError('conflict', `${other} is under way on ${service} on this machine: wait for its end`, {
        reason: 'DEPLOY_UNDER_WAY',
      });
    }
    this.#running.set(service, what);
    try {
      return await work();
    } finally {
      this.#running.delete(service);
    }
  }

  /**
   * A release or module whose directory somebody removed is not complete any more: it is fetched again. Resolves with whether the release is
   * complete with all that it pins.
   */
  async #checkDirectories(ref: ReleaseRef): Promise<boolean> {
    const { held, modules, places } = this.#parts;
    const pinned = await modules.recheck(ref.modules);
    if (!held.find(ref.service, ref.digest)) return false;
    if (await isDirectory(places.release(ref))) return pinned;
    this.#options.logger.warn('the directory of a release is gone', { service: ref.service, version: ref.version });
    await held.change(ref.service, (one) => ({
      ...one,
      releases: one.releases.filter(({ ref: { digest } }) => digest !== ref.digest),
    }));
    return false;
  }
}

function startsLater(at: Position): boolean {
  return at.phase !== 'ended' && ['STOP', 'SWITCH', 'START'].includes(at.step);
}

/** A command that had begun and left no entry: without one nothing happens. */
function neverBegun(): MusterError {
  return new MusterError('cancelled', 'the agent ended before it had begun: nothing was changed, order it again');
}

/** What a deploy says that is undone because processes of the agent ended in it again and again. */
function gaveUp({ at, found, failure, steps }: Deploy, then: Deploy['at']): Partial<Deploy> {
  const undone = then.phase === 'undo' || (then.phase === 'ended' && then.outcome === 'FAILED');
  if (at.phase !== 'forward' || !undone || failure) return {};
  const message = `the agent ended ${found + 1} times in it`;
  const last = steps.at(-1);
  return {
    failure: { step: at.step, message },
    steps: last ? [...steps.slice(0, -1), { ...last, outcome: 'FAILED' as const, message }] : steps,
  };
}

/** Of many machines some may be where all are to be. */
function alreadyThere(ref: ReleaseRef): DeployEnd {
  const nothing = { steps: [], rolledBack: false, verified: [], backup: '', downtimeMs: undefined };
  return {
    outcome: 'SUCCEEDED',
    message: `it runs from ${ref.version} already: nothing was done`,
    report: { from: ref, to: ref, current: ref, ...nothing },
  };
}

function nothingBefore(service: string, version: string): MusterError {
  const what =
    version === ''
      ? `no release of ${service} was verified on this machine before the present one: name the version to go back to, with --to VERSION; "muster services ${service} --detail" shows what is held`
      : `${service} ${version} is not on this machine: deploy it, or roll back through the center`;
  return new MusterError('precondition', what, { reason: 'NOTHING_TO_GO_BACK_TO' });
}
