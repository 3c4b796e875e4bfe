/**
 * `npm run coverage`: how much of src/kit, src/rpc and src/store their own tests reach. Prints a table per file and fails
 * under BRANCHES_MIN percent of branches or LINES_MIN percent of lines over all.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { isDirectory } from './files.mjs';
import { root, tool } from './run.mjs';

const BRANCHES_MIN = 90;
/** Lower, since files that hold only types count as unreached. Branches alone would not notice a function that never ran. */
const LINES_MIN = 85;
const TESTS = ['test/unit/kit', 'test/unit/rpc', 'test/unit/store', 'test/contract', 'test/integration/rpc'];
const MEASURED = ['src/kit/**', 'src/rpc/**', 'src/store/**'];

const present = [];
for (const folder of TESTS) if (await isDirectory(join(root, folder))) present.push(folder);

const child = spawn(
  tool('c8'),
  [
    ...MEASURED.map((glob) => `--include=${glob}`),
    '--all',
    '--src=src',
    '--reporter=text',
    '--reporter=text-summary',
    '--check-coverage',
    `--branches=${BRANCHES_MIN}`,
    `--lines=${LINES_MIN}`,
    '--functions=0',
    '--statements=0',
    process.execPath,
    'test/run.mjs',
    '--from-source',
    ...present,
  ],
  { cwd: root, stdio: 'inherit' },
);
child.on('close', (code) => {
  process.exitCode = code ?? 1;
});
