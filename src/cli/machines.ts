import type { Command } from 'commander';
import { ListMachinesResponse } from '../../generated/muster/v1/center.js';
import { Machine } from '../../generated/muster/v1/types.js';
import { formatDuration, formatSize } from '../kit/durations.js';
import { fromDuration } from '../wire/time.js';
import { labelArgument, selectorArgument } from './arguments.js';
import { withCenter } from './connection.js';
import type { GlobalOptions, Io } from './io.js';
import { ago, clockTime, Output } from './output.js';
import { allPages } from './paging.js';

interface ListOptions extends GlobalOptions {
  readonly on?: string;
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

function statusText(machine: Machine, nowMs: number): string {
  if (machine.online) return 'online';
  return machine.lastContact === undefined
    ? 'offline, never seen'
    : `offline since ${clockTime(machine.lastContact, nowMs)}`;
}

async function list(io: Io, options: ListOptions): Promise<void> {
  const output = new Output(io, options);
  const machines = await withCenter(io, options, (center) =>
    allPages(
      (page) => center.listMachines({ ...page, selector: options.on ?? '' }),
      (page) => page.machines,
    ),
  );
  await output.document(ListMachinesResponse.toJSON({ machines, nextPageToken: '' }));
  const now = io.clock.now();
  await output.table(machines, [
    { heading: 'MACHINE', text: (machine) => machine.name },
    { heading: 'STATUS', text: (machine) => statusText(machine, now) },
    {
      heading: 'LAST CONTACT',
      text: (machine) => (machine.lastContact ? `${ago(machine.lastContact, now)} ago` : '-'),
    },
    { heading: 'SERVICES', text: (machine) => String(machine.instances), right: true },
    { heading: 'LOAD', text: (machine) => machine.resources?.load1.toFixed(2) ?? '-', right: true },
    {
      heading: 'CPU',
      text: (machine) => (machine.resources ? `${machine.resources.cpuPercent.toFixed(0)}%` : '-'),
      right: true,
    },
    { heading: 'MEMORY', text: (machine) => memoryText(machine), right: true },
    { heading: 'AGENT', text: (machine) => machine.agentVersion },
    { heading: 'LABELS', text: (machine) => labelsText(machine.labels) },
  ]);
  if (machines.length === 0)
    await output.note(
      options.on === undefined
        ? 'No machines yet: "muster token create" prints the line to paste on one.'
        : 'No machine matches.',
    );
}

function memoryText(machine: Machine): string {
  const resources = machine.resources;
  if (!resources || resources.memoryTotalBytes === 0) return '-';
  return `${formatSize(resources.memoryUsedBytes)} of ${formatSize(resources.memoryTotalBytes)}`;
}

function inventoryLines(machine: Machine): string[] {
  const inventory = machine.inventory;
  if (!inventory) return ['inventory     not reported yet'];
  return [
    `system        ${inventory.os}, kernel ${inventory.kernel}, ${inventory.architecture}`,
    `processor     ${inventory.cores} x ${inventory.cpuModel}`,
    `memory        ${formatSize(inventory.memoryBytes)}`,
    ...inventory.disks.map(
      (disk) =>
        `disk          ${disk.mount} ${disk.filesystem} ${formatSize(disk.usedBytes)} of ${formatSize(disk.sizeBytes)}`,
    ),
    ...inventory.interfaces.map((face) => `interface     ${face.name} ${face.addresses.join(' ')}`),
  ];
}

function resourceLines(machine: Machine): string[] {
  const now = machine.resources;
  if (!now) return [];
  return [
    `load          ${now.load1.toFixed(2)} ${now.load5.toFixed(2)} ${now.load15.toFixed(2)}, processor ${now.cpuPercent.toFixed(1)}% busy, up ${formatDuration(fromDuration(now.uptime) ?? 0)}`,
    `network       ${formatSize(now.networkReceiveBytesPerSecond)}/s in, ${formatSize(now.networkSendBytesPerSecond)}/s out`,
    `disk io       ${formatSize(now.diskReadBytesPerSecond)}/s read, ${formatSize(now.diskWriteBytesPerSecond)}/s written`,
    `agent         ${formatSize(now.agentMemoryBytes)}, ${now.agentCpuPercent.toFixed(1)}% of a core`,
  ];
}

async function show(io: Io, options: GlobalOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  const machine = await withCenter(io, options, (center) => center.getMachine({ machine: name }));
  await output.document(Machine.toJSON(machine));
  const now = io.clock.now();
  const skewMs = fromDuration(machine.clockSkew) ?? 0;
  const lines = [
    `${machine.name}  (${machine.id})`,
    `status        ${statusText(machine, now)}, last contact ${clockTime(machine.lastContact, now)}`,
    `labels        ${labelsText(machine.labels) || '-'}`,
    `agent         version ${machine.agentVersion || '-'}, session ${machine.sessionEpoch}, from ${machine.address || '-'}`,
    `joined        ${clockTime(machine.joined, now)}, boot ${machine.bootId || '-'}`,
    `clock         ${Math.abs(skewMs) < 1000 ? 'as here' : `${formatDuration(Math.abs(skewMs))} ${skewMs > 0 ? 'ahead' : 'behind'}`}`,
    ...inventoryLines(machine),
    ...resourceLines(machine),
  ];
  for (const line of lines) await output.line(line);
}

interface LabelOptions extends GlobalOptions {
  readonly set?: Record<string, string>;
  readonly remove?: string[];
}

async function label(io: Io, options: LabelOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  const machine = await withCenter(io, options, (center) =>
    center.updateMachine({ machine: name, setLabels: options.set ?? {}, removeLabels: options.remove ?? [] }),
  );
  await output.document(Machine.toJSON(machine));
  await output.line(`${machine.name}: ${labelsText(machine.labels) || 'no labels'}`);
}

async function remove(io: Io, options: GlobalOptions, name: string): Promise<void> {
  const output = new Output(io, options);
  await withCenter(io, options, (center) => center.removeMachine({ machine: name }));
  await output.document({ machine: name, removed: true });
  await output.line(
    `${name} is forgotten and its certificate refused. Its services go on running there: stop them first where they should end, or run its agent once with --stop-services-on-exit.`,
  );
}

export function register(program: Command, io: Io): void {
  const machines = program
    .command('machines [name]')
    .description('the machines of the site, or one of them')
    .option('--on <selector>', 'only machines that match, for example role=web,zone!=b', selectorArgument)
    .action((name: string | undefined, _options, command: Command) => {
      const options: ListOptions = command.optsWithGlobals();
      return name === undefined ? list(io, options) : show(io, options, name);
    });
  machines
    .command('label <name>')
    .description('change the labels of a machine')
    .option('--set <key=value>', 'set a label; may be repeated', labelArgument)
    .option('--remove <key...>', 'remove labels')
    .action((name: string, _options, command: Command) => label(io, command.optsWithGlobals(), name));
  machines
    .command('rm <name>')
    .description('forget a machine and refuse its certificate')
    .action((name: string, _options, command: Command) => remove(io, command.optsWithGlobals(), name));
}
