import { CenterService } from '../../../generated/muster/v1/center.js';
import { createClient, type Channel } from '../../rpc/client.js';

/** Tells the center where this queue is reached, `host:port`. */
export async function tellAddress(
  channel: Channel,
  address: string,
  options: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<void> {
  await createClient(CenterService, channel).registerQueue({ address }, options);
}
