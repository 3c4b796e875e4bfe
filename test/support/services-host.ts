/**
 * An agent's supervision alone, as a process that a test can kill at any moment.
 *   node --import tsx services-host.ts DATA
 * Manifests are in DATA/manifests. Says `ready` once what ran before is adopted; each line of standard input is `start|stop|restart NAME`.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readBootId } from '../../src/agent/resources/boot.js';
import { messageOf } from '../../src/kit/errors.js';
import { openLevelStore } from '../../src/store/leveldb.js';
import { makeServices } from './supervised.js';

const [, , data = ''] = process.argv;
const say = (what: object): void => {
  process.stdout.write(`${JSON.stringify(what)}\n`);
};

const store = await openLevelStore({ path: join(data, 'state') });
const services = makeServices({ data, manifests: join(data, 'manifests') }, store, await readBootId());
services.onChange(({ service, report }) => {
  say({ service, state: report?.state ?? 'GONE', pid: report?.pid ?? 0, reason: report?.reason ?? '' });
});
const running = services.run(new AbortController().signal);
await Promise.race([services.ready, running]);
say({ ready: true, services: services.list().map(({ service, pid }) => ({ service, pid })) });
createInterface({ input: process.stdin }).on('line', (line) => {
  const [action, service = ''] = line.split(' ');
  if (action !== 'start' && action !== 'stop' && action !== 'restart') return;
  services[action](service).then(
    () => {
      say({ done: line });
    },
    (error: unknown) => {
      say({ failed: line, why: messageOf(error) });
    },
  );
});
await running;
