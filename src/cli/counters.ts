import type { Command } from 'commander';
import {
  CounterService,
  ListCountersResponse,
  QueryResponse,
  type CounterInfo,
  type CounterSeries,
} from '../../generated/muster/v1/counter.js';
import { createClient } from '../rpc/client.js';
import { withCenterChannel } from './connection.js';
import type { GlobalOptions, Io } from './io.js';
import { ago, enumWord, Output } from './output.js';

interface ShowOptions extends GlobalOptions {
  readonly service?: string;
  readonly follow?: boolean;
}

function number(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}

function rate(perSecond: number | undefined): string {
  return perSecond === undefined ? '-' : `${number(Math.round(perSecond * 1000) / 1000)}/s`;
}

function kindOf(counter: CounterInfo): string {
  return enumWord('COUNTER_KIND', counter.kind).toLowerCase();
}

async function list(io: Io, options: ShowOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenterChannel(io, options, (channel) =>
    createClient(CounterService, channel).listCounters({ service: options.service ?? '' }),
  );
  await output.document(ListCountersResponse.toJSON(answer));
  const now = io.clock.now();
  await output.table(answer.counters, [
    { heading: 'COUNTER', text: (counter) => counter.name },
    { heading: 'SERVICE', text: (counter) => counter.service },
    { heading: 'KIND', text: kindOf },
    { heading: 'TOTAL', text: (counter) => number(counter.value), right: true },
    {
      heading: 'RATE',
      text: (counter) => (counter.kind === 'COUNTER_KIND_COUNTER' ? rate(counter.ratePerSecond) : '-'),
      right: true,
    },
    { heading: 'MACHINES', text: (counter) => String(counter.machines), right: true },
    { heading: 'UPDATED', text: (counter) => `${ago(counter.updated, now)} ago` },
    { heading: 'HELP', text: (counter) => counter.help },
  ]);
  if (answer.counters.length === 0)
    await output.note('No counters yet: a service makes one with new Counter("name").increment().');
}

async function showAnswer(io: Io, output: Output, answer: QueryResponse): Promise<void> {
  await output.document(QueryResponse.toJSON(answer));
  const counter = answer.counter;
  if (counter === undefined) return;
  const now = io.clock.now();
  await output.line(
    `${counter.name} of ${counter.service}: ${number(counter.value)} ${counter.unit}`.trimEnd() +
      (counter.kind === 'COUNTER_KIND_COUNTER' ? `, ${rate(counter.ratePerSecond)}` : ''),
  );
  await output.table<CounterSeries>(answer.series, [
    { heading: 'MACHINE', text: (series) => series.machineName },
    {
      heading: 'LABELS',
      text: (series) =>
        Object.entries(series.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
    },
    { heading: 'VALUE', text: (series) => number(series.value), right: true },
    { heading: 'RATE', text: (series) => rate(series.ratePerSecond), right: true },
    { heading: 'UPDATED', text: (series) => `${ago(series.updated, now)} ago` },
  ]);
}

async function show(io: Io, options: ShowOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  const request = { service: options.service ?? '', name };
  await withCenterChannel(io, options, async (channel) => {
    const client = createClient(CounterService, channel);
    if (options.follow !== true) {
      await showAnswer(io, output, await client.query(request));
      return;
    }
    for await (const answer of client.watch(request, { signal: io.signal })) await showAnswer(io, output, answer);
  });
}

export function register(program: Command, io: Io): void {
  const counters = program.command('counters').description('what services count');
  counters
    .command('ls')
    .description('every counter with its total and rate')
    .option('--service <name>', 'only of this service')
    .action((_options, command: Command) => list(io, command.optsWithGlobals()));
  counters
    .command('show <counter>')
    .description('one counter: over all and per machine')
    .option('--service <name>', 'of this service, where several have one of that name')
    .option('-f, --follow', 'go on with each change')
    .action((name: string, _options, command: Command) => show(io, command.optsWithGlobals(), name));
}
