import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { Option, type Command } from 'commander';
import { ListLocalServicesResponse } from '../../generated/muster/v1/agent.js';
import { ListInstancesResponse, ServiceDefinition, type CenterService } from '../../generated/muster/v1/center.js';
import type { Instance } from '../../generated/muster/v1/types.js';
import { errnoOf, isCode, messageOf, MusterError } from '../kit/errors.js';
import type { Client } from '../rpc/types.js';
import { selectorArgument } from './arguments.js';
import { withAgent, withCenter } from './connection.js';
import { isLocal } from './context.js';
import {
  findInstances,
  healthText,
  instanceColumns,
  listInstances,
  placeColumns,
  releaseLines,
  stateText,
} from './instances.js';
import type { GlobalOptions, Io } from './io.js';
import { moduleWanted, showUsers, type ModuleWanted } from './module-users.js';
import { ago, clockTime, enumWord, Output } from './output.js';

interface ListOptions extends GlobalOptions {
  readonly on?: string;
  readonly module?: ModuleWanted;
  readonly detail?: boolean;
}

async function listLocal(io: Io, options: ListOptions, service: string | undefined): Promise<void> {
  const output = new Output(io, options);
  const answer = await withAgent(io, options, async (agent) =>
    service === undefined
      ? agent.listLocalServices({})
      : { instances: [await agent.getLocalService({ service })], broken: [] },
  );
  await output.document(ListLocalServicesResponse.toJSON(answer));
  await showInstances(io, output, answer.instances, { service, detail: true });
  for (const broken of answer.broken) {
    await output.note(`${broken.file} cannot be used:`);
    for (const error of broken.errors) await output.note(`  ${error}`);
  }
}

async function list(io: Io, options: ListOptions, service: string | undefined): Promise<void> {
  if (options.module !== undefined) return showUsers(io, options, options.module, service);
  if (isLocal(options)) return listLocal(io, options, service);
  const output = new Output(io, options);
  const instances = await withCenter(io, options, (center) =>
    service === undefined ? listInstances(center, { on: options.on }) : findInstances(center, service, options.on),
  );
  await output.document(ListInstancesResponse.toJSON({ instances, nextPageToken: '' }));
  await showInstances(io, output, instances, { service, detail: options.detail === true });
}

interface Showing {
  /** Undefined: all of them. */
  readonly service: string | undefined;
  /** Everything that is known of each. */
  readonly detail: boolean;
}

async function showInstances(
  io: Io,
  output: Output,
  instances: readonly Instance[],
  { service, detail }: Showing,
): Promise<void> {
  const now = io.clock.now();
  if (service === undefined) {
    await output.table(instances, instanceColumns(now));
    if (instances.length === 0)
      await output.note('No services yet: "muster services add FILE" assigns one to machines.');
    return;
  }
  if (!detail && instances.length > 1) {
    await output.table(instances, placeColumns(now));
    await output.note('Everything that is known of each: --detail, or --on machine=NAME.');
    return;
  }
  for (const instance of instances) await showOne(output, instance, now);
}

async function showOne(output: Output, instance: Instance, nowMs: number): Promise<void> {
  await output.line(`${instance.service} ${instance.version} on ${instance.machineName || 'this machine'}`);
  for (const line of releaseLines(instance, nowMs)) await output.line(`  ${line}`);
  await output.line(
    `  state    ${stateText(instance, nowMs)} for ${ago(instance.since, nowMs)}${instance.reason === '' ? '' : `: ${instance.reason}`}`,
  );
  await output.line(`  health   ${healthText(instance)}`);
  await output.line(
    `  process  ${instance.pid > 0 ? `pid ${instance.pid}, since ${clockTime(instance.started, nowMs)}` : 'none'}, ${instance.restarts} restarts, ${endText(instance)}`,
  );
  await output.line(
    `  wanted   ${instance.wanted ? 'running' : 'stopped'}, driver ${enumWord('DRIVER', instance.driver).toLowerCase()}, ${originText(instance)}`,
  );
  await output.line(
    `  config   ${instance.configRevision === 0 ? 'none' : `revision ${instance.configRevision} on the machine, ${instance.configApplied} applied`}`,
  );
  await output.line(`  logs     ${instance.logDirectory || '-'}`);
  for (const check of instance.checks) {
    await output.line(
      `  check    ${check.name} (${check.kind}) ${enumWord('HEALTH', check.health)} for ${ago(check.since, nowMs)}: ${check.output.trim().split('\n')[0] ?? ''}`,
    );
  }
}

/** Who said that the machine shall have it. */
function originText({ release, generation }: Instance): string {
  if (release !== undefined) return 'deployed';
  return generation === 0 ? 'declared on the machine' : `assigned by the center, generation ${generation}`;
}

function endText(instance: Instance): string {
  if (instance.exitSignal !== '') return `last ended by ${instance.exitSignal}`;
  if (instance.exitCode !== undefined) return `last exit code ${instance.exitCode}`;
  return 'no exit seen';
}

interface AddOptions extends GlobalOptions {
  readonly on?: string;
  readonly etag?: string;
  readonly dryRun?: boolean;
  readonly everywhere?: boolean;
}

/** Where the service shall go: as typed; else where it is assigned already; else every machine. */
async function selectorOf(
  center: Client<typeof CenterService>,
  options: AddOptions,
  source: ManifestText,
): Promise<string> {
  if (options.everywhere === true) return '';
  if (options.on !== undefined) return options.on;
  const { service } = await center.putService({ ...source, selector: '', etag: '', validateOnly: true });
  try {
    return (await center.getService({ service })).selector;
  } catch (error) {
    if (isCode(error, 'not_found')) return '';
    throw error;
  }
}

interface ManifestText {
  readonly manifest: string;
  /** What messages call it. */
  readonly file: string;
}

async function readManifest(io: Io, file: string): Promise<ManifestText> {
  if (file === '-') {
    const chunks: Buffer[] = [];
    for await (const chunk of io.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
    return { manifest: Buffer.concat(chunks).toString('utf8'), file: 'standard input' };
  }
  try {
    return { manifest: await readFile(file, 'utf8'), file: basename(file) };
  } catch (error) {
    const why = errnoOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error);
    throw new MusterError('invalid', `cannot read ${file}: ${why}`, { reason: 'USAGE', cause: error });
  }
}

async function add(io: Io, options: AddOptions, file: string): Promise<void> {
  const output = new Output(io, options);
  const source = await readManifest(io, file);
  const stored = await withCenter(io, options, async (center) =>
    center.putService({
      ...source,
      selector: await selectorOf(center, options, source),
      etag: options.etag ?? '',
      validateOnly: options.dryRun === true,
    }),
  );
  await output.document(ServiceDefinition.toJSON(stored));
  const where = stored.selector === '' ? 'every machine' : `machines with ${stored.selector}`;
  await output.line(
    options.dryRun === true
      ? `${stored.service} is valid; it would go to ${where}, ${stored.machines} now`
      : `${stored.service} is assigned to ${where}: ${stored.machines} now, generation ${stored.generation}`,
  );
  if (stored.machines === 0) await output.note('No machine matches now: "muster machines" shows their labels.');
}

/** Machines that run it from a release: an assignment does not reach them. */
async function deployedOn(center: Client<typeof CenterService>, service: string): Promise<string[]> {
  const instances = await listInstances(center, { service });
  return instances.filter(({ release }) => release !== undefined).map(({ machineName }) => machineName);
}

/** Names in one message. */
const NAMED_MAX = 5;

function deployedText(machines: readonly string[], service: string): string {
  const more = machines.length > NAMED_MAX ? `, and ${machines.length - NAMED_MAX} more` : '';
  return `${service} is deployed on ${machines.slice(0, NAMED_MAX).join(', ')}${more}: there it is run from its release, which no assignment changes. "muster stop ${service}" ends it.`;
}

async function removeAssigned(center: Client<typeof CenterService>, service: string): Promise<string[]> {
  const machines = await deployedOn(center, service);
  try {
    await center.removeService({ service });
  } catch (error) {
    if (!isCode(error, 'not_found') || machines.length === 0) throw error;
    throw new MusterError('precondition', `nothing is assigned. ${deployedText(machines, service)}`, { cause: error });
  }
  return machines;
}

async function remove(io: Io, options: GlobalOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const machines = await withCenter(io, options, (center) => removeAssigned(center, service));
  await output.document({ service, removed: true, deployedOn: machines });
  await output.line(`${service} is taken from its machines: each stops it and keeps its data and logs`);
  if (machines.length > 0) await output.note(deployedText(machines, service));
}

async function manifest(io: Io, options: GlobalOptions, service: string): Promise<void> {
  const output = new Output(io, options);
  const stored = await withCenter(io, options, (center) => center.getService({ service }));
  await output.document(ServiceDefinition.toJSON(stored));
  await output.line(stored.manifest.trimEnd());
}

export function register(program: Command, io: Io): void {
  const services = program
    .command('services [name]')
    .description('every instance of every service, or one service on its machines')
    .option('--on <selector>', 'only on machines that match, for example role=web', selectorArgument)
    .option('--module <name>', 'only those that run with a module, as NAME or NAME@VERSION', moduleWanted)
    .option('--detail', 'everything that is known of a service on each machine')
    .action((name: string | undefined, _options, command: Command) => list(io, command.optsWithGlobals(), name));
  services
    .command('ls')
    .description('the same as without a name')
    .action((_options, command: Command) => list(io, command.optsWithGlobals(), undefined));
  services
    .command('add <file>')
    .description('assign the service of a manifest (- for standard input) to machines')
    .addOption(
      new Option(
        '--on <selector>',
        'machines, now and later; default: where it is already, else every machine',
      ).conflicts('everywhere'),
    )
    .option('--everywhere', 'every machine, now and later')
    .option('--etag <etag>', 'only if the stored one has this etag; "new": only if there is none')
    .option('--dry-run', 'check only')
    .action((file: string, _options, command: Command) => add(io, command.optsWithGlobals(), file));
  services
    .command('rm <name>')
    .description('take a service from the machines it was assigned to')
    .action((name: string, _options, command: Command) => remove(io, command.optsWithGlobals(), name));
  services
    .command('manifest <name>')
    .description('the manifest the center holds')
    .action((name: string, _options, command: Command) => manifest(io, command.optsWithGlobals(), name));
}
