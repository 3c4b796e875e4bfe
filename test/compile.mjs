/**
 * Compiles what tests run (the sources, the generated code and the tests themselves) into build/, file by file, so that each of the
 * hundreds of processes of a test run need not do it. Types are `npm run check`'s business.
 *
 * build/ looks like the project: what is not compiled is linked there, so that paths that a test takes from its own place hold in both.
 */
import { build } from 'esbuild';
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { filesBelow } from '../scripts/files.mjs';

const root = join(import.meta.dirname, '..');
const OUT = 'build';
const COMPILED = ['src', 'generated', 'test'];
const NOT_LINKED = [...COMPILED, OUT, '.git', 'coverage'];

/** Leaves alone what is already as it is to be: another run may be going on. */
async function put(path, contents) {
  const present = await readFile(path).catch(() => undefined);
  if (present?.equals(contents)) return;
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}`;
  await writeFile(temporary, contents);
  await rename(temporary, path);
}

async function link(entry) {
  await symlink(join('..', entry), join(root, OUT, entry)).catch((error) => {
    if (error.code !== 'EEXIST') throw error;
  });
}

async function sources() {
  const folders = await Promise.all(
    COMPILED.map(async (folder) => (await filesBelow(join(root, folder))).map((file) => join(folder, file))),
  );
  return folders.flat();
}

/** @returns {Promise<(file: string) => string>} what a file of the tests is called once compiled; both from the project's root */
export async function compileTests() {
  const files = await sources();
  const typescript = files.filter((file) => file.endsWith('.ts'));
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: typescript,
    outdir: OUT,
    outbase: '.',
    format: 'esm',
    platform: 'node',
    target: 'node20',
    sourcemap: 'linked',
    write: false,
    logLevel: 'warning',
  });
  const others = files.filter((file) => !file.endsWith('.ts'));
  await mkdir(join(root, OUT), { recursive: true });
  for (const { path, contents } of outputFiles) await put(path, contents);
  for (const file of others) await put(join(root, OUT, file), await readFile(join(root, file)));
  const known = new Set([...outputFiles.map(({ path }) => path), ...others.map((file) => join(root, OUT, file))]);
  for (const folder of COMPILED) {
    for (const file of await filesBelow(join(root, OUT, folder))) {
      const path = join(root, OUT, folder, file);
      if (!known.has(path)) await rm(path, { force: true });
    }
  }
  for (const entry of await readdir(root)) if (!NOT_LINKED.includes(entry)) await link(entry);
  return (file) => join(OUT, file.replace(/\.ts$/, '.js'));
}
