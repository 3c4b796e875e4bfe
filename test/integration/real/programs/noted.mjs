/**
 * Appends one line to the file given each time it starts, and ends only after LINGER_MS when told to stop.
 *   node noted.mjs FILE [LINGER_MS]
 */
import { appendFileSync } from 'node:fs';

const [, , file, lingerMs = '0'] = process.argv;
appendFileSync(file, `${process.pid}\n`);
const idle = setInterval(() => undefined, 60_000);
process.on('SIGTERM', () => {
  setTimeout(() => clearInterval(idle), Number(lingerMs));
});
