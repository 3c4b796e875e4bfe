/**
 * Runs tests with node's own runner: every test/**\/*.test.ts, or those in the files and folders given.
 *   node test/run.mjs [FILE|FOLDER ...] [--from-source] [--node-option ...]
 * What it runs it compiles before (compile.mjs); --from-source runs it as it is, slower, with every line where it was written.
 * Other options (arguments that begin with a dash) go to node, for example --test-name-pattern='lease'.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { compileTests } from './compile.mjs';

const root = join(import.meta.dirname, '..');
const SUFFIX = '.test.ts';
const FROM_SOURCE = '--from-source';
/** Much of what tests do is to wait: four keep two cores busy. */
const FILES_AT_ONCE = 4;
/** A file, or a test in it, that takes longer is stuck: it fails, so that a forgotten timer or server cannot hang the run. */
const TEST_TIMEOUT_MS = 300_000;

function testsAt(path) {
  if (!existsSync(path)) fail(`there is no ${path}: name a file or a folder below test/`);
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { recursive: true })
    .map((file) => join(path, String(file)))
    .filter((file) => file.endsWith(SUFFIX));
}

function fail(message) {
  process.stderr.write(`test/run.mjs: ${message}\n`);
  process.exit(1);
}

const given = process.argv.slice(2);
const fromSource = given.includes(FROM_SOURCE);
const options = given.filter((argument) => argument.startsWith('-') && argument !== FROM_SOURCE);
const places = given.filter((argument) => !argument.startsWith('-'));
const files = [...new Set((places.length > 0 ? places : [join(root, 'test')]).flatMap(testsAt))]
  .map((file) => relative(root, resolve(file)))
  .sort();
if (files.length === 0) fail(`no ${SUFFIX} file in ${places.join(', ') || 'test/'}`);

const compiled = fromSource ? undefined : await compileTests();
const child = spawn(
  process.execPath,
  [
    ...(compiled ? ['--enable-source-maps'] : ['--import', 'tsx']),
    '--test',
    '--test-reporter=spec',
    `--test-concurrency=${FILES_AT_ONCE}`,
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    ...options,
    ...(compiled ? files.map(compiled) : files),
  ],
  // What is compared is text: in a terminal node's runner would have every file paint (FORCE_COLOR).
  { cwd: root, stdio: 'inherit', env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: undefined } },
);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('close', (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
