import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { createClient, openChannel, type Channel, type ChannelOptions } from '../../src/rpc/client.js';
import { implement, RpcServer, type Bound, type RpcServerOptions } from '../../src/rpc/server.js';
import type { Client, Handlers } from '../../src/rpc/types.js';
import { ShapesService, type Note } from './shapes.js';

/** A server of the Shapes service on a unix socket, clients of it, and the certainty that nothing of either is left behind. */

export type ShapesHandlers = Handlers<typeof ShapesService>;
export type ShapesClient = Client<typeof ShapesService>;

/** What the service does unless a test says otherwise. */
export const plainHandlers: ShapesHandlers = {
  echo: (note) => Promise.resolve(note),
  count: (note) => countTo(Number(note.text)),
  collect: async (notes) => {
    const texts: string[] = [];
    for await (const { text } of notes) texts.push(text);
    return { text: texts.join(',') };
  },
  chat: async (stream) => {
    for await (const { text } of stream) await stream.send({ text: text.toUpperCase() });
  },
};

export function countTo(count: number, text = ''): AsyncIterable<Note> {
  return (async function* () {
    for (let index = 0; index < count; index += 1) {
      await Promise.resolve();
      yield { text: `${index}${text}` };
    }
  })();
}

export async function* notes(...texts: readonly string[]): AsyncGenerator<Note> {
  for (const text of texts) {
    await Promise.resolve();
    yield { text };
  }
}

export async function textsOf(stream: AsyncIterable<Note>): Promise<string[]> {
  const texts: string[] = [];
  for await (const { text } of stream) texts.push(text);
  return texts;
}

/** The MusterError `work` fails with. */
export async function failureOf(work: Promise<unknown>): Promise<MusterError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof MusterError) return error;
    throw error;
  }
  throw new Error('it succeeded, and was meant to fail');
}

export async function temporaryDirectory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'muster-test-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

export type ServerOverrides = Partial<Omit<RpcServerOptions, 'services'>> & {
  readonly handlers?: Partial<ShapesHandlers>;
};

/** A server without listeners, drained after the test. */
export function shapesServer(t: TestContext, { handlers, ...overrides }: ServerOverrides = {}): RpcServer {
  const server = new RpcServer({
    services: [implement(ShapesService, { ...plainHandlers, ...handlers })],
    authorize: () => undefined,
    logger: silentLogger,
    ...overrides,
  });
  t.after(() => server.drain(0));
  return server;
}

export interface ShapesFixture {
  readonly server: RpcServer;
  readonly bound: Bound;
  readonly path: string;
  readonly channel: Channel;
  readonly client: ShapesClient;
}

/** A channel and client, closed after the test. */
export function shapesClient(t: TestContext, options: ChannelOptions): { channel: Channel; client: ShapesClient } {
  const channel = openChannel(options);
  t.after(() => {
    channel.close();
  });
  return { channel, client: createClient(ShapesService, channel) };
}

/** Server, unix listener and client in one. */
export async function shapes(t: TestContext, overrides: ServerOverrides = {}): Promise<ShapesFixture> {
  const path = join(await temporaryDirectory(t), 's');
  const server = shapesServer(t, overrides);
  const bound = await server.listen({ kind: 'unix', path, principal: { kind: 'operator', name: 'tester' } });
  return { server, bound, path, ...shapesClient(t, { address: bound.address }) };
}

/** A socket that passes bytes on to another, until it is cut. */
export async function relay(t: TestContext, to: string): Promise<{ readonly path: string; cut(): void }> {
  const path = join(await temporaryDirectory(t), 'r');
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(to);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far).pipe(near);
  });
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  t.after(cut);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { path, cut };
}
