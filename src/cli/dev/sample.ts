import { existsSync } from 'node:fs';
import { readFile, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory, writeFileDurably } from '../../kit/files.js';

const PACKAGE = fileURLToPath(new URL('../../../../', import.meta.url));
const GREETER = join(PACKAGE, 'examples', 'greeter');

/**
 * Puts the sample service's manifest among the machine's own, once: a manifest that is there already is the user's and stays.
 * The manifest names the folder of the example, which in a copy elsewhere would be another.
 */
export async function placeSample(manifests: string): Promise<void> {
  const file = join(manifests, 'greeter.yaml');
  await makeDirectory(manifests, 0o755);
  if (existsSync(file)) {
    const kept = await readFile(file, 'utf8');
    const moved = kept.replace(/^directory: .*\/examples\/greeter$/m, `directory: ${GREETER}`);
    if (moved !== kept) await writeFileDurably(file, moved, 0o644);
    return;
  }
  const manifest = await readFile(join(GREETER, 'muster.yaml'), 'utf8');
  await writeFileDurably(file, `${manifest.trimEnd()}\ndirectory: ${GREETER}\n`, 0o644);
}

/** The folder that holds the packages of a scope which this program uses itself. */
function scopeFolder(scope: string, member: string): string {
  const found = createRequire(import.meta.url).resolve(`${scope}/${member}`);
  const folder = join('node_modules', scope);
  return found.slice(0, found.lastIndexOf(folder) + folder.length);
}

/**
 * Makes what the sample imports findable below the session's data, where Node's own search looks for it: a release of the sample holds the
 * sample's own files alone.
 */
export async function linkLibraries(data: string): Promise<void> {
  const links = [
    { path: join(data, 'node_modules', 'muster'), to: PACKAGE },
    { path: join(data, 'node_modules', '@grpc'), to: scopeFolder('@grpc', 'grpc-js') },
  ];
  for (const { path, to } of links) {
    await makeDirectory(dirname(path), 0o755);
    await rm(path, { recursive: true, force: true });
    await symlink(to, path);
  }
}
