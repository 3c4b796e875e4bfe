import { MemberIdentity } from '../../enrolment/identity.js';
import type { Clock } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import { PORTS } from '../../model/places.js';
import { formatAddress, parseAddress } from '../../rpc/addresses.js';
import { machineFiles, type MachineIdentity } from './machine.js';

export interface OpenIdentityOptions {
  readonly data: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** Who this machine is, from its disk; `center`: where the center is now, if it moved. */
export async function openIdentity(
  { data, clock, random, logger }: OpenIdentityOptions,
  center: string | undefined,
): Promise<MachineIdentity> {
  const files = machineFiles(data);
  const identity = new MemberIdentity({ files, clock, random, logger });
  await identity.refresh();
  const { membership } = identity;
  if (membership && center !== undefined) {
    await files.writeMembership({ ...membership, center: formatAddress(parseAddress(center, PORTS.centerGrpc)) });
    await identity.refresh();
  }
  return identity;
}
