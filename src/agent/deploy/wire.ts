import { CenterService } from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import { createClient, type Channel } from '../../rpc/client.js';
import type { ArtifactSource } from './fetch.js';

/** Archives, as the center sends them. */
export function artifactsOf(channel: () => Channel | undefined): ArtifactSource {
  return {
    async *read(digest, offset, signal) {
      const center = channel();
      if (!center)
        throw new MusterError('unavailable', 'this machine has not joined a center', { reason: 'NOT_JOINED' });
      for await (const { data } of createClient(CenterService, center).fetchArtifact({ digest, offset }, { signal })) {
        if (data.length > 0) yield data;
      }
    },
  };
}
