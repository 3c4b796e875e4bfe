import type { Applied, Assignment } from '../../../generated/muster/v1/center.js';
import { isCode, messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { parseManifest } from '../../model/manifest.js';
import type { Heard, ServiceControl } from '../ports.js';

/** Takes note that a service's configuration should be at this revision; fetching happens in the background. */
export interface ConfigRefresh {
  refresh(service: string, wanted: { readonly revision: number; readonly hash: string }): void;
}

export interface AssignmentsOptions {
  readonly control: Pick<ServiceControl, 'assign' | 'unassign'>;
  readonly config: ConfigRefresh;
  readonly logger: Logger;
}

/**
 * Turns assignments into services. A generation that is held already changes nothing and is confirmed again; one that cannot be taken
 * leaves what is held as it was.
 */
export class Assignments {
  readonly #options: AssignmentsOptions;

  constructor(options: AssignmentsOptions) {
    this.#options = options;
  }

  /** Resolves once it is durable, or refused. Answers are told as they come, the last one holds: a service that is taken away ends later. */
  async apply(assignment: Assignment, tell: (applied: Applied) => void): Promise<void> {
    const { service, generation, manifest, removed, configRevision, configHash } = assignment;
    const { control, config, logger } = this.#options;
    const answer = (phase: Applied['phase'], error = ''): void => {
      tell({ service, generation, phase, error });
    };
    const heard: Heard = (problem) => {
      if (problem === undefined) answer('PHASE_APPLIED');
      else answer('PHASE_FAILED', problem);
    };
    try {
      if (removed) {
        answer('PHASE_APPLYING');
        await control.unassign(service, generation, heard);
        return;
      }
      config.refresh(service, { revision: configRevision, hash: configHash });
      if (manifest === '') return;
      await control.assign(this.#read(assignment), heard);
    } catch (error) {
      if (!isCode(error)) logger.error('an assignment failed in an unexpected way', { service, generation, error });
      answer('PHASE_FAILED', messageOf(error));
    }
  }

  /** @throws invalid */
  #read({ service, generation, manifest: manifestText }: Assignment): Parameters<ServiceControl['assign']>[0] {
    return { manifest: parseManifest(manifestText, { file: `${service} from the center` }), manifestText, generation };
  }
}
