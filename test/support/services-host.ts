/**
 * An agent's supervision alone, as a process that a test can kill at any moment.
 *   node --import tsx services-host.ts DATA [SLOW_MS]
 * Manifests are in DATA/manifests. Says `ready` once what ran before is adopted; each line of standard input is `start|stop|restart NAME`.
 * With SLOW_MS each write to the store takes up to so much longer before it is durable, as on a busy disk: moments between writes are easier to hit.
 */
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readBootId } from '../../src/kit/proc.js';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { messageOf } from '../../src/kit/errors.js';
import { systemRandom } from '../../src/kit/random.js';
import { openLevelStore } from '../../src/store/leveldb.js';
import { makeServices } from './supervised.js';

const [, , data = '', slowMs = '0'] = process.argv;
const say = (what: object): void => {
  process.stdout.write(`${JSON.stringify(what)}\n`);
};

const store = await openLevelStore({ path: join(data, 'state') });
const write = store.write.bind(store);
store.write = async (mutations) => {
  await sleep(systemClock, systemRandom.next() * Number(slowMs));
  return write(mutations);
};
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
