/**
 * An agent's supervision alone, as a process that a test can kill at any moment.
 *   node --import tsx services-host.ts DATA [SLOW_MS]
 * Manifests are in DATA/manifests. Says `ready` once what ran before is adopted; each line of standard input is `start|stop|restart NAME`, or
 * `deploy NAME FOLDER` for a release in that folder, or `hold NAME`.
 * With SLOW_MS each write to the store takes up to so much longer before it is durable, as on a busy disk: moments between writes are easier to hit.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readBootId } from '../../src/kit/proc.js';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { messageOf } from '../../src/kit/errors.js';
import { systemRandom } from '../../src/kit/random.js';
import { parseManifest } from '../../src/model/manifest.js';
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
  const { state = 'GONE', pid = 0, reason = '', version = '' } = report ?? {};
  say({ service, state, pid, reason, version });
});
const running = services.run(new AbortController().signal);
await Promise.race([services.ready, running]);
const deployed = services.list().map(({ service, release }) => [service, release?.ref.version ?? ''] as const);
say({
  ready: true,
  services: services.list().map(({ service, pid }) => ({ service, pid })),
  deployed: Object.fromEntries(deployed),
});

/** As the steps of a deploy that touch the service. */
async function deploy(service: string, folder: string): Promise<void> {
  const hold = await services.hold(service, 'a deploy');
  const manifestText = await readFile(join(folder, 'muster.yaml'), 'utf8');
  const manifest = parseManifest(manifestText);
  const { version } = manifest;
  const ref = { service, version, digest: version.padEnd(64, '0'), modules: [], configRevision: 0 };
  await hold.stop();
  await hold.become({ manifest, manifestText, folder, release: { ref, deployedMs: 0, verified: false } });
  await hold.start();
  await hold.verified(0);
  hold.letGo();
}

async function act(action: string, service: string, folder: string): Promise<void> {
  if (action === 'deploy') await deploy(service, folder);
  else if (action === 'hold') await services.hold(service, 'a deploy that hangs');
  else if (action === 'start' || action === 'stop' || action === 'restart') await services[action](service);
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const [action = '', service = '', folder = ''] = line.split(' ');
  act(action, service, folder).then(
    () => {
      say({ done: line });
    },
    (error: unknown) => {
      say({ failed: line, why: messageOf(error) });
    },
  );
});
await running;
