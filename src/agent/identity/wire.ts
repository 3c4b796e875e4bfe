import { CenterService } from '../../../generated/muster/v1/center.js';
import type { SignedCertificate } from '../../enrolment/wire.js';
import { createClient, type Channel } from '../../rpc/client.js';

/** Asks the center for a certificate for a service of this machine. */
export async function askForService(
  channel: Channel,
  service: string,
  request: Uint8Array,
): Promise<SignedCertificate> {
  return createClient(CenterService, channel).signServiceCertificate({
    service,
    certificateRequest: Buffer.from(request),
  });
}
