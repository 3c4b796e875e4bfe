import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Archives } from '../../src/agent/deploy/archives.js';
import { Deploys, type DeploysOptions } from '../../src/agent/deploy/deploys.js';
import type { ArtifactSource } from '../../src/agent/deploy/fetch.js';
import type { ConfigPins, DeployableServices, Hold, ServiceSource } from '../../src/agent/ports.js';
import { NotStarted } from '../../src/agent/services/outcomes.js';
import { digestFile } from '../../src/archive/digest.js';
import { inspectArchive, type Inspected } from '../../src/archive/inspect.js';
import { packDirectory } from '../../src/archive/pack.js';
import { generateSigningKey, isSignedBy, signArtifact, type SigningKey } from '../../src/archive/signature.js';
import { unpackArchive } from '../../src/archive/unpack.js';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import type { CheckResult, InstanceReport } from '../../src/model/instance.js';
import { parseManifest } from '../../src/model/manifest.js';
import type { Artifact, DeployOrder, DeployStep, ModuleRef, SignedKind } from '../../src/model/release.js';
import type { Store } from '../../src/store/port.js';
import { instanceReport } from './fake-services.js';

/** How a release of the tests behaves: in its environment, so that it is part of the release itself. */
export type Behaviour =
  | 'good'
  | 'start-fails'
  | 'unhealthy'
  | 'verify-fails'
  | 'dies-in-verify'
  | 'hook-fails'
  | 'hook-hangs'
  | 'stop-fails'
  | 'stop-hangs';

export interface ReleaseSpec {
  readonly service?: string;
  readonly version: string;
  readonly behaves?: Behaviour;
  /** More lines of its manifest. */
  readonly manifest?: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly modules?: readonly ModuleSpec[];
}

export interface ModuleSpec {
  readonly name: string;
  readonly version: string;
}

/** The center's shelf: packed, signed releases, and how it gives them out. */
export class Shelf implements ArtifactSource {
  /** Calls so far, as DIGEST@OFFSET. */
  readonly calls: string[] = [];
  /** Throw here to be away; what it returns is how many bytes the call gives before it breaks off. */
  before: (digest: string, offset: number) => number = () => Infinity;
  readonly directory: string;
  readonly key: SigningKey = generateSigningKey();
  /** Archives are plain lists of files, as plainArchives reads them: for tests that make hundreds of deploys. */
  readonly plain: boolean;
  #made = 0;

  constructor(directory: string, plain = false) {
    this.directory = directory;
    this.plain = plain;
  }

  /** A release as the center orders it. */
  async release(spec: ReleaseSpec): Promise<DeployOrder> {
    const { service = 'orders', version, behaves = 'good', manifest = '', files = {}, modules = [] } = spec;
    const pins = await Promise.all(modules.map((one) => this.module(one)));
    const pinned = pins.map(({ ref }) => `  ${ref.name}: ${ref.version}`).join('\n');
    const text = [
      `name: ${service}`,
      `version: ${version}`,
      // What a unit or an init script says itself.
      ...(manifest.startsWith('driver:') ? [] : ['command: [node, server.js]', `env: { BEHAVES: ${behaves} }`]),
      manifest,
      pins.length > 0 ? `modules:\n${pinned}` : '',
    ].join('\n');
    const artifact = await this.#pack(
      'release',
      { name: service, version },
      { 'muster.yaml': text, 'server.js': `// ${version}`, ...files },
    );
    return {
      release: { service, version, digest: artifact.digest, modules: pins.map(({ ref }) => ref), configRevision: 0 },
      artifact,
      moduleArtifacts: pins.map((one) => one.artifact),
    };
  }

  async module({ name, version }: ModuleSpec): Promise<{ readonly ref: ModuleRef; readonly artifact: Artifact }> {
    const files = { 'module.yaml': `name: ${name}\nversion: ${version}\n`, 'index.js': `// ${name} ${version}` };
    const artifact = await this.#pack('module', { name, version }, files);
    return { ref: { name, version, digest: artifact.digest }, artifact };
  }

  async *read(digest: string, offset: number): AsyncGenerator<Uint8Array> {
    this.calls.push(`${digest.slice(0, 8)}@${offset}`);
    const most = this.before(digest, offset);
    const bytes = (await readFile(join(this.directory, digest))).subarray(offset);
    yield bytes.subarray(0, Math.min(most, bytes.length));
    if (most < bytes.length) throw new MusterError('unavailable', 'the connection was lost');
  }

  async #pack(
    kind: SignedKind,
    facts: { readonly name: string; readonly version: string },
    files: Readonly<Record<string, string>>,
  ): Promise<Artifact> {
    this.#made += 1;
    if (this.plain) {
      const bytes = Buffer.from(JSON.stringify(files));
      const digest = createHash('sha256').update(bytes).digest('hex');
      await writeFile(join(this.directory, digest), bytes);
      return { digest, sizeBytes: bytes.length, signature: { publicKey: '', signature: '' } };
    }
    const from = join(this.directory, `.${this.#made}`);
    await mkdir(from, { recursive: true });
    for (const [path, text] of Object.entries(files)) {
      await mkdir(join(from, path, '..'), { recursive: true });
      await writeFile(join(from, path), text);
    }
    const out = join(this.directory, `.${this.#made}.tar.gz`);
    const { digest, sizeBytes } = await packDirectory(from, out);
    await writeFile(join(this.directory, digest), await readFile(out));
    return { digest, sizeBytes, signature: signArtifact(this.key.privateKey, kind, { ...facts, digest }) };
  }
}

export const realArchives: Archives = {
  digest: digestFile,
  isSignedBy,
  inspect: inspectArchive,
  unpack: unpackArchive,
};

/** The archives of a plain shelf. */
export const plainArchives: Archives = {
  digest: digestFile,
  isSignedBy: () => true,
  inspect: async (path): Promise<Inspected> => {
    const texts = await plainFiles(path);
    const has = (name: string): boolean => texts.has(name);
    return { files: texts.size, unpackedBytes: 1000, texts, has, isDirectory: () => false };
  },
  unpack: async (path, into) => {
    await mkdir(into);
    const texts = await plainFiles(path);
    for (const [name, text] of texts) await writeFile(join(into, name), text);
    return { files: texts.size, unpackedBytes: 1000, texts };
  },
};

async function plainFiles(path: string): Promise<Map<string, string>> {
  return new Map(Object.entries(JSON.parse(await readFile(path, 'utf8')) as Record<string, string>));
}

/** How long a stop hangs before its driver ends the service by force. */
const HANGS_MS = 200;

/** A source as it is kept on the machine: plain values. */
type StoredSource = Omit<ServiceSource, 'manifest'>;

/** What outlives the agent: its records of services, and the services. */
export interface World {
  readonly sources: Record<string, StoredSource>;
  readonly wanted: Record<string, boolean>;
  /** Folder that a service runs from. */
  readonly running: Record<string, string>;
  /** All that happened, in order: `start VERSION`, `stop VERSION`, `run PROGRAM of VERSION`. */
  readonly trace: string[];
  readonly pins: Record<string, string>;
  /** By version, how a release behaves now that was made to behave otherwise. */
  readonly turned: Record<string, Behaviour>;
}

export function newWorld(): World {
  return { sources: {}, wanted: {}, running: {}, trace: [], pins: {}, turned: {} };
}

/** One process of the agent as it sees the world; `step` is told before and after each change, and never comes back in one that is killed. */
export class FakeMachine implements DeployableServices, ConfigPins {
  readonly world: World;
  /** Steps shown in the report, as they came. */
  readonly shown: (DeployStep | undefined)[] = [];
  readonly #step: (what: string) => Promise<void>;
  readonly #holders = new Map<string, string>();
  #pid = 100;

  constructor(world: World, step: (what: string) => Promise<void> = () => Promise.resolve()) {
    this.world = world;
    this.#step = step;
  }

  /** A service by its own manifest, running. */
  declare(service: string, version: string): void {
    const manifestText = `{ name: ${service}, version: ${version}, command: [node, old.js] }`;
    this.world.sources[service] = { manifestText, folder: `/manifests/${service}`, release: undefined };
    this.world.running[service] = `/manifests/${service}`;
    this.world.wanted[service] = true;
  }

  userOf(): Promise<{ uid: number; gid: number } | undefined> {
    return Promise.resolve(undefined);
  }

  hold(service: string, why: string): Promise<Hold> {
    const holder = this.#holders.get(service);
    if (holder !== undefined) return Promise.reject(new MusterError('conflict', `${service} is held by ${holder}`));
    this.#holders.set(service, why);
    return Promise.resolve(new FakeHold(this, service));
  }

  release(service: string): void {
    this.#holders.delete(service);
  }

  get held(): number {
    return this.#holders.size;
  }

  nextPid(): number {
    this.#pid += 1;
    return this.#pid;
  }

  /** A change of the world: all of it or, in a process that is killed before, nothing. */
  async change(what: string, change: () => void): Promise<void> {
    await this.#step(`before ${what}`);
    this.world.trace.push(what);
    change();
    await this.#step(`after ${what}`);
  }

  async keep(service: string, digest: string): Promise<number> {
    await this.#step(`keep ${service} ${digest}`);
    return 7;
  }

  async restore(service: string, digest: string): Promise<number> {
    await this.change(`restore config`, () => (this.world.pins[service] = digest));
    return 7;
  }

  async unpin(service: string): Promise<void> {
    await this.#step(`unpin ${service}`);
    Reflect.deleteProperty(this.world.pins, service);
  }

  forget(): Promise<void> {
    return Promise.resolve();
  }
}

class FakeHold implements Hold {
  readonly #machine: FakeMachine;
  readonly #service: string;
  #pid = 0;
  #exitCode: number | undefined;
  #restarts = 0;

  constructor(machine: FakeMachine, service: string) {
    this.#machine = machine;
    this.#service = service;
    if (machine.world.running[service] !== undefined) this.#pid = machine.nextPid();
  }

  source(): ServiceSource | undefined {
    const stored = this.#machine.world.sources[this.#service];
    return stored && { ...stored, manifest: parseManifest(stored.manifestText) };
  }

  report(): InstanceReport | undefined {
    const source = this.source();
    if (!source) return undefined;
    const running = this.#machine.world.running[this.#service] !== undefined;
    const { manifest, release } = source;
    const health = this.#behaves(manifest) === 'unhealthy' ? 'CRITICAL' : 'PASSING';
    const checks = [...manifest.ports.map(({ name }) => `port ${name}`), ...(manifest.ping ? ['ping'] : [])];
    return instanceReport(this.#service, {
      version: manifest.version,
      state: running ? 'RUNNING' : 'STOPPED',
      pid: running ? this.#pid : 0,
      wanted: this.wanted,
      restarts: this.#restarts,
      exitCode: this.#exitCode,
      startedMs: 1,
      release,
      checks: checks.map((name): CheckResult => ({
        name,
        kind: 'tcp',
        health,
        sinceMs: 2,
        lastRunMs: 2,
        tookMs: 1,
        output: 'refused',
        streak: 1,
      })),
    });
  }

  get wanted(): boolean {
    return this.#machine.world.wanted[this.#service] ?? true;
  }

  step(step: DeployStep | undefined): void {
    this.#machine.shown.push(step);
  }

  async stop(): Promise<void> {
    const { world } = this.#machine;
    if (world.running[this.#service] === undefined) return;
    if (this.#behaves() === 'stop-fails') throw new MusterError('precondition', 'its stop script did not end');
    if (this.#behaves() === 'stop-hangs') await sleep(systemClock, HANGS_MS);
    await this.#machine.change(`stop ${this.#version()}`, () => {
      Reflect.deleteProperty(world.running, this.#service);
    });
  }

  async become(source: ServiceSource | undefined): Promise<void> {
    const { world } = this.#machine;
    if (world.running[this.#service] !== undefined) throw new MusterError('internal', 'it is not stopped');
    await this.#machine.change(`become ${source?.manifest.version ?? 'nothing'}`, () => {
      if (!source) {
        Reflect.deleteProperty(world.sources, this.#service);
        return;
      }
      const { manifestText, folder, release } = source;
      world.sources[this.#service] = { manifestText, folder, release };
      world.wanted[this.#service] ??= true;
    });
  }

  async start(): Promise<InstanceReport> {
    const { world } = this.#machine;
    const source = this.source();
    if (!source) throw new MusterError('not_found', 'there is no such service');
    if (world.running[this.#service] === source.folder) return this.#reported();
    if (this.#behaves() === 'start-fails') {
      await this.#machine.change(`start ${this.#version()}`, () => undefined);
      this.#exitCode = 3;
      const words = `the last words of ${this.#version()}`;
      const reason = `ended with code 3 after 1ms, saying "${words}"; given up after 6 tries: mend it, then "muster start orders"`;
      throw new NotStarted(this.#service, { at: 'FATAL', reason }, [words]);
    }
    await this.#machine.change(`start ${this.#version()}`, () => (world.running[this.#service] = source.folder));
    this.#pid = this.#machine.nextPid();
    return this.#reported();
  }

  async verified(configRevision: number): Promise<void> {
    const { world } = this.#machine;
    await this.#machine.change('verified', () => {
      const source = world.sources[this.#service];
      if (!source?.release) return;
      const release = { ...source.release, ref: { ...source.release.ref, configRevision }, verified: true };
      world.sources[this.#service] = { ...source, release };
    });
  }

  async run(
    source: ServiceSource,
    { argv, directory }: { argv: readonly string[]; directory: string; timeoutMs: number },
  ): Promise<{ code: number | undefined; output: string; timedOut: boolean }> {
    const [program = ''] = argv;
    const { version } = source.manifest;
    await this.#machine.change(`run ${program} of ${version}`, () => undefined);
    if (program === 'hook') await writeFile(join(directory, 'made-by-hook'), version);
    const behaves = this.#behaves(source.manifest);
    if (behaves === 'hook-hangs' && program === 'hook')
      return { code: undefined, output: 'still at it', timedOut: true };
    if (behaves === 'dies-in-verify') this.#restarts += 1;
    const fails = behaves === (program === 'hook' ? 'hook-fails' : 'verify-fails');
    return { code: fails ? 4 : 0, output: fails ? `${program} says no` : '', timedOut: false };
  }

  lastOutput(): Promise<readonly string[]> {
    return Promise.resolve([`the last words of ${this.#version()}`]);
  }

  letGo(): void {
    this.#machine.release(this.#service);
  }

  #reported(): InstanceReport {
    const report = this.report();
    if (!report) throw new MusterError('not_found', 'there is no such service');
    return report;
  }

  #behaves(manifest = this.source()?.manifest): string {
    return this.#machine.world.turned[manifest?.version ?? ''] ?? manifest?.env['BEHAVES'] ?? 'good';
  }

  #version(): string {
    return this.source()?.manifest.version ?? '';
  }
}

export interface Bench {
  readonly data: string;
  readonly shelf: Shelf;
  /** Removes everything. */
  clean(): Promise<void>;
}

export async function newBench(plain = false): Promise<Bench> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-deploy-'));
  const data = join(directory, 'data');
  const shelf = new Shelf(join(directory, 'shelf'), plain);
  await mkdir(join(data, 'services'), { recursive: true });
  await mkdir(shelf.directory);
  return { data, shelf, clean: () => rm(directory, { recursive: true, force: true }) };
}

/** The deploys of a machine whose services are fakes, with real archives and directories. */
export function openDeploys(
  { data, shelf }: Pick<Bench, 'data' | 'shelf'>,
  store: Store,
  machine: FakeMachine,
  options: Partial<DeploysOptions> = {},
): Promise<Deploys> {
  return Deploys.open({
    data,
    store,
    services: machine,
    pins: machine,
    archives: shelf.plain ? plainArchives : realArchives,
    source: shelf,
    backupBefore: () => Promise.resolve(undefined),
    space: { floorBytes: 0, freeBytes: () => Promise.resolve(1e12) },
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...options,
  });
}

/** The directories of a service's releases, and where `current` leads. */
export async function onDisk(data: string, service = 'orders'): Promise<{ releases: string[]; current: string }> {
  const directory = join(data, 'services', service);
  const releases = await readdir(join(directory, 'releases')).catch(() => []);
  const current = await readlink(join(directory, 'current')).catch(() => '');
  return { releases: releases.sort(), current };
}
