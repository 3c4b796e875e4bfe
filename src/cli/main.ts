import { runCli } from './program.js';
import { systemClock } from '../kit/clock.js';
import { currentEnvironment } from '../model/places.js';

/** The `muster` program: this process's own streams and signals, and nothing else. */
const controller = new AbortController();
let asked = 0;
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    asked += 1;
    // A second request means the first is taking too long for whoever asked.
    if (asked > 1) process.exit(130);
    controller.abort(new Error(name));
  });
}
// A reader that closed the pipe (`muster ... | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

process.exitCode = await runCli(process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  stdin: process.stdin,
  terminal: process.stdout.isTTY,
  // A window may be resized meanwhile.
  get columns() {
    return process.stdout.columns;
  },
  get rows() {
    return process.stdout.rows;
  },
  env: process.env,
  places: currentEnvironment(),
  clock: systemClock,
  signal: controller.signal,
});
