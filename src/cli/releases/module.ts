import type { Command } from 'commander';
import { ListModulesResponse, Module } from '../../../generated/muster/v1/center.js';
import { counted } from '../../kit/counted.js';
import { formatSize } from '../../kit/durations.js';
import { parseModuleManifest } from '../../model/module-manifest.js';
import { withCenter } from '../connection.js';
import type { GlobalOptions, Io } from '../io.js';
import { showUsers } from '../module-users.js';
import { clockTime, Output, telling, type Column } from '../output.js';
import { allPages } from '../paging.js';
import { push, type Pushed, type PushOptions } from './push.js';

/** Modules: base packages that releases pin. */

const MODULE: Pushed<Module> = {
  kind: 'module',
  file: 'module.yaml',
  read: (text, file) => ({ ...parseModuleManifest(text, { file }), modules: {} }),
  find: (center, name, version) => center.getModule({ name, version }),
  put: (center, { request, options }) => center.putModule(request, options),
  json: (module) => Module.toJSON(module) as object,
  next: (name, version) => `A release pins it with "modules: { ${name}: ${version} }" in its muster.yaml.`,
};

async function list(io: Io, options: GlobalOptions, name: string | undefined): Promise<void> {
  const output = new Output(io, options);
  const modules = await withCenter(io, options, (center) =>
    allPages(
      (page) => center.listModules({ ...page, name: name ?? '' }),
      (page) => page.modules,
    ),
  );
  await output.document(ListModulesResponse.toJSON({ modules, nextPageToken: '' }));
  const now = io.clock.now();
  const columns: Column<Module>[] = [
    { heading: 'MODULE', text: (module) => module.name },
    { heading: 'VERSION', text: (module) => module.version },
    { heading: 'SIZE', text: ({ artifact }) => formatSize(artifact?.sizeBytes ?? 0), right: true },
    {
      heading: 'PINNED BY',
      text: ({ pinnedBy }) => (pinnedBy.length === 0 ? '' : counted(pinnedBy.length, 'release')),
    },
    { heading: 'PUSHED', text: ({ pushed }) => clockTime(pushed, now) },
    { heading: 'BY', text: ({ pushedBy }) => pushedBy },
    { heading: 'NOTE', text: ({ note }) => note },
  ];
  await output.table(modules, telling(modules, columns));
  if (modules.length > 0) return;
  await output.note(
    name === undefined
      ? 'No modules yet: "muster module push DIR" makes one.'
      : `No module "${name}": "muster module ls" lists all.`,
  );
}

async function show(io: Io, options: GlobalOptions, name: string, version: string): Promise<void> {
  const output = new Output(io, options);
  const module = await withCenter(io, options, (center) => center.getModule({ name, version }));
  await output.document(Module.toJSON(module));
  const { artifact, files, unpackedBytes, pinnedBy, note } = module;
  const line = (heading: string, text: string): Promise<void> => output.line(`${heading.padEnd(9)} ${text}`);
  await output.line(`${module.name} ${module.version}`);
  await line('sha256', artifact?.digest ?? '-');
  await line(
    'size',
    `${formatSize(artifact?.sizeBytes ?? 0)}, ${counted(files, 'file')}, ${formatSize(unpackedBytes)} unpacked`,
  );
  await line('pushed', `${clockTime(module.pushed, io.clock.now())} by ${module.pushedBy}`);
  await line('signed', `by ${module.signedBy}`);
  if (note !== '') await line('note', note);
  await line('pinned by', pinnedBy.length === 0 ? 'no release' : pinnedBy.join(', '));
  await output.note(`"muster module users ${name} ${version}" shows where it runs.`);
}

async function remove(io: Io, options: GlobalOptions, name: string, version: string): Promise<void> {
  const output = new Output(io, options);
  await withCenter(io, options, (center) => center.removeModule({ name, version }));
  await output.document({ name, version, removed: true });
  await output.line(`${name} ${version} is removed from the center`);
}

const PUSH_EXAMPLES = `
Examples:
  muster module push ./shared-lib
  muster module push build/shared-lib-2.3.1.tar.gz

Name and version are read from module.yaml. Pushing the same again does nothing; an upload that broke off is gone on with.`;

export function register(program: Command, io: Io): void {
  const module = program.command('module').description('base packages that releases pin');
  module
    .command('push <path>')
    .description('make a directory, or a .tar.gz, with module.yaml at its root a module')
    .option('--note <text>', 'for people, for example what changed')
    .addHelpText('after', PUSH_EXAMPLES)
    .action((path: string, _options, command: Command) =>
      push<Module>(io, command.optsWithGlobals<PushOptions>(), path, MODULE),
    );
  module
    .command('ls [name]')
    .description('modules, the newest first')
    .action((name: string | undefined, _options, command: Command) => list(io, command.optsWithGlobals(), name));
  module
    .command('show <name> <version>')
    .description('digest, size, signer of a module, and which releases pin it')
    .action((name: string, version: string, _options, command: Command) =>
      show(io, command.optsWithGlobals(), name, version),
    );
  module
    .command('users <name> [version]')
    .description('which machines and services run with a module, and at which version')
    .action((name: string, version: string | undefined, _options, command: Command) =>
      showUsers(io, command.optsWithGlobals(), { name, version: version ?? '' }),
    );
  module
    .command('rm <name> <version>')
    .description('remove a module that no release pins')
    .action((name: string, version: string, _options, command: Command) =>
      remove(io, command.optsWithGlobals(), name, version),
    );
}
