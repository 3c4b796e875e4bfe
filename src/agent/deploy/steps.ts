import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TEXT_BYTES_MAX } from '../../archive/texts.js';
import type { Clock } from '../../kit/clock.js';
import { counted } from '../../kit/counted.js';
import { formatDuration, formatSize } from '../../kit/durations.js';
import { errnoOf, MusterError } from '../../kit/errors.js';
import { makeDirectory, syncDirectory } from '../../kit/files.js';
import { parseManifest, type Manifest } from '../../model/manifest.js';
import type { DeployOrder, ReleaseRef } from '../../model/release.js';
import type { ConfigPins, DeployableServices, Hold, ServiceSource } from '../ports.js';
import { NotStarted } from '../services/outcomes.js';
import { unitName } from '../services/systemd-driver.js';
import type { Archives } from './archives.js';
import { switchCurrent } from './current.js';
import type { Deploy } from './deploy.js';
import { StepFailed } from './failure.js';
import type { Fetcher } from './fetch.js';
import { listed, type Held, type HeldRelease } from './held.js';
import { MODULES_DIRECTORY, type Modules } from './modules.js';
import type { Places } from './places.js';
import { checkedManifest, sourceOfRelease } from './source.js';
import type { Space } from './space.js';
import { giveTo, removeTheirs, takeOver } from './takeover.js';
import { checksPass, lastOutputOf, programPasses } from './verify.js';
import { endWriters } from './writers.js';

/** Makes the backup that a service's manifest asks for before a deploy; undefined: it asks for none. */
export type BackupBefore = (
  service: string,
  command: string,
) => Promise<{ readonly backup: string; readonly message: string } | undefined>;

export interface StepsOptions {
  readonly places: Places;
  readonly archives: Archives;
  readonly space: Space;
  readonly fetcher: Fetcher;
  readonly modules: Modules;
  readonly held: Held;
  readonly services: DeployableServices;
  readonly pins: ConfigPins;
  readonly backupBefore: BackupBefore;
  readonly clock: Clock;
}

/** What a step did. */
export interface Done {
  /** For people. */
  readonly message: string;
  /** There was nothing to do after all. */
  readonly skipped?: true;
  readonly change?: Pick<Deploy, 'backup'> | Pick<Deploy, 'verified'>;
}

/** A release in its directory that is not complete yet: its install hook has not run. */
interface Unpacked {
  readonly manifest: Manifest;
  readonly manifestText: string;
}

const MANIFEST = 'muster.yaml';

/** The steps of one deploy up to its verify. Each can be done again by a later process, from whatever state an earlier one left. */
export class Steps {
  readonly #options: StepsOptions;
  #unpacked: Unpacked | undefined;

  constructor(options: StepsOptions) {
    this.#options = options;
  }

  /** Whether an unpacked release waits for its install hook. */
  get hook(): boolean {
    return this.#unpacked?.manifest.hooks.install !== undefined;
  }

  async fetch(deploy: Deploy, signal: AbortSignal): Promise<Done> {
    const { fetcher, modules } = this.#options;
    const { release, artifact, moduleArtifacts } = orderOf(deploy);
    const { service: name, version } = release;
    let bytes = await fetcher.fetch({ kind: 'release', name, version, artifact }, signal);
    for (const [index, ref] of release.modules.entries()) {
      const its = moduleArtifacts[index];
      if (!its || modules.has(ref)) continue;
      bytes += await fetcher.fetch({ kind: 'module', name: ref.name, version: ref.version, artifact: its }, signal);
    }
    if (bytes === 0) return { message: 'it had been downloaded; digest and signature checked' };
    return { message: `${formatSize(bytes)} downloaded, digests and signatures checked` };
  }

  async backup({ service, id }: Deploy): Promise<Done> {
    const made = await this.#options.backupBefore(service, id);
    if (!made) return { message: 'there is nothing that its manifest wants in a backup', skipped: true };
    return { message: made.message, change: { backup: made.backup } };
  }

  async modules({ to, order }: Deploy): Promise<Done> {
    const { modules } = this.#options;
    const made: string[] = [];
    for (const [index, ref] of to.modules.entries()) {
      if (await modules.ensure(ref, order?.moduleArtifacts[index]?.unpacked)) made.push(`${ref.name} ${ref.version}`);
    }
    if (made.length === 0) return { message: 'all that it pins were on this machine' };
    return { message: `unpacked ${made.join(', ')}` };
  }

  /** In one pass over the archive: what that or the manifest in it is refused for leaves nothing behind. */
  async unpack({ to, order }: Deploy): Promise<Done> {
    const { places, archives, space } = this.#options;
    const into = places.release(to);
    const expected = order?.artifact.unpacked;
    await makeDirectory(places.releases(to.service), 0o755);
    await removeTheirs(into);
    if (expected) await space.require(places.releases(to.service), `${to.service} ${to.version}`, expected);
    const rules = { texts: [MANIFEST], forbidden: [MODULES_DIRECTORY], expected };
    const { texts, files, unpackedBytes: bytes } = await archives.unpack(places.artifact(to.digest), into, rules);
    const manifestText = texts.get(MANIFEST);
    try {
      await this.#admit(to, manifestText);
    } catch (error) {
      await removeTheirs(into);
      throw error;
    }
    if (!this.hook) await this.#list(to, manifestText ?? '', bytes);
    return { message: `${counted(files, 'file')}, ${formatSize(bytes)}` };
  }

  /** Makes what was unpacked ready to be listed, or for its install hook. @throws invalid for a manifest that is not that of the release */
  async #admit(to: ReleaseRef, text: string | undefined): Promise<void> {
    const { places, services, clock } = this.#options;
    const manifest = checkedManifest(text, to);
    const manifestText = text ?? '';
    this.#unpacked = undefined;
    const hook = manifest.hooks.install !== undefined;
    const source = sourceOfRelease(places, { ref: to, manifestText }, clock.now());
    const owner = hook ? await services.userOf(source) : undefined;
    await this.#linkModules(to);
    if (owner) await giveTo(places.release(to), owner);
    if (hook) this.#unpacked = { manifest, manifestText };
  }

  /** In the new directory, which belongs to the service's user meanwhile and to the agent afterwards. What was there before runs on. */
  async install(deploy: Deploy): Promise<Done> {
    const { places, services, clock } = this.#options;
    const { to } = deploy;
    const unpacked = this.#unpacked;
    const argv = unpacked?.manifest.hooks.install;
    if (!unpacked || !argv) throw new MusterError('internal', 'an install hook is run without its release');
    const { manifest, manifestText } = unpacked;
    const directory = places.release(to);
    try {
      const source = sourceOfRelease(places, { ref: to, manifestText }, clock.now());
      const hold = await services.hold(deploy.service, holderOf(deploy));
      const { timeoutMs } = manifest.hooks;
      const ran = await hold.run(source, { argv, directory, timeoutMs }).finally(() => {
        hold.letGo();
      });
      if (ran.timedOut) throw new StepFailed(`${argv.join(' ')} did not end within ${formatDuration(timeoutMs)}`, ran);
      if (ran.code !== 0) throw hookFailed(argv, ran);
      const user = (await services.userOf(source))?.uid;
      const { files, bytes, inodes } = await takeOver(directory, user);
      await endWriters(inodes, user, clock);
      await this.#checkUntouched(to, manifest);
      await this.#linkModules(to);
      await this.#list(to, manifestText, bytes);
      return { message: `${argv.join(' ')}; ${counted(files, 'file')}, ${formatSize(bytes)} now` };
    } catch (error) {
      await removeTheirs(directory);
      throw error;
    }
  }

  /** What says how and as whom the service is run is as it was signed: its hook has no say in it. @throws StepFailed */
  async #checkUntouched(to: ReleaseRef, { driver, unit }: Manifest): Promise<void> {
    const { archives, places } = this.#options;
    const names = [MANIFEST, ...(driver === 'systemd' ? [unitName({ unit })] : [])];
    const { texts } = await archives.inspect(places.artifact(to.digest), { texts: names });
    for (const name of names) {
      if ((await textOf(join(places.release(to), name))) === texts.get(name)) continue;
      throw new StepFailed(
        `the install hook changed ${name}, which is used only as it was pushed: leave it alone in the hook`,
      );
    }
  }

  async stop(hold: Hold): Promise<Done> {
    const running = hold.report();
    if (!running) return { message: 'there was no such service before', skipped: true };
    await hold.stop();
    const forced = hold.report()?.reason ?? '';
    return { message: forced === '' ? 'it ended' : forced };
  }

  async switch(deploy: Deploy, hold: Hold): Promise<Done> {
    const { places, held, pins, clock } = this.#options;
    const { service, to } = deploy;
    const release = this.release(deploy);
    if (deploy.kind === 'ROLLBACK') await pins.restore(service, to.digest);
    else await pins.unpin(service);
    await held.change(service, (one) => ({ ...one, pinned: deploy.kind === 'ROLLBACK' }));
    await hold.become(sourceOfRelease(places, release, clock.now()));
    await switchCurrent(places, service, to);
    return { message: `it runs from ${places.release(to)}` };
  }

  /** @throws StepFailed also where an undo whose entries found no room has put back another release: that goes on */
  async start({ to }: Deploy, hold: Hold): Promise<Done> {
    checkRunsFrom(to, hold);
    return startOf(hold);
  }

  async verify(deploy: Deploy, hold: Hold): Promise<Done> {
    const { places, clock } = this.#options;
    const source = checkRunsFrom(deploy.to, hold);
    const passed = await checksPass(hold, source.manifest, clock);
    const program = await programPasses(hold, source.manifest, places.release(deploy.to));
    const verified = [...passed, ...program];
    return { message: verified.length === 0 ? 'it stayed up' : verified.join(', '), change: { verified } };
  }

  /** The manifest of the release, once that is complete. @throws as release */
  manifestOf(deploy: Pick<Deploy, 'service' | 'to'>): Manifest {
    return parseManifest(this.release(deploy).manifestText);
  }

  /** @throws not_found when it is not complete */
  release({ service, to }: Pick<Deploy, 'service' | 'to'>): HeldRelease {
    const found = this.#options.held.find(service, to.digest);
    if (found) return found;
    throw new MusterError('not_found', `${service} ${to.version} is not complete on this machine: deploy it again`);
  }

  async #linkModules(to: ReleaseRef): Promise<void> {
    const { places, modules } = this.#options;
    await modules.link(places.release(to), to.modules);
    for (const directory of places.above(places.release(to))) await syncDirectory(directory);
  }

  async #list(ref: ReleaseRef, manifestText: string, bytes: number): Promise<void> {
    const { held, clock } = this.#options;
    await held.change(ref.service, (one) => listed(one, { ref, manifestText, bytes, sinceMs: clock.now() }));
    this.#unpacked = undefined;
  }
}

function checkRunsFrom(to: ReleaseRef, hold: Hold): ServiceSource {
  const source = hold.source();
  if (!source) throw new StepFailed('the service is gone');
  if (source.release?.ref.digest === to.digest) return source;
  throw new StepFailed(`the service is run from ${source.release?.ref.version ?? 'its own manifest'} meanwhile`);
}

/** Starts what the service is run from. @throws StepFailed with what it printed */
export async function startOf(hold: Hold): Promise<Done> {
  try {
    const { pid } = await hold.start();
    return { message: pid > 0 ? `RUNNING, pid ${pid}` : 'RUNNING' };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const message = error instanceof NotStarted ? error.summary : error.message;
    throw new StepFailed(message, { exitCode: hold.report()?.exitCode, output: await lastOutputOf(hold) });
  }
}

/** Who holds a service, for those who are refused. */
export function holderOf({ kind, to }: Pick<Deploy, 'kind' | 'to'>): string {
  return kind === 'DEPLOY' ? `the deploy of ${to.version}` : `the rollback to ${to.version}`;
}

/** Of a plain file; undefined where there is none of that name, empty for anything else. */
async function textOf(path: string): Promise<string | undefined> {
  try {
    const facts = await lstat(path);
    return facts.isFile() && facts.size <= TEXT_BYTES_MAX ? await readFile(path, 'utf8') : '';
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function hookFailed(
  argv: readonly string[],
  { code, output }: { code: number | undefined; output: string },
): StepFailed {
  const how = code === undefined ? 'was ended by a signal' : `exited with ${code}`;
  return new StepFailed(`the install hook ${argv.join(' ')} ${how}`, { exitCode: code, output });
}

function orderOf({ order, to }: Deploy): DeployOrder {
  if (order) return order;
  throw new MusterError(
    'not_found',
    `${to.service} ${to.version} is not on this machine, and the order does not say where to get it`,
  );
}
