/**
 * Log rotation alone, as a process that a test can kill at any moment.
 *   node --import tsx logs-host.ts DATA MAX_SIZE_BYTES
 */
import { join } from 'node:path';
import { Logs } from '../../src/agent/logs/logs.js';
import { systemClock } from '../../src/kit/clock.js';
import { createLogger } from '../../src/kit/logger.js';

const [, , data = '', maxSizeBytes = ''] = process.argv;
const logged = {
  service: 'loud',
  root: join(data, 'logs', 'loud'),
  logs: { files: ['*.log'], maxSizeBytes: Number(maxSizeBytes), keep: 1000, maxAgeMs: 1e12 },
};
const logs = new Logs({
  dataDirectory: data,
  services: () => [logged],
  clock: systemClock,
  logger: createLogger('warn'),
});
const never = new AbortController();
await Promise.all([
  logs.run(never.signal),
  (async () => {
    for (;;) {
      await new Promise((done) => setImmediate(done));
      await logs.check();
    }
  })(),
]);
