/**
 * Holds the contracts compatible on the wire and in JSON: proto/ against the newest release (the nearest tag `v*`), and until there
 * is one against the last commit. Works in a shallow clone and says so where there is nothing to compare with.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mustRun, run, tool } from './run.mjs';

const COMPARED = ['proto', 'buf.yaml'];

/** What to compare with, or undefined: no history here, or none with contracts in it. */
async function findBaseline() {
  const tag = await run('git', ['describe', '--tags', '--abbrev=0', '--match', 'v*']);
  const baseline = tag.code === 0 ? tag.output.trim() : 'HEAD';
  const files = await run('git', ['ls-tree', '-r', '--name-only', baseline, '--', ...COMPARED]);
  const names = files.code === 0 ? files.output.split('\n') : [];
  return names.includes('buf.yaml') && names.some((name) => name.endsWith('.proto')) ? baseline : undefined;
}

export async function checkBreaking() {
  const baseline = await findBaseline();
  if (baseline === undefined) return { ok: true, note: 'nothing to compare with: no earlier contracts in the history' };
  const directory = await mkdtemp(join(tmpdir(), 'muster-breaking-'));
  try {
    const archive = join(directory, 'baseline.tar');
    await mustRun('git', ['archive', '--output', archive, baseline, ...COMPARED]);
    const { code, output } = await run(tool('buf'), ['breaking', '--against', archive]);
    return { ok: code === 0, note: `against ${baseline}`, output };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
