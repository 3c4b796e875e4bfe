/**
 * A process that runs commands against services that leave a trace: killed at any moment by the test that started it.
 *   node --import tsx command-host.ts STATE TRACE
 * Orders come as JSON lines on standard input, what the center would hear goes out as JSON lines on standard output.
 */
import { appendFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CommandJournal } from '../../src/agent/commands/journal.js';
import { CommandRunner, type CommandOrder } from '../../src/agent/commands/runner.js';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { MusterError } from '../../src/kit/errors.js';
import { createLogger } from '../../src/kit/logger.js';
import { systemRandom } from '../../src/kit/random.js';
import { Slots } from '../../src/kit/slots.js';
import type { InstanceReport } from '../../src/model/instance.js';
import { openLevelStore } from '../../src/store/leveldb.js';
import { wellInstance } from './instance-report.js';

/** What the test writes and reads. */
export type HostInput = { readonly order: CommandOrder } | { readonly acknowledge: string };

const [, , statePath = '', tracePath = ''] = process.argv;

function instance(service: string): InstanceReport {
  return wellInstance({ service, version: '1', health: 'UNKNOWN', pid: process.pid, startedMs: undefined });
}

/** One line in the trace per run; services whose name ends in 7 fail. */
async function act(service: string): Promise<InstanceReport> {
  appendFileSync(tracePath, `${service}\n`);
  await sleep(systemClock, systemRandom.next() * 20);
  if (service.endsWith('7')) throw new MusterError('precondition', 'it exited with 1');
  return instance(service);
}

const store = await openLevelStore({ path: statePath });
const journal = await CommandJournal.open(store, systemClock.now());
const runner = new CommandRunner({
  performers: {},
  journal,
  control: { start: act, stop: act, restart: act, get: instance, lastOutput: () => Promise.resolve([]) },
  searches: { run: () => Promise.reject(new MusterError('not_found', 'there are no logs here')) },
  searchSlots: new Slots(1),
  clock: systemClock,
  random: systemRandom,
  logger: createLogger('warn'),
});
runner.onUpdate((status) => process.stdout.write(`${JSON.stringify(status)}\n`));
for (const status of runner.pending()) process.stdout.write(`${JSON.stringify(status)}\n`);
process.stdout.write('{"ready":true}\n');
for await (const line of createInterface({ input: process.stdin })) {
  const input = JSON.parse(line) as HostInput;
  if ('order' in input) runner.offer(input.order);
  else runner.acknowledge(input.acknowledge);
}
await runner.close(10_000);
await store.close();
