import { type PublishStreamResponse, QueueService } from '../../generated/muster/v1/queue.js';
import { MusterError } from '../kit/errors.js';
import { onAbort } from '../kit/tasks.js';
import { rawRequests } from '../rpc/raw.js';
import type { CallContext, Duplex, Handlers } from '../rpc/types.js';
import type { Broker } from './broker.js';
import { topicToPublish } from './entrance.js';
import { displacedError } from './producers.js';
import { Publisher } from './publisher.js';
import { acksFrame, openedFrame, readPublishFrame, readPublishRequest, toPublishResponse } from './wire.js';

export const PUBLISH_METHODS = {
  publish: rawRequests(QueueService.publish),
  publishStream: rawRequests(QueueService.publishStream),
};

const PRODUCER_BYTES_MAX = 64;

/** The publishing calls of the Queue service. */
export function publishHandlers(broker: Broker): Handlers<typeof PUBLISH_METHODS> {
  return {
    async publish(request, context) {
      const { topic: name, encoded } = readPublishRequest(request);
      const topic = await topicToPublish(broker, name, context);
      const bytes = encoded.messages.length;
      await broker.admission.enterOnce(bytes);
      try {
        return toPublishResponse(await topic.publish(encoded));
      } finally {
        broker.admission.release(bytes);
      }
    },
    publishStream: (stream, context) => publishStream(broker, stream, context),
  };
}

async function publishStream(
  broker: Broker,
  stream: Duplex<PublishStreamResponse, Buffer>,
  context: CallContext,
): Promise<void> {
  const frames = stream[Symbol.asyncIterator]();
  const first = await frames.next();
  if (first.done === true) return;
  const open = readPublishFrame(first.value);
  if (open.kind !== 'open') throw notOpened();
  if (Buffer.byteLength(open.producer) > PRODUCER_BYTES_MAX) {
    throw new MusterError('invalid', `producer has more than ${PRODUCER_BYTES_MAX} bytes: choose a shorter name`, {
      fields: [{ field: 'open.producer', description: `at most ${PRODUCER_BYTES_MAX} bytes` }],
    });
  }
  const topic = await topicToPublish(broker, open.topic, context);
  const failed = failure();
  const parts = {
    topic,
    admission: broker.admission,
    producer: open.producer,
    answer: (outcomes: Parameters<typeof acksFrame>[0]) => stream.send(acksFrame(outcomes)),
    onFailure: failed.fail,
  };
  const publisher = new Publisher(parts, broker.clock.now(), () => {
    failed.fail(displacedError(open.producer));
  });
  /** What was taken is answered, and the stream ends. */
  const end = (reason: MusterError): void => {
    publisher.finish().then(() => {
      failed.fail(reason);
    }, failed.fail);
  };
  const endings = [
    onAbort(context.draining, () => {
      end(stopping());
    }),
    onAbort(topic.gone, () => {
      end(deleted(open.topic));
    }),
  ];
  try {
    await stream.send(openedFrame(await publisher.lastBatch()));
    await Promise.race([takeAll(frames, publisher), failed.promise]);
  } finally {
    for (const forget of endings) forget();
    publisher.close();
  }
}

async function takeAll(frames: AsyncIterator<Buffer>, publisher: Publisher): Promise<void> {
  for (let next = await frames.next(); next.done !== true; next = await frames.next()) {
    const frame = readPublishFrame(next.value);
    if (frame.kind === 'open') throw new MusterError('invalid', 'the stream is open already: send batches now');
    if (frame.kind === 'none') throw new MusterError('invalid', 'a frame has neither `open` nor `batch`');
    if (frame.encoded instanceof MusterError) await publisher.refuse(frame.batch, frame.encoded);
    else await publisher.take(frame.batch, frame.encoded);
  }
  await publisher.finish();
}

function stopping(): MusterError {
  return new MusterError('unavailable', 'the queue is stopping: connect again in a moment', {
    reason: 'STOPPING',
    retryAfterMs: 1000,
  });
}

function deleted(topic: string): MusterError {
  return new MusterError('not_found', `topic ${topic} was deleted: connect again where there is one of that name`, {
    reason: 'UNKNOWN_TOPIC',
  });
}

/** A promise that only ever fails, at the first call of `fail`. */
function failure(): { readonly promise: Promise<never>; readonly fail: (error: unknown) => void } {
  let fail: (error: unknown) => void = () => undefined;
  const promise = new Promise<never>((_, reject) => {
    fail = reject;
  });
  promise.catch(() => undefined);
  return { promise, fail };
}

function notOpened(): MusterError {
  return new MusterError('invalid', 'the first frame of the stream must be `open`, with the topic', {
    reason: 'NOT_OPENED',
  });
}
