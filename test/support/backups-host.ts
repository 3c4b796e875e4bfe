/**
 * The agent's backups in a process of their own, to be killed by tests.
 *   node --import tsx backups-host.ts DATA MANIFEST-SECTIONS look|backup|restore
 * Prints what the process before it left, as one JSON line, once that is ended; then does what it is told, prints how that ended, and ends.
 */
import { join } from 'node:path';
import { AgentBackups } from '../../src/agent/backups/backups.js';
import { backedUpServices } from '../../src/agent/backups/services.js';
import { systemClock } from '../../src/kit/clock.js';
import { silentLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import { openLevelStore } from '../../src/store/leveldb.js';
import { NO_CENTER, PlayedServices } from './backups.js';

const [data = '', sections = '', what = 'look'] = process.argv.slice(2);
const store = await openLevelStore({
  path: join(data, 'state'),
  schema: { name: 'agent', migrations: [] },
  logger: silentLogger,
});
const services = new PlayedServices();
services.declare('orders', sections);
const backups = await AgentBackups.open({
  dataDirectory: data,
  store,
  services: backedUpServices(services),
  holding: services,
  sharedDirectory: (service) => join(data, 'services', service, 'shared'),
  center: NO_CENTER,
  machine: () => 'm-1',
  clock: systemClock,
  random: systemRandom,
  logger: silentLogger,
});
const say = (document: unknown): void => {
  process.stdout.write(`${JSON.stringify(document)}\n`);
};
say({ list: backups.list() });
if (what === 'backup') say(await backups.now('orders'));
if (what === 'restore') {
  const order = { command: 'c-1', action: 'RESTORE', service: 'orders', expiresInMs: 1000 } as const;
  const backup = () => ({ backup: '', paths: [], aside: false, stop: true });
  say(await backups.performers.RESTORE.perform({ ...order, backup }, () => undefined));
}
await store.close();
