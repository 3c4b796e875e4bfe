/** What is made from proto/: the TypeScript of generated/ and the descriptor set that servers answer reflection from. */
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filesBelow } from './files.mjs';
import { mustRun, root, tool } from './run.mjs';

const DESCRIPTORS = 'descriptors.bin';
const GENERATED = join(root, 'generated');

/**
 * Generates everything into `base`/generated.
 * @param {string} base
 */
async function generateInto(base) {
  await mustRun(tool('buf'), ['generate', '--output', base]);
  const descriptors = join(base, 'generated', DESCRIPTORS);
  await mustRun(tool('buf'), ['build', '--as-file-descriptor-set', '--output', descriptors]);
}

/**
 * Calls `work` with a directory holding a fresh generation, and removes it afterwards.
 * @template T
 * @param {(generated: string) => Promise<T>} work
 */
async function withFresh(work) {
  const base = await mkdtemp(join(tmpdir(), 'muster-generate-'));
  try {
    await generateInto(base);
    return await work(join(base, 'generated'));
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

/** Replaces generated/ by a fresh generation; answers with the number of files. */
export function regenerate() {
  return withFresh(async (fresh) => {
    const files = await filesBelow(fresh);
    const stale = (await filesBelow(GENERATED)).filter((file) => !files.includes(file));
    for (const file of stale) await rm(join(GENERATED, file));
    await cp(fresh, GENERATED, { recursive: true });
    return files.length;
  });
}

/** The files of generated/ that differ from a fresh generation, each with what is wrong. */
export function findDrift() {
  return withFresh(async (fresh) => {
    const wanted = await filesBelow(fresh);
    const present = await filesBelow(GENERATED);
    const drift = present.filter((file) => !wanted.includes(file)).map((file) => `${file}: no longer generated`);
    for (const file of wanted) {
      if (!present.includes(file)) drift.push(`${file}: missing`);
      else if (!(await sameContent(join(fresh, file), join(GENERATED, file)))) drift.push(`${file}: differs`);
    }
    return drift;
  });
}

async function sameContent(a, b) {
  const [left, right] = await Promise.all([readFile(a), readFile(b)]);
  return left.equals(right);
}
