import { ListInstancesRequest, ListInstancesResponse } from '../../generated/muster/v1/center.js';
import type { Instance } from '../../generated/muster/v1/types.js';
import { withCenter } from './connection.js';
import { healthText, stateText } from './instances.js';
import type { GlobalOptions, Io } from './io.js';
import { clockTime, Output } from './output.js';
import { allPages } from './paging.js';

/** Who runs with a module. */

export interface ModuleWanted {
  readonly name: string;
  /** Empty: any. */
  readonly version: string;
}

/** `shared-lib` or `shared-lib@2.3.1`. */
export function moduleWanted(text: string): ModuleWanted {
  const at = text.indexOf('@');
  return at < 0 ? { name: text, version: '' } : { name: text.slice(0, at), version: text.slice(at + 1) };
}

function moduleVersion({ release }: Instance, name: string): string | undefined {
  return release?.modules.find((module) => module.name === name)?.version;
}

interface UsersOptions extends GlobalOptions {
  readonly on?: string;
}

/** Every instance whose release pins the module, of one service or of all. */
export async function showUsers(
  io: Io,
  options: UsersOptions,
  { name, version }: ModuleWanted,
  service = '',
): Promise<void> {
  const output = new Output(io, options);
  const instances = await withCenter(io, options, (center) =>
    allPages(
      (page) =>
        center.listInstances({
          ...ListInstancesRequest.create(),
          ...page,
          service,
          selector: options.on ?? '',
          module: name,
          moduleVersion: version,
        }),
      (page) => page.instances,
    ),
  );
  await output.document(ListInstancesResponse.toJSON({ instances, nextPageToken: '' }));
  const now = io.clock.now();
  await output.table(instances, [
    { heading: 'MACHINE', text: (instance) => instance.machineName },
    { heading: 'SERVICE', text: (instance) => instance.service },
    { heading: 'VERSION', text: (instance) => instance.version },
    { heading: 'MODULE', text: (instance) => `${name} ${moduleVersion(instance, name) ?? ''}` },
    { heading: 'STATE', text: (instance) => stateText(instance, now) },
    { heading: 'HEALTH', text: (instance) => healthText(instance) },
    { heading: 'DEPLOYED', text: (instance) => clockTime(instance.deployed, now) },
  ]);
  if (instances.length > 0) return;
  await output.note(
    `Nothing runs with ${name}${version === '' ? '' : ` ${version}`}${options.on === undefined ? '' : ' there'}: "muster module ls" lists modules.`,
  );
}
