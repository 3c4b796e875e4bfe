import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory, writeFileDurably } from '../../kit/files.js';

const GREETER = fileURLToPath(new URL('../../../../examples/greeter', import.meta.url));

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
