/**
 * `npm run build`: compiles into dist, copies what the program reads at run time beside the compiled code
 * (every file of src and generated that is not TypeScript, the descriptor set among them), and removes what no source stands behind any more.
 * It does not empty dist first: programs may be running from it.
 */
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { filesBelow } from './files.mjs';
import { root, run, tool } from './run.mjs';

const dist = join(root, 'dist');

async function sourcesOf(folder) {
  return (await filesBelow(join(root, folder))).map((file) => join(folder, file));
}

async function copyAssets(sources) {
  for (const file of sources.filter((source) => !source.endsWith('.ts'))) {
    await mkdir(dirname(join(dist, file)), { recursive: true });
    await copyFile(join(root, file), join(dist, file));
  }
}

async function removeStale(sources) {
  const known = new Set(
    sources.flatMap((file) => [file, file.replace(/\.ts$/, '.js'), file.replace(/\.ts$/, '.d.ts')]),
  );
  for (const file of await filesBelow(dist)) {
    if (!known.has(file)) await rm(join(dist, file), { force: true });
  }
}

const { code, output } = await run(tool('tsc'), ['-p', 'tsconfig.build.json']);
process.stderr.write(output);
const sources = [...(await sourcesOf('src')), ...(await sourcesOf('generated'))];
await copyAssets(sources);
await removeStale(sources);
process.exitCode = code;
