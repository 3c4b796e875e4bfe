/**
 * A search as a process of its own, which a test kills at any moment.
 *   node --import tsx search-host.ts DATA PATTERN
 */
import { join } from 'node:path';
import { Logs } from '../../src/agent/logs/logs.js';
import { systemClock } from '../../src/kit/clock.js';
import { createLogger } from '../../src/kit/logger.js';
import { ANY_SEARCH } from './searching.js';

const [, , data = '', pattern = ''] = process.argv;
const root = join(data, 'logs', 'app');
const logs = new Logs({
  dataDirectory: data,
  services: () => [{ service: 'app', root, logs: { files: ['*.log'], maxSizeBytes: 1e9, keep: 1000, maxAgeMs: 1e12 } }],
  clock: systemClock,
  logger: createLogger('warn'),
});
const search = await logs.search('app', { ...ANY_SEARCH, pattern, regex: true });
for await (const hits of search.hits(new AbortController().signal)) process.stdout.write(`${hits.length}\n`);
