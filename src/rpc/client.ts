import {
  Metadata,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { MusterError } from '../kit/errors.js';
import { ActiveClientCall } from './client-call.js';
import type { Channel } from './channel.js';
import { receive, SendWindow, untilAborted } from './streams.js';
import {
  DEFAULT_DEADLINE_MS,
  type AnyMethod,
  type CallOptions,
  type Client,
  type ClientDuplex,
  type Definition,
} from './types.js';

export { openChannel, Channel, type ChannelOptions } from './channel.js';

/** One method as every shape needs it; the message types are checked where the client is made. */
interface Method {
  readonly path: string;
  readonly serialize: (message: unknown) => Buffer;
  readonly deserialize: (bytes: Buffer) => unknown;
}

/**
 * A typed client of one service: promises for single messages, async iterables for streams.
 *
 * Failures are MusterErrors with what the server said (code, reason, fields, retryAfterMs, metadata). A server stream
 * begins when it is iterated, holds its sender back while it is not read, and is cancelled by leaving the loop.
 */
export function createClient<D extends Definition>(definition: D, channel: Channel): Client<D> {
  const methods: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(definition)) methods[name] = clientMethod(channel, method);
  return methods as Client<D>;
}

function clientMethod(channel: Channel, definition: AnyMethod): unknown {
  const { path, requestStream, responseStream } = definition;
  const method: Method = { path, serialize: definition.requestSerialize, deserialize: definition.responseDeserialize };
  if (requestStream && responseStream) return (options?: CallOptions) => bidi(channel, method, options);
  if (requestStream) {
    return (messages: AsyncIterable<unknown>, options?: CallOptions) =>
      clientStream(channel, method, { messages, options });
  }
  if (responseStream)
    return (request: unknown, options?: CallOptions) => serverStream(channel, method, { request, options });
  return (request: unknown, options?: CallOptions) => unary(channel, method, { request, options });
}

async function unary(
  channel: Channel,
  method: Method,
  { request, options = {} }: { request: unknown; options: CallOptions | undefined },
): Promise<unknown> {
  const active = new ActiveClientCall(channel, { timeoutMs: DEFAULT_DEADLINE_MS, ...options });
  try {
    return await answerOf(active, (callback) =>
      active.client.makeUnaryRequest(
        method.path,
        method.serialize,
        method.deserialize,
        request,
        headersOf(channel, options),
        active.grpcOptions(),
        callback,
      ),
    );
  } finally {
    active.finish();
  }
}

async function clientStream(
  channel: Channel,
  method: Method,
  { messages, options = {} }: { messages: AsyncIterable<unknown>; options: CallOptions | undefined },
): Promise<unknown> {
  const active = new ActiveClientCall(channel, options);
  try {
    return await answerOf(active, (callback) => {
      const call = active.client.makeClientStreamRequest(
        method.path,
        method.serialize,
        method.deserialize,
        headersOf(channel, options),
        active.grpcOptions(),
        callback,
      );
      void pump(active, call, messages);
      return call;
    });
  } finally {
    active.finish();
  }
}

/** Sends all messages; a failing source ends the call with its own failure. Stops when the server has answered early. */
async function pump(
  active: ActiveClientCall,
  call: ClientWritableStream<unknown>,
  messages: AsyncIterable<unknown>,
): Promise<void> {
  const window = new SendWindow<unknown>((message, taken) => call.write(message, taken), active.ended);
  const source = messages[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await untilAborted(source.next(), active.ended);
      if (next.done === true) break;
      await window.send(next.value);
    }
    call.end();
  } catch (error) {
    Promise.resolve(source.return?.()).catch(() => undefined);
    active.cancel(error);
  }
}

async function* serverStream(
  channel: Channel,
  method: Method,
  { request, options = {} }: { request: unknown; options: CallOptions | undefined },
): AsyncGenerator {
  const active = new ActiveClientCall(channel, options);
  try {
    const call = active.client.makeServerStreamRequest(
      method.path,
      method.serialize,
      method.deserialize,
      request,
      headersOf(channel, options),
      active.grpcOptions(),
    );
    active.watch(call);
    yield* answers(active, call);
  } finally {
    active.cancel(new MusterError('cancelled', 'the caller left the stream'));
    active.finish();
  }
}

function bidi(channel: Channel, method: Method, options: CallOptions = {}): ClientDuplex<unknown, unknown> {
  const active = new ActiveClientCall(channel, options);
  const call = active.client.makeBidiStreamRequest(
    method.path,
    method.serialize,
    method.deserialize,
    headersOf(channel, options),
    active.grpcOptions(),
  );
  active.watch(call);
  active.onEnd(() => {
    active.finish();
  });
  const window = new SendWindow<unknown>((message, taken) => call.write(message, taken), active.ended);
  const incoming = bidiAnswers(active, call);
  return {
    send: (message) => window.send(message),
    end: () => {
      if (window.close() && !active.ended.aborted) call.end();
    },
    cancel: () => {
      active.cancel(new MusterError('cancelled', 'the call was cancelled by its caller'));
    },
    [Symbol.asyncIterator]: () => incoming,
  };
}

async function* bidiAnswers(active: ActiveClientCall, call: ClientDuplexStream<unknown, unknown>): AsyncGenerator {
  try {
    yield* answers(active, call);
  } finally {
    active.cancel(new MusterError('cancelled', 'the caller left the stream'));
  }
}

type Readable = ClientReadableStream<unknown> | ClientDuplexStream<unknown, unknown>;

function answers(active: ActiveClientCall, call: Readable): AsyncGenerator {
  return receive(call, { explain: (error) => active.explain(error) });
}

type UnaryCallback = (error: ServiceError | null, value?: unknown) => void;

/** The single answer of a call that has one. */
function answerOf(active: ActiveClientCall, start: (callback: UnaryCallback) => ClientUnaryCall): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = start((error, value) => {
      active.ending(error);
      if (error) reject(active.explain(error));
      else resolve(value);
    });
    active.watch(call);
  });
}

function headersOf(channel: Channel, options: CallOptions): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries({ ...channel.headers, ...options.headers })) metadata.set(name, value);
  return metadata;
}
