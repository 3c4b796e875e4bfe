import { digestFile } from '../../archive/digest.js';
import { inspectArchive } from '../../archive/inspect.js';
import { isSignedBy } from '../../archive/signature.js';
import { unpackArchive } from '../../archive/unpack.js';
import type { Channel } from '../../rpc/client.js';
import type { ConfigPins } from '../ports.js';
import { Deploys, type DeploysOptions } from './deploys.js';
import { DeployPerformer } from './performer.js';
import { freeBytesOf, SPACE_FLOOR_BYTES } from './space.js';
import { artifactsOf } from './wire.js';

type Given = 'data' | 'store' | 'services' | 'backupBefore' | 'clock' | 'random' | 'logger';

export interface OpenDeploysOptions extends Pick<DeploysOptions, Given> {
  /** A new connection to the center, closed here; undefined: the machine has not joined one. */
  readonly connect: () => Channel | undefined;
  /** Asked when a deploy needs them. */
  readonly pins: () => ConfigPins;
}

/** The deploys of this machine, with its archives, its disk and its center, and what carries them out as commands. @throws as Deploys.open */
export async function openDeploys(options: OpenDeploysOptions): Promise<{
  readonly deploys: Deploys;
  readonly performers: Readonly<Record<'DEPLOY' | 'ROLLBACK', DeployPerformer>>;
}> {
  const deploys = await Deploys.open({
    ...options,
    pins: laterPins(options.pins),
    archives: { digest: digestFile, isSignedBy, inspect: inspectArchive, unpack: unpackArchive },
    source: artifactsOf(options.connect),
    space: { floorBytes: SPACE_FLOOR_BYTES, freeBytes: freeBytesOf },
  });
  const performer = new DeployPerformer(deploys);
  return { deploys, performers: { DEPLOY: performer, ROLLBACK: performer } };
}

function laterPins(pins: () => ConfigPins): ConfigPins {
  return {
    keep: (service, digest) => pins().keep(service, digest),
    restore: (service, digest) => pins().restore(service, digest),
    unpin: (service) => pins().unpin(service),
    forget: (service, digest) => pins().forget(service, digest),
  };
}
