/**
 * The agent's part in deploys over a real store and real directories, with services that are a file: killed at any moment by the test that
 * started it.
 *   node --import tsx deploy-host.ts DIRECTORY
 * Orders come as JSON lines on standard input, what the center would hear goes out as JSON lines on standard output. While DIRECTORY/away
 * exists, the center gives no archives.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CommandJournal } from '../../src/agent/commands/journal.js';
import { CommandRunner } from '../../src/agent/commands/runner.js';
import { DeployPerformer } from '../../src/agent/deploy/performer.js';
import { systemClock } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';
import { createLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import { Slots } from '../../src/kit/slots.js';
import type { DeployOrder, RollbackOrder } from '../../src/model/release.js';
import { openLevelStore } from '../../src/store/leveldb.js';
import { FakeMachine, newWorld, openDeploys, Shelf, type World } from './deploying.js';
import { FakeServices } from './fake-services.js';

/** What the test writes. */
export type DeployHostInput =
  | { readonly command: string; readonly deploy: DeployOrder }
  | { readonly command: string; readonly rollback: RollbackOrder }
  | { readonly acknowledge: string };

const [, , directory = ''] = process.argv;
const worldFile = join(directory, 'world.json');
const world: World = existsSync(worldFile) ? (JSON.parse(readFileSync(worldFile, 'utf8')) as World) : newWorld();

/** The services are as this file says: whole, before or after a change. */
function save(): void {
  writeFileSync(`${worldFile}.new`, JSON.stringify(world));
  renameSync(`${worldFile}.new`, worldFile);
}

const shelf = new Shelf(join(directory, 'shelf'));
shelf.before = () => {
  if (existsSync(join(directory, 'away'))) throw new MusterError('unavailable', 'the center is away');
  return Infinity;
};
const store = await openLevelStore({ path: join(directory, 'state') });
const machine = new FakeMachine(world, (what) => {
  if (what.startsWith('after')) save();
  return Promise.resolve();
});
const deploys = await openDeploys({ data: join(directory, 'data'), shelf }, store, machine);
const performer = new DeployPerformer(deploys);
const journal = await CommandJournal.open(store, systemClock.now(), () => performer.holds());
const runner = new CommandRunner({
  performers: { DEPLOY: performer, ROLLBACK: performer },
  journal,
  control: new FakeServices(),
  searches: { run: () => Promise.reject(new MusterError('not_found', 'there are no logs here')) },
  searchSlots: new Slots(1),
  clock: systemClock,
  random: systemRandom,
  logger: createLogger('error'),
});
runner.onUpdate((status) => process.stdout.write(`${JSON.stringify(status)}\n`));
for (const status of runner.pending()) process.stdout.write(`${JSON.stringify(status)}\n`);
runner.resume();
await deploys.resumeOthers(new Set(runner.pending().map(({ command }) => command)));
process.stdout.write('{"ready":true}\n');
for await (const line of createInterface({ input: process.stdin })) {
  const input = JSON.parse(line) as DeployHostInput;
  if ('acknowledge' in input) runner.acknowledge(input.acknowledge);
  else {
    const order = { command: input.command, service: 'orders', expiresInMs: 60_000 };
    if ('deploy' in input) runner.offer({ ...order, action: 'DEPLOY', deploy: () => input.deploy });
    else runner.offer({ ...order, action: 'ROLLBACK', rollback: () => input.rollback });
  }
}
await runner.close(1000);
await store.close();
