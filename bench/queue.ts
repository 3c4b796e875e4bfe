/**
 * The queue beside Redis Streams, RabbitMQ and NATS JetStream, each synced to disk before it acknowledges, in one run on one machine. It starts every
 * server itself, on a fresh directory; one that is not installed is named and left out. What is compared how: docs/benchmarks.md.
 * Run after `npm run build`: node --import tsx bench/queue.ts [--only publish,fanout,latency,idle,stalled,backlog] [--systems muster,redis,...]
 *   [--seconds 1] [--rounds 3] [--backlog 1000000] [--limit 800] [--json FILE]
 */
import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { backlog } from './queue/backlog.js';
import { runScenario, say, type Scenario, type Settings } from './queue/bench.js';
import { fanout } from './queue/fanout.js';
import { idle } from './queue/idle.js';
import { latency } from './queue/latency.js';
import { nowMs } from './queue/port.js';
import { publish } from './queue/publish.js';
import { printed, ratiosOf, type Table } from './queue/results.js';
import { stalled } from './queue/stalled.js';
import { SUBJECTS, type Subject } from './queue/subjects.js';

const SCENARIOS: readonly Scenario[] = [publish, fanout, latency, idle, stalled, backlog];

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: SCENARIOS.map(({ name }) => name).join(',') },
    systems: { type: 'string', default: '' },
    seconds: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' },
    backlog: { type: 'string', default: '1000000' },
    limit: { type: 'string', default: '800' },
    json: { type: 'string', default: '' },
  },
});

function chosenScenarios(): Scenario[] {
  return values.only.split(',').map((name) => {
    const found = SCENARIOS.find((scenario) => scenario.name === name);
    if (!found) throw new Error(`no such scenario: ${name}; there are ${SCENARIOS.map((one) => one.name).join(', ')}`);
    return found;
  });
}

/** Those whose name has one of the words; what is not installed is told and left out. */
async function chosenSubjects(versions: Map<string, string>): Promise<Subject[]> {
  const words = values.systems.toLowerCase().split(',');
  const chosen: Subject[] = [];
  for (const subject of SUBJECTS.filter(({ name }) => words.some((word) => name.toLowerCase().includes(word)))) {
    const version = await subject.system.version();
    if (version === undefined) say(`missing, so not measured: ${subject.name}`);
    else {
      versions.set(subject.name, version);
      chosen.push(subject);
    }
  }
  return chosen;
}

const load = (): string => (loadavg()[0] ?? 0).toFixed(2);

const directory = await mkdtemp(join(tmpdir(), 'muster-bench-'));
// Also when it is interrupted; the servers and clients end in the same way.
process.on('exit', () => {
  rmSync(directory, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

const beganMs = nowMs();
const versions = new Map<string, string>();
const settings: Settings = {
  subjects: await chosenSubjects(versions),
  seconds: Number(values.seconds),
  rounds: Number(values.rounds),
  backlog: Number(values.backlog),
  directory,
  untilMs: beganMs + Number(values.limit) * 1000,
};
const machine = {
  cpus: cpus().length,
  cpu: cpus()[0]?.model ?? '',
  memoryBytes: totalmem(),
  node: process.version,
  loadBefore: load(),
};
const tables: Table[] = [];
for (const scenario of chosenScenarios()) {
  for (const table of await runScenario(scenario, settings)) {
    tables.push(table);
    process.stdout.write(printed(table));
  }
}
const seconds = Math.round((nowMs() - beganMs) / 1000);
process.stdout.write(
  `\n${machine.cpus} cores (${machine.cpu}), Node.js ${machine.node}, load before ${machine.loadBefore}; ${seconds} s; ` +
    `${[...versions].map(([name, version]) => `${name} ${version}`).join(', ')}\n`,
);
if (values.json !== '') {
  const report = {
    machine,
    versions: Object.fromEntries(versions),
    settings: { seconds: settings.seconds, rounds: settings.rounds, backlog: settings.backlog },
    took: seconds,
    tables: tables.map((table) => ({ ...table, ratios: ratiosOf(table) })),
  };
  await writeFile(values.json, `${JSON.stringify(report, undefined, 2)}\n`);
}
process.exit(tables.some(({ results }) => results.some(({ failure }) => failure !== undefined)) ? 1 : 0);
