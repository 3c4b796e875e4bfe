import { CenterService } from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { sendsPieces } from '../../rpc/pieces.js';
import type { ArtifactSource } from './fetch.js';

const METHODS = { fetchArtifact: sendsPieces(CenterService.fetchArtifact) };

/** Archives, as the center sends them, each over a connection of its own; `connect` gives undefined where no center is known. */
export function artifactsOf(connect: () => Channel | undefined): ArtifactSource {
  return {
    async *read(digest, offset, signal) {
      const center = connect();
      if (!center)
        throw new MusterError('unavailable', 'this machine has not joined a center', { reason: 'NOT_JOINED' });
      try {
        for await (const { data } of createClient(METHODS, center).fetchArtifact({ digest, offset }, { signal })) {
          if (data.length > 0) yield data;
        }
      } finally {
        center.close();
      }
    },
  };
}
