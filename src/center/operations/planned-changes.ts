import { isCode } from '../../kit/errors.js';
import { parseManifest, type Manifest } from '../../model/manifest.js';
import type { InstanceReport } from '../../model/instance.js';
import type { ModuleRef, ReleaseRef } from '../../model/release.js';
import type { OperationRecord } from './operation.js';
import type { Candidate } from './targets.js';
import { sendable, type ReleaseSource } from './work.js';

/** What a deploy or a rollback would change on one machine. */
export interface PlannedChange {
  readonly from: ReleaseRef | undefined;
  /** Undefined: only its agent knows. */
  readonly to: ReleaseRef | undefined;
  /** One sentence each. */
  readonly changes: readonly string[];
  /** Why its agent would refuse it. */
  readonly problem: string | undefined;
}

const NO_CHANGE: PlannedChange = { from: undefined, to: undefined, changes: [], problem: undefined };

/** Says of each machine what an operation would change there. Reads each manifest once. */
export class Preview {
  readonly #operation: OperationRecord;
  readonly #releases: ReleaseSource;
  readonly #manifests = new Map<string, Manifest | undefined>();
  /** To which a rollback is to go; empty: each agent knows. */
  readonly #version: string;
  /** What can be downloaded. */
  readonly #sendable: ReleaseRef | undefined;

  constructor(operation: OperationRecord, releases: ReleaseSource) {
    this.#operation = operation;
    this.#releases = releases;
    const { service, action, deploy, release } = operation;
    this.#version = action === 'ROLLBACK' ? (deploy?.version ?? '') : '';
    this.#sendable = this.#version === '' ? release : sendable(releases, service, this.#version)?.release;
  }

  of(candidate: Candidate): PlannedChange {
    const { action } = this.#operation;
    if (action === 'DEPLOY') return this.#deploy(candidate);
    return action === 'ROLLBACK' ? this.#rollback(candidate) : NO_CHANGE;
  }

  #deploy(candidate: Candidate): PlannedChange {
    const from = candidate.report?.release?.ref;
    const to = this.#sendable;
    const changes = [...this.#first(candidate), ...this.#between(from, to), ...restingNote(candidate)];
    return { from, to, changes, problem: undefined };
  }

  #first(candidate: Candidate): string[] {
    const { service } = this.#operation;
    const { report, absent, online } = candidate;
    if (absent === true) return [`${service} is new on this machine`];
    if (!report)
      return [online ? 'its agent has not told of it yet' : 'its machine is not connected: what runs is not known'];
    if (report.release) return [];
    return [
      `the first release: until now it runs from ${report.generation === 0 ? 'a manifest of its machine' : 'its assignment'}`,
    ];
  }

  #rollback(candidate: Candidate): PlannedChange {
    const { report } = candidate;
    if (!report) return { ...NO_CHANGE, changes: this.#first(candidate) };
    const from = report.release?.ref;
    const there = this.#held(report);
    const to = there ?? this.#sendable;
    if (!to) return { ...NO_CHANGE, from, problem: noneHeld(candidate, this.#version) };
    const way = there ? configChange(from, there) : downloadNote(from, to);
    return { from, to, changes: [...this.#between(from, to), ...way, ...restingNote(candidate)], problem: undefined };
  }

  /** What the machine holds of what is to be put back. */
  #held({ heldReleases = [] }: InstanceReport): ReleaseRef | undefined {
    return this.#version === '' ? heldReleases[0] : heldReleases.find(({ version }) => version === this.#version);
  }

  #between(from: ReleaseRef | undefined, to: ReleaseRef | undefined): string[] {
    if (!from || !to) return [];
    if (from.digest === to.digest) return ['the same release again'];
    return [
      versionChange(from.version, to.version),
      ...moduleChanges(from.modules, to.modules),
      ...manifestChanges(this.#manifest(from), this.#manifest(to)),
    ];
  }

  /** Undefined: the center does not have it, or cannot read it. */
  #manifest({ service, version }: ReleaseRef): Manifest | undefined {
    if (this.#manifests.has(version)) return this.#manifests.get(version);
    const manifest = readManifest(this.#releases.find(service, version)?.manifest);
    this.#manifests.set(version, manifest);
    return manifest;
  }
}

function readManifest(text: string | undefined): Manifest | undefined {
  try {
    return text === undefined ? undefined : parseManifest(text);
  } catch (error) {
    if (isCode(error)) return undefined;
    throw error;
  }
}

function noneHeld({ name }: Candidate, version: string): string {
  return version === ''
    ? `${name} holds no release to go back to`
    : `${name} does not hold release ${version}, and the center cannot send it`;
}

function restingNote({ report }: Candidate): string[] {
  return report?.wanted === false ? ['it is stopped and stays stopped: nothing is verified'] : [];
}

function configChange(from: ReleaseRef | undefined, to: ReleaseRef): string[] {
  if (!from || from.configRevision === to.configRevision) return [];
  return [`configuration revision ${revision(from.configRevision)} -> ${revision(to.configRevision)}`];
}

function downloadNote(from: ReleaseRef | undefined, to: ReleaseRef): string[] {
  return from?.digest === to.digest ? [] : ['it is downloaded: the machine does not hold it'];
}

function revision(number: number): string {
  return number === 0 ? 'none' : String(number);
}

function versionChange(from: string, to: string): string {
  if (from === to) return `version ${to}, another archive`;
  return `${isDowngrade(from, to) ? 'downgrade' : 'version'} ${from} -> ${to}`;
}

/** By the numbers in it; versions are called as their authors like. */
function isDowngrade(from: string, to: string): boolean {
  return to.localeCompare(from, 'en', { numeric: true }) < 0;
}

function moduleChanges(from: readonly ModuleRef[], to: readonly ModuleRef[]): string[] {
  const before = new Map(from.map((module) => [module.name, module]));
  const names = new Set(to.map(({ name }) => name));
  return [
    ...to.flatMap((module) => moduleChange(before.get(module.name), module)),
    ...from.filter(({ name }) => !names.has(name)).map(({ name, version }) => `module ${name} ${version} -> none`),
  ];
}

function moduleChange(before: ModuleRef | undefined, { name, version, digest }: ModuleRef): string[] {
  if (!before) return [`module ${name} none -> ${version}`];
  if (before.version !== version) return [`module ${name} ${before.version} -> ${version}`];
  return before.digest === digest ? [] : [`module ${name} ${version}, another archive`];
}

/** What of a manifest people want to know before: who it runs as, by what, and what it listens on. */
function manifestChanges(from: Manifest | undefined, to: Manifest | undefined): string[] {
  if (!from || !to) return [];
  const word = (what: string, before: string | undefined, after: string | undefined): string[] =>
    before === after ? [] : [`${what} ${before ?? 'the default'} -> ${after ?? 'the default'}`];
  return [
    ...word('driver', from.driver, to.driver),
    ...word('unit', from.driver === 'process' ? '' : from.unit, to.driver === 'process' ? '' : to.unit).filter(
      () => from.driver === to.driver,
    ),
    ...word('user', from.user, to.user),
    ...word('directory', from.directory, to.directory),
    ...portChanges(from, to),
  ];
}

function portChanges(from: Manifest, to: Manifest): string[] {
  const before = new Map(from.ports.map(({ name, host, port }) => [name, `${host}:${port}`]));
  const after = new Map(to.ports.map(({ name, host, port }) => [name, `${host}:${port}`]));
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((name) => {
    const [was, is] = [before.get(name), after.get(name)];
    return was === is ? [] : [`port ${name} ${was ?? 'none'} -> ${is ?? 'none'}`];
  });
}
