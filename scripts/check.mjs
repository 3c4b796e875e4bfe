/**
 * `npm run check`: everything that must hold before a commit, in one go. One line per step with its time; what a step printed is
 * shown only when it failed. Ends with 1 when any step failed.
 *   node scripts/check.mjs [STEP ...]   runs only the named steps
 */
import { availableParallelism } from 'node:os';
import { findDrift } from './contracts.mjs';
import { checkBreaking } from './breaking.mjs';
import { lint } from './lint.mjs';
import { run, tool } from './run.mjs';

/** How a step ended: `note` is shown in its line, `output` below it when it failed. */
/** @typedef {{ ok: boolean, note?: string, output?: string }} Result */

/**
 * @param {string} name
 * @param {readonly string[]} args
 * @returns {() => Promise<Result>}
 */
function program(name, args) {
  return async () => {
    const { code, output } = await run(tool(name), args);
    return { ok: code === 0, output };
  };
}

/** @returns {Promise<Result>} */
async function checkDrift() {
  const drift = await findDrift();
  const advice = 'generated/ is not what proto/ gives: run "npm run generate" and commit what changes';
  return { ok: drift.length === 0, output: `${drift.join('\n')}\n${advice}\n` };
}

async function checkLint() {
  const { code, output } = await lint();
  return { ok: code === 0, output };
}

/** The longest first, so that the cores stay busy to the end. */
const STEPS = {
  lint: checkLint,
  types: program('tsc', ['-p', 'tsconfig.json']),
  format: program('prettier', ['--check', '--cache', '--log-level', 'warn', '.']),
  imports: program('depcruise', [
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'err-long',
    'src',
    'test',
    'bench',
    'examples',
  ]),
  unused: program('knip', ['--no-progress', '--no-config-hints']),
  generated: checkDrift,
  breaking: checkBreaking,
  contracts: program('buf', ['lint']),
  duplicates: program('jscpd', ['--config', '.jscpd.json', '--exit-code', '1', 'src']),
};

async function attempt(step) {
  const startedMs = performance.now();
  let result;
  try {
    result = await STEPS[step]();
  } catch (error) {
    result = { ok: false, output: `${error instanceof Error ? error.message : String(error)}\n` };
  }
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  const note = result.note ? `  ${result.note}` : '';
  process.stdout.write(`${result.ok ? 'ok    ' : 'FAILED'} ${step.padEnd(10)} ${seconds.padStart(5)} s${note}\n`);
  if (!result.ok) process.stdout.write(`${(result.output ?? '').trimEnd()}\n\n`);
  return result.ok;
}

async function checkAll(names) {
  const waiting = [...names];
  const failed = [];
  const worker = async () => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      if (!(await attempt(step))) failed.push(step);
    }
  };
  await Promise.all(Array.from({ length: Math.max(2, availableParallelism()) }, worker));
  return failed;
}

const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !(name in STEPS));
if (unknown.length > 0) {
  process.stderr.write(`no such step: ${unknown.join(', ')}; there are ${Object.keys(STEPS).join(', ')}\n`);
  process.exit(2);
}
const startedMs = performance.now();
const failed = await checkAll(asked.length > 0 ? asked : Object.keys(STEPS));
const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
process.stdout.write(failed.length === 0 ? `all held, ${seconds} s\n` : `failed: ${failed.join(', ')}, ${seconds} s\n`);
process.exitCode = failed.length === 0 ? 0 : 1;
