import type { Logger } from '../../kit/logger.js';
import type { KeyedMutex } from '../../kit/tasks.js';
import type { Holds } from './holds.js';
import type { InstanceRecords } from './records.js';
import type { Retirements } from './retirements.js';
import type { Definition } from './sources.js';
import type { Supervisor } from './supervisor.js';

/** What those share who say what services are to be. */
export interface ServiceParts {
  /** Resolves when what ran before is adopted. */
  readonly ready: Promise<void>;
  readonly records: InstanceRecords;
  readonly holds: Holds;
  readonly retirements: Retirements;
  /** One change of what a service is at a time. */
  readonly mutations: KeyedMutex;
  readonly logger: Logger;
  readonly supervisors: ReadonlyMap<string, Supervisor>;
  /** Makes the service what its definition says. */
  readonly put: (definition: Definition) => Promise<void>;
  /** Stops it in the background, then forgets it. */
  readonly retire: (supervisor: Supervisor) => void;
}
