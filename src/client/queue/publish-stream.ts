import { PublishStreamRequest, QueueService, type PublishAck } from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../kit/errors.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { rawRequests } from '../../rpc/raw.js';

/** What a publisher sends over one stream: frames it has encoded itself. */
export interface PublishLink {
  send(frame: Buffer): void;
  /** No more frames: the queue answers what it has and ends the stream. */
  end(): void;
}

export interface PublishListener {
  /** The stream is open; `lastStored` is the newest batch of this producer that is stored. */
  opened(link: PublishLink, lastStored: number): void;
  answered(acks: readonly PublishAck[]): void;
}

const DEFINITION = { publishStream: rawRequests(QueueService.publishStream) };

/**
 * One stream, from its opening to its end. Resolves when the queue has ended it in good order.
 * @throws what the stream fails with
 */
export async function runPublishStream(
  channel: Channel,
  open: { readonly topic: string; readonly producer: string },
  { listener, signal }: { readonly listener: PublishListener; readonly signal: AbortSignal },
): Promise<void> {
  const stream = createClient(DEFINITION, channel).publishStream({ signal });
  const link: PublishLink = {
    // A failure to send is the stream's own failure, which the loop below throws.
    send: (frame) => void stream.send(frame).catch(() => undefined),
    end: () => {
      stream.end();
    },
  };
  const frame = PublishStreamRequest.encode({ frame: { $case: 'open', value: open } }).finish();
  link.send(Buffer.from(frame));
  for await (const { frame: answer } of stream) {
    switch (answer?.$case) {
      case 'opened':
        listener.opened(link, answer.value.lastBatch);
        break;
      case 'acks':
        listener.answered(answer.value.acks);
        break;
      case undefined:
        throw new MusterError('unimplemented', 'the queue answers with frames this version does not know: update it');
    }
  }
}
