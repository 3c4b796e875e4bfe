import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { MusterError, messageOf } from '../kit/errors.js';
import { createClient, type Channel } from '../rpc/client.js';
import type { CallOptions, ClientDuplex } from '../rpc/types.js';
import { describe } from './call-describe.js';
import { Schema, type JsonDefinition, type JsonMethod } from './call-schema.js';

/** What `muster call` was asked for. */
export type CallRequest =
  | { readonly kind: 'list'; readonly service?: string | undefined }
  | { readonly kind: 'describe'; readonly name: string }
  | {
      readonly kind: 'call';
      /** `muster.v1.Center/ListMachines`, or less where that is clear. */
      readonly method: string;
      /** A JSON document; `-` or nothing reads JSON lines from standard input where the method takes a stream, and `-` does everywhere. */
      readonly json?: string | undefined;
    };

export interface CallEnvironment {
  readonly channel: Channel;
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly signal?: AbortSignal;
  /** One compact JSON document a line, also for single answers. */
  readonly compact?: boolean;
  readonly timeoutMs?: number;
}

/** Text that changes how other text looks on a terminal: C1 controls, and marks of writing direction. */
const UNSAFE = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Calls any method of any server by what the server says of itself (reflection): JSON in, JSON out, one document a line for
 * streams. @throws not_found (with the nearest name), invalid (JSON that is not such a message), and what the call throws
 */
export async function runCall(environment: CallEnvironment, request: CallRequest): Promise<void> {
  const { channel, signal } = environment;
  const schema = await Schema.read(channel, signal ? { signal } : {});
  switch (request.kind) {
    case 'list':
      return print(environment, listed(schema, request.service).join('\n'));
    case 'describe':
      return print(environment, describe(schema, request.name));
    case 'call':
      return invoke(environment, schema.method(request.method), request.json);
  }
}

function listed(schema: Schema, service: string | undefined): readonly string[] {
  if (service === undefined) return schema.methods;
  const found = schema.methods.filter((name) => {
    const full = name.split('/')[0] ?? '';
    return full === service || full.toLowerCase().endsWith(`.${service.toLowerCase()}`);
  });
  if (found.length > 0) return found;
  throw new MusterError('not_found', `no service "${service}" here: there are ${schema.services.join(', ')}`);
}

async function invoke(environment: CallEnvironment, method: JsonMethod, json: string | undefined): Promise<void> {
  const { definition, name } = method;
  const { signal, timeoutMs } = environment;
  const options: CallOptions = { ...(signal ? { signal } : {}), ...(timeoutMs === undefined ? {} : { timeoutMs }) };
  const { channel, compact } = environment;
  const messages = requestsOf(environment, method, json);
  const { requestStream, responseStream } = definition;
  if (requestStream && responseStream) {
    const client = createClient({ call: { ...definition, requestStream, responseStream } }, channel);
    return converse(environment, client.call(options), messages);
  }
  if (requestStream) {
    const client = createClient({ call: { ...definition, requestStream, responseStream: false } }, channel);
    return show(environment, await client.call(messages, options), compact);
  }
  const request = await onlyOne(messages, name);
  if (responseStream) {
    const client = createClient({ call: { ...definition, requestStream: false, responseStream } }, channel);
    return showAll(environment, client.call(request, options));
  }
  const client = createClient({ call: { ...definition, requestStream: false, responseStream: false } }, channel);
  return show(environment, await client.call(request, options), compact);
}

/** Sends and prints at once. A failing send shows as the failure of the call; a failing input ends the call. */
async function converse(
  environment: CallEnvironment,
  stream: ClientDuplex<unknown, unknown>,
  messages: AsyncIterable<unknown>,
): Promise<void> {
  let failure: unknown;
  const sending = (async () => {
    try {
      for await (const message of messages) await stream.send(message);
      stream.end();
    } catch (error) {
      failure = error;
      stream.cancel();
    }
  })();
  const showing = showAll(environment, stream).finally(() => {
    // The server has ended the call: whatever is still typed is for nobody.
    environment.stdin.destroy();
  });
  const [shown] = await Promise.allSettled([showing, sending]);
  if (shown.status === 'fulfilled') return;
  throw failure instanceof MusterError && failure.code === 'invalid' ? failure : (shown.reason as unknown);
}

async function* requestsOf(
  environment: CallEnvironment,
  { desc, definition }: JsonMethod,
  json: string | undefined,
): AsyncGenerator {
  const fromInput = json === '-' || (json === undefined && definition.requestStream);
  let line = 0;
  for await (const text of fromInput ? linesOf(environment.stdin) : documents(json, definition)) {
    line += 1;
    if (text.trim() === '') continue;
    const message = parse(text, fromInput ? `line ${line} of standard input` : 'the request');
    // Serialising here tells of a wrong message before anything is sent of it.
    definition.requestSerialize(message);
    yield message;
  }
  if (fromInput && line === 0 && !definition.requestStream) {
    throw new MusterError('invalid', `standard input is empty: give one ${desc.input.typeName} as JSON`);
  }
}

/** An argument is one document; for a stream it may also be several, one a line. */
function documents(json = '{}', { requestStream }: JsonDefinition): AsyncIterable<string> {
  return (async function* () {
    await Promise.resolve();
    if (requestStream && isSeveral(json)) yield* json.split('\n');
    else yield json;
  })();
}

function isSeveral(json: string): boolean {
  try {
    JSON.parse(json);
    return false;
  } catch {
    return json.trim().includes('\n');
  }
}

async function* linesOf(stdin: Readable): AsyncGenerator<string> {
  const lines = createInterface({ input: stdin, crlfDelay: Infinity });
  for await (const line of lines) yield line;
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new MusterError('invalid', `${what} is not JSON: ${messageOf(error)}`, { cause: error });
  }
}

async function onlyOne(messages: AsyncIterable<unknown>, method: string): Promise<unknown> {
  let only: { message: unknown } | undefined;
  for await (const message of messages) {
    if (only) throw new MusterError('invalid', `${method} takes one message, and more were given`);
    only = { message };
  }
  return only?.message ?? {};
}

async function showAll(environment: CallEnvironment, messages: AsyncIterable<unknown>): Promise<void> {
  for await (const message of messages) await show(environment, message, true);
}

async function show(environment: CallEnvironment, message: unknown, compact = false): Promise<void> {
  await print(environment, compact ? JSON.stringify(message) : JSON.stringify(message, null, 2));
}

async function print({ stdout }: CallEnvironment, text: string): Promise<void> {
  const inert = text.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
  if (!stdout.write(`${inert}\n`)) await once(stdout, 'drain');
}
