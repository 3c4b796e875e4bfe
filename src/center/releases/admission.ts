import { inspectArchive, type Inspected } from '../../archive/inspect.js';
import { RELEASE_LIMITS } from '../../archive/limits.js';
import { MusterError } from '../../kit/errors.js';
import { parseManifest, invalidManifest, type Manifest } from '../../model/manifest.js';
import { readYaml, type Issue } from '../../model/manifest-text.js';
import { MODULE_MANIFEST, parseModuleManifest, type ModuleManifest } from '../../model/module-manifest.js';

/** Where a release says what it is, in its archive. */
const MANIFEST = 'muster.yaml';
/** Where an agent links the modules that a release pins. */
const MODULES = 'modules';

interface Looked {
  /** Entries of the archive, and their bytes when unpacked. */
  readonly files: number;
  readonly unpackedBytes: number;
}

export interface LookedAtRelease extends Looked {
  readonly manifest: Manifest;
  readonly text: string;
}

export interface LookedAtModule extends Looked {
  readonly manifest: ModuleManifest;
}

/** A pin that cannot be had: which module, and what is wrong with it. */
export interface BadPin {
  readonly name: string;
  readonly problem: string;
}

/**
 * Looks at every entry of an archive that shall be a release, and at its manifest.
 * @throws invalid with the line and column of each mistake, or naming the entry that cannot be
 */
export async function lookAtRelease(path: string, signal?: AbortSignal): Promise<LookedAtRelease> {
  const limits = RELEASE_LIMITS;
  const found = await inspectArchive(path, { limits, texts: [MANIFEST], signal });
  const text = textOf(found, MANIFEST);
  const manifest = parseManifest(text);
  const issues = [...versionIssues(text), ...missingFiles(manifest, found), ...inTheWay(manifest, found)];
  if (issues.length > 0) throw mistakesIn(text, issues);
  return { manifest, text, files: found.files, unpackedBytes: found.unpackedBytes };
}

/** As lookAtRelease, for a module. @throws as lookAtRelease */
export async function lookAtModule(path: string, signal?: AbortSignal): Promise<LookedAtModule> {
  const found = await inspectArchive(path, { limits: RELEASE_LIMITS, texts: [MODULE_MANIFEST], signal });
  const manifest = parseModuleManifest(textOf(found, MODULE_MANIFEST));
  return { manifest, files: found.files, unpackedBytes: found.unpackedBytes };
}

/** The failure for pins that cannot be had, each with its place in the manifest. */
export function badPins(text: string, pins: readonly BadPin[]): MusterError {
  return mistakesIn(
    text,
    pins.map(({ name, problem }) => ({ path: ['modules', name], text: problem })),
  );
}

function mistakesIn(text: string, issues: readonly Issue[]): MusterError {
  return invalidManifest(readYaml(text, MANIFEST).locate(issues));
}

function textOf({ texts }: Inspected, name: string): string {
  const text = texts.get(name);
  if (text !== undefined) return text;
  throw new MusterError('invalid', `the archive has no ${name} at its root: pack the directory that holds it`, {
    reason: 'MANIFEST_MISSING',
  });
}

/** Whoever deploys a version must have been told it: the default is none. */
function versionIssues(text: string): Issue[] {
  const { value } = readYaml(text, MANIFEST);
  const written = typeof value === 'object' && value !== null && 'version' in value;
  return written
    ? []
    : [{ path: ['version'], text: 'missing: a release says its version, for example version: "1.4.2"' }];
}

/** What the manifest runs out of the archive and is not in it. What an install hook makes cannot be known here. */
function missingFiles({ hooks, command, verify, config, directory }: Manifest, archive: Inspected): Issue[] {
  const made = hooks.install !== undefined;
  const named: readonly { readonly path: readonly (string | number)[]; readonly file: string | undefined }[] = [
    { path: ['hooks', 'install', 0], file: inside(hooks.install?.[0]) },
    { path: ['command', 0], file: made || directory !== undefined ? undefined : inside(command[0]) },
    { path: ['verify', 'exec', 0], file: made ? undefined : inside(verify?.exec[0]) },
    { path: ['config', 'schema'], file: made ? undefined : config?.schema },
  ];
  return named.flatMap(({ path, file }) =>
    file === undefined || archive.has(file)
      ? []
      : [{ path, text: `the archive has no ${file}: put it there, or correct the name` }],
  );
}

/** The agent links pinned modules into the release: nothing of the archive may be there. */
function inTheWay({ modules }: Manifest, archive: Inspected): Issue[] {
  const pins = Object.keys(modules);
  if (pins.length > 0 && archive.has(MODULES) && !archive.isDirectory(MODULES)) {
    return [{ path: ['modules'], text: `${MODULES} in the archive is no directory: that is where modules are linked` }];
  }
  return pins
    .filter((name) => archive.has(`${MODULES}/${name}`))
    .map((name) => ({
      path: ['modules', name],
      text: `the archive holds ${MODULES}/${name} itself: that is where the module is linked, so take it out`,
    }));
}

/** The path in the archive that a program is; undefined for one that is found elsewhere, or below a pinned module. */
function inside(program: string | undefined): string | undefined {
  if (program === undefined || !program.includes('/') || program.startsWith('/')) return undefined;
  const parts = program.split('/').filter((part) => part !== '' && part !== '.');
  return parts.includes('..') || parts[0] === MODULES ? undefined : parts.join('/');
}
