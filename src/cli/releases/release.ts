import type { Command } from 'commander';
import {
  ListReleasesResponse,
  Release,
  ListSigningKeysResponse,
  SigningKey,
} from '../../../generated/muster/v1/center.js';
import { counted } from '../../kit/counted.js';
import { formatSize } from '../../kit/durations.js';
import { parseManifest } from '../../model/manifest.js';
import { withCenter } from '../connection.js';
import type { GlobalOptions, Io } from '../io.js';
import { modulesText } from '../operations/deploy-text.js';
import { clockTime, Output, telling, type Column } from '../output.js';
import { allPages } from '../paging.js';
import { push, type Pushed, type PushOptions } from './push.js';

/** Releases: what a service can be deployed as. */

const RELEASE: Pushed<Release> = {
  kind: 'release',
  file: 'muster.yaml',
  read: (text, file) => parseManifest(text, { file }),
  find: (center, service, version) => center.getRelease({ service, version }),
  put: (center, { request, options }) => center.putRelease(request, options),
  json: (release) => Release.toJSON(release) as object,
  next: (service, version) => `"muster deploy ${service} ${version}" makes it run.`,
};

async function list(io: Io, options: GlobalOptions, service: string | undefined): Promise<void> {
  const output = new Output(io, options);
  const releases = await withCenter(io, options, (center) =>
    allPages(
      (page) => center.listReleases({ ...page, service: service ?? '' }),
      (page) => page.releases,
    ),
  );
  await output.document(ListReleasesResponse.toJSON({ releases, nextPageToken: '' }));
  const now = io.clock.now();
  const columns: Column<Release>[] = [
    { heading: 'SERVICE', text: (release) => release.service },
    { heading: 'VERSION', text: (release) => release.version },
    { heading: 'SIZE', text: ({ artifact }) => formatSize(artifact?.sizeBytes ?? 0), right: true },
    { heading: 'RUN', text: ({ machines }) => String(machines), right: true },
    { heading: 'HELD', text: ({ machinesHolding }) => String(machinesHolding), right: true },
    { heading: 'PUSHED', text: ({ pushed }) => clockTime(pushed, now) },
    { heading: 'BY', text: ({ pushedBy }) => pushedBy },
    { heading: 'MODULES', text: ({ modules }) => modulesText(modules) },
    { heading: 'NOTE', text: ({ note }) => note },
  ];
  await output.table(releases, telling(releases, columns));
  if (releases.length > 0) return;
  await output.note(
    service === undefined
      ? 'No releases yet: "muster release push DIR" makes one.'
      : `No release of a service "${service}": "muster release ls" lists all, "muster release push DIR" makes one.`,
  );
}

interface ShowOptions extends GlobalOptions {
  readonly manifest?: boolean;
}

async function show(io: Io, options: ShowOptions, service: string, version: string): Promise<void> {
  const output = new Output(io, options);
  const release = await withCenter(io, options, (center) => center.getRelease({ service, version }));
  await output.document(Release.toJSON(release));
  if (options.manifest === true) {
    await output.line(release.manifest.trimEnd());
    return;
  }
  const { artifact, files, unpackedBytes, machines, machinesHolding, modules, note } = release;
  const line = (name: string, text: string): Promise<void> => output.line(`${name.padEnd(9)} ${text}`);
  await output.line(`${release.service} ${release.version}`);
  await line('sha256', artifact?.digest ?? '-');
  await line(
    'size',
    `${formatSize(artifact?.sizeBytes ?? 0)}, ${counted(files, 'file')}, ${formatSize(unpackedBytes)} unpacked`,
  );
  await line('modules', modulesText(modules) || 'none');
  await line('pushed', `${clockTime(release.pushed, io.clock.now())} by ${release.pushedBy}`);
  await line('signed', `by ${release.signedBy}`);
  await line('machines', `${machines} run from it, ${machinesHolding} hold it to go back to`);
  if (note !== '') await line('note', note);
  await output.line(`manifest\n${release.manifest.trimEnd().replaceAll(/^/gm, '  ')}`);
}

async function remove(io: Io, options: GlobalOptions, service: string, version: string): Promise<void> {
  const output = new Output(io, options);
  await withCenter(io, options, (center) => center.removeRelease({ service, version }));
  await output.document({ service, version, removed: true });
  await output.line(`${service} ${version} is removed from the center`);
}

async function keys(io: Io, options: GlobalOptions): Promise<void> {
  const output = new Output(io, options);
  const answer = await withCenter(io, options, (center) => center.listSigningKeys({}));
  await output.document(ListSigningKeysResponse.toJSON(answer));
  const now = io.clock.now();
  await output.table(answer.keys, [
    { heading: 'ID', text: ({ id }) => id },
    { heading: 'OPERATOR', text: ({ operator }) => operator },
    { heading: 'ENROLLED', text: ({ enrolled }) => clockTime(enrolled, now) },
    { heading: 'REVOKED', text: ({ revoked }) => clockTime(revoked, now) },
  ]);
  if (answer.keys.length === 0) await output.note('No signing keys yet: the first "muster release push" makes one.');
}

async function revoke(io: Io, options: GlobalOptions, id: string): Promise<void> {
  const output = new Output(io, options);
  const key = await withCenter(io, options, (center) => center.revokeSigningKey({ id }));
  await output.document(SigningKey.toJSON(key));
  await output.line(
    `${key.id} of ${key.operator} is revoked: nothing signed with it is taken or deployed any more; what runs goes on running`,
  );
}

const PUSH_EXAMPLES = `
Examples:
  muster release push ./orders --note 'faster checkout'
  muster release push build/orders-1.4.2.tar.gz

Service and version are read from muster.yaml. Pushing the same again does nothing; an upload that broke off is gone on with.`;

export function register(program: Command, io: Io): void {
  const release = program.command('release').description('versions of services, as they are deployed');
  release
    .command('push <path>')
    .description('make a directory, or a .tar.gz, with muster.yaml at its root a release')
    .option('--note <text>', 'for people, for example what changed')
    .addHelpText('after', PUSH_EXAMPLES)
    .action((path: string, _options, command: Command) =>
      push<Release>(io, command.optsWithGlobals<PushOptions>(), path, RELEASE),
    );
  release
    .command('ls [service]')
    .description('releases, the newest first, and how many machines run or hold each')
    .action((service: string | undefined, _options, command: Command) => list(io, command.optsWithGlobals(), service));
  release
    .command('show <service> <version>')
    .description('digest, size, pins, signer and manifest of a release')
    .option('--manifest', 'its manifest alone')
    .action((service: string, version: string, _options, command: Command) =>
      show(io, command.optsWithGlobals(), service, version),
    );
  release
    .command('rm <service> <version>')
    .description('remove a release that no machine has')
    .action((service: string, version: string, _options, command: Command) =>
      remove(io, command.optsWithGlobals(), service, version),
    );
  const own = release
    .command('keys')
    .description('the keys that may sign releases and modules')
    .action((_options, command: Command) => keys(io, command.optsWithGlobals()));
  own
    .command('revoke <id>')
    .description('take nothing signed with a key any more, nor deploy it')
    .action((id: string, _options, command: Command) => revoke(io, command.optsWithGlobals(), id));
}
