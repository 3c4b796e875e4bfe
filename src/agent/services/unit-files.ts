import { lstat, open, rm } from 'node:fs/promises';
import { constants } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../kit/clock.js';
import { errnoOf, messageOf, MusterError } from '../../kit/errors.js';
import { readFileIfThere, syncDirectory, writeFileDurably } from '../../kit/files.js';
import type { Logger } from '../../kit/logger.js';
import type { Manifest } from '../../model/manifest.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { ServiceSource } from '../ports.js';
import { runExternal, type ExternalResult } from '../system/external.js';
import { unitName } from './systemd-driver.js';

/**
 * Unit files that come with releases: a release whose root has the file of its manifest's unit gets that installed. What Muster has installed
 * is remembered on disk before it is written, with what was there before; going back to where there was no such file puts that back. A file
 * that somebody else put there is only replaced where the service has been run through it already.
 */
export interface UnitFilesOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where units of the machine's administrator are. Default /etc/systemd/system. */
  readonly directory?: string | undefined;
  /** How systemctl is called. */
  readonly systemctl?: readonly string[] | undefined;
}

/** By their names between @, what a unit file of a release may stand for. */
export type UnitPlaces = Readonly<Record<'RELEASE' | 'CURRENT' | 'SHARED' | 'LOGS' | 'MODULES' | 'USER', string>>;

/** A unit file that Muster installed. */
interface Installed {
  readonly unit: string;
  /** What was there before and was not Muster's; undefined: nothing. */
  readonly before?: string;
  /** Written, put back or removed, and systemd may not know it yet. */
  readonly unloaded: boolean;
}

const UNITS_DIRECTORY = '/etc/systemd/system';
const UNIT_BYTES_MAX = 256 * 1024;
const SYSTEMCTL_TIMEOUT_MS = 60_000;
const SHARED_WRITE = 0o022;

export class UnitFiles {
  readonly #options: UnitFilesOptions;
  readonly #documents: Documents<Installed>;
  readonly #directory: string;

  constructor(options: UnitFilesOptions) {
    this.#options = options;
    this.#directory = options.directory ?? UNITS_DIRECTORY;
    this.#documents = new Documents<Installed>(options.store, 'unit-file/');
  }

  /**
   * Makes the unit file what the source brings, or what it was before any release brought one. Again with the same is fine.
   * @param runBy what the service is run by now, as far as it is systemd
   * @throws precondition for a file that may not be replaced or trusted, or a systemd that does not take it; as Store.write
   */
  async become(
    service: string,
    source: ServiceSource | undefined,
    runBy: Manifest | undefined,
    places: UnitPlaces,
  ): Promise<void> {
    const installed = (await this.#documents.get(service))?.value;
    const text = source && (await this.#textOf(source, places));
    if (!source || text === undefined) {
      if (installed) await this.#putBack(service, installed);
      return;
    }
    const unit = unitName(source.manifest);
    if (installed && installed.unit !== unit) await this.#putBack(service, installed);
    const mine = installed?.unit === unit ? installed : await this.#taken(service, unit, runBy);
    await this.#install(service, mine, text);
  }

  /** @throws precondition */
  async #textOf({ manifest, folder, release }: ServiceSource, places: UnitPlaces): Promise<string | undefined> {
    if (!release || manifest.driver !== 'systemd') return undefined;
    const text = await readTrusted(folder, unitName(manifest));
    return text === undefined ? undefined : fill(text, places);
  }

  /** What is to be remembered of a place that is not Muster's yet. @throws precondition */
  async #taken(service: string, unit: string, runBy: Manifest | undefined): Promise<Installed> {
    const path = join(this.#directory, unit);
    const facts = await lstat(path).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    });
    if (!facts) {
      await this.#checkUnshadowed(service, unit, runBy);
      return { unit, unloaded: false };
    }
    if (!facts.isFile() || facts.size > UNIT_BYTES_MAX) {
      const what = facts.isSymbolicLink() ? 'a link, as of a unit that is masked or linked' : 'no unit file';
      throw refusal(`${path} is ${what}`, 'remove it, then deploy again');
    }
    if (!runBy || unitName(runBy) !== unit) {
      const todo = `remove it if ${service} is to be run from its releases, or run ${service} through it first`;
      throw refusal(`${path} is there, Muster did not install it, and ${service} is not run through it`, todo);
    }
    const before = await readFileIfThere(path);
    this.#options.logger.info('a unit file is kept aside while releases bring their own', { service, path });
    return { unit, unloaded: false, ...(before === undefined ? {} : { before }) };
  }

  /** A unit of the same name from elsewhere, as of a package, would be hidden. @throws precondition */
  async #checkUnshadowed(service: string, unit: string, runBy: Manifest | undefined): Promise<void> {
    if (runBy && unitName(runBy) === unit) return;
    const { code, output } = await this.#systemctl('show', unit, '--property=FragmentPath', '--value');
    if (code !== 0 || output === '') return;
    const todo = `name another unit in the manifest, or run ${service} through it first`;
    throw refusal(`${unit} is known to systemd from ${output}, and ${service} is not run through it`, todo);
  }

  async #install(service: string, installed: Installed, text: string): Promise<void> {
    const path = join(this.#directory, installed.unit);
    if (!installed.unloaded && (await readFileIfThere(path)) === text) return;
    await this.#documents.put(service, { ...installed, unloaded: true });
    await this.#write(path, text);
    await this.#reload();
    await this.#documents.put(service, { ...installed, unloaded: false });
  }

  async #putBack(service: string, { before, unit }: Installed): Promise<void> {
    const path = join(this.#directory, unit);
    if (before === undefined) {
      await rm(path, { force: true });
      await syncDirectory(this.#directory);
    } else await this.#write(path, before);
    await this.#reload();
    await this.#documents.delete(service);
  }

  async #write(path: string, text: string): Promise<void> {
    try {
      await writeFileDurably(path, text, 0o644);
    } catch (error) {
      const reason = errnoOf(error);
      if (reason === 'ENOSPC' || reason === 'EDQUOT') throw error;
      throw refusal(`the unit file ${path} cannot be written: ${messageOf(error)}`, 'run the agent as root', error);
    }
  }

  async #reload(): Promise<void> {
    const { code, output, timedOut } = await this.#systemctl('daemon-reload');
    if (code === 0) return;
    throw refusal(`systemctl daemon-reload ${timedOut ? 'took too long' : `failed: ${output}`}`, 'look at systemd');
  }

  #systemctl(...args: readonly string[]): Promise<ExternalResult> {
    const { clock, systemctl = ['systemctl'] } = this.#options;
    return runExternal(clock, { command: [...systemctl, ...args], timeoutMs: SYSTEMCTL_TIMEOUT_MS });
  }
}

/** Percent signs are the unit file's own for specifiers. */
function fill(text: string, places: UnitPlaces): string {
  const names = Object.keys(places).join('|');
  return text.replaceAll(new RegExp(`@(${names})@`, 'g'), (_whole, name: keyof UnitPlaces) =>
    places[name].replaceAll('%', '%%'),
  );
}

/**
 * The text of a release's unit file; undefined where it has none. systemd runs it as root, so nobody but the agent may have been able to
 * change it since it was unpacked.
 * @throws precondition
 */
async function readTrusted(release: string, name: string): Promise<string | undefined> {
  const path = join(release, name);
  try {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
    const handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const facts = await handle.stat();
      if (!facts.isFile() || facts.size > UNIT_BYTES_MAX) throw refusal(`${path} is no unit file`, 'mend the release');
      for (const one of [facts, await lstat(release)]) checkOwner(path, one);
      return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (errnoOf(error) === 'ELOOP')
      throw refusal(`${path} is a link`, 'put the unit file itself into the release', error);
    throw error;
  }
}

function checkOwner(path: string, { uid, mode }: { readonly uid: number; readonly mode: number }): void {
  const own = process.getuid?.() ?? 0;
  if ((uid === own || uid === 0) && (mode & SHARED_WRITE) === 0) return;
  throw refusal(
    `${path} is not used: others than the agent may have changed it since it was unpacked`,
    'the release and its unit file must belong to the agent, and nobody else may write there',
  );
}

function refusal(what: string, todo: string, cause?: unknown): MusterError {
  return new MusterError('precondition', `${what}: ${todo}`, { reason: 'UNIT_FILE', cause });
}
