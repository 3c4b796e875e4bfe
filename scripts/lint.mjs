/**
 * Lint with a cache that cannot go stale. The rules know the types of other files, so a file's result depends on its own content
 * and on the declarations of all files: the cache is kept for as long as those declarations, the configuration and the installed
 * packages stay the same. Changing the inside of a function lints one file; changing what it promises lints all.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filesBelow } from './files.mjs';
import { root, run, tool } from './run.mjs';

const CACHES = join(root, 'node_modules', '.cache', 'muster-lint');
const ALL = ['--max-warnings', '0', '.'];
const ALSO = ['eslint.config.js', 'tsconfig.json', 'package-lock.json'];

/** A name for what all files declare to each other. */
async function surface() {
  const directory = await mkdtemp(join(tmpdir(), 'muster-lint-'));
  try {
    const emit = ['--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--outDir', directory];
    // Errors are for the step that checks types; what can be declared is declared all the same.
    await run(tool('tsc'), ['-p', 'tsconfig.json', ...emit]);
    const hash = createHash('sha256');
    const add = async (name, path) =>
      hash
        .update(`${name}\0`)
        .update(await readFile(path))
        .update('\0');
    for (const file of await filesBelow(directory)) await add(file, join(directory, file));
    for (const file of ALSO) await add(file, join(root, file));
    return hash.digest('hex').slice(0, 16);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Lints everything; answers as run does. A job of a CI begins with nothing and keeps nothing: there no cache is made. */
export async function lint() {
  if (process.env.CI) return run(tool('eslint'), ALL);
  const name = await surface();
  await mkdir(CACHES, { recursive: true });
  for (const other of await readdir(CACHES)) {
    if (other !== name) await rm(join(CACHES, other), { recursive: true, force: true });
  }
  const cache = ['--cache', '--cache-strategy', 'content', '--cache-location', join(CACHES, name)];
  return run(tool('eslint'), [...cache, ...ALL]);
}
