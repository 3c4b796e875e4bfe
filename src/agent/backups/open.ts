import type { CenterAccess } from '../ports.js';
import type { Services } from '../services/services.js';
import { sharedDirectory } from '../services/workplace.js';
import { AgentBackups, type AgentBackupsOptions } from './backups.js';
import { backedUpServices } from './services.js';

type Given = 'store' | 'clock' | 'random' | 'logger' | 'machine';

export interface OpenBackupsOptions extends Pick<AgentBackupsOptions, Given> {
  readonly data: string;
  /** Asked only when the backups are run. */
  readonly center: () => CenterAccess;
}

/** The backups of this machine's services. @throws as AgentBackups.open */
export function openBackups(services: Services, options: OpenBackupsOptions): Promise<AgentBackups> {
  const { data, center } = options;
  return AgentBackups.open({
    ...options,
    dataDirectory: data,
    services: backedUpServices(services),
    holding: services,
    sharedDirectory: (service) => sharedDirectory(data, service),
    center: {
      channel: () => center().channel(),
      get connected() {
        return center().connected;
      },
      onConnection: (listener) => center().onConnection(listener),
    },
  });
}
