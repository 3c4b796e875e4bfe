import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { aborted } from '../../../src/kit/tasks.js';
import { MusterError } from '../../../src/kit/errors.js';
import type { CallContext } from '../../../src/rpc/types.js';
import { failureOf, relay, shapes, shapesClient, textsOf, type ShapesHandlers } from '../../support/rpc.js';
import type { Note } from '../../support/shapes.js';
import { waitFor } from '../../support/waiting.js';

/** Handlers that hang until they are told to stop, and remember why. */
class Hanging {
  readonly reasons: unknown[] = [];
  started = 0;

  readonly handlers: ShapesHandlers = {
    echo: (_, context) => this.#hang(context),
    count: (_, context) => this.#stream(context),
    collect: (_, context) => this.#hang(context),
    chat: async (_, context) => {
      await this.#hang(context);
    },
  };

  async #hang({ signal }: CallContext): Promise<Note> {
    this.started += 1;
    await aborted(signal);
    this.reasons.push(signal.reason);
    throw signal.reason as Error;
  }

  async *#stream(context: CallContext): AsyncGenerator<Note> {
    yield { text: 'first' };
    await this.#hang(context);
  }

  /** The code of the first reason. */
  async reason(): Promise<string> {
    const [first] = await waitFor('the handler to be told', () => this.reasons.length > 0 && this.reasons);
    return first instanceof MusterError ? first.code : String(first);
  }
}

async function* never(): AsyncGenerator<Note> {
  await new Promise(() => undefined);
  yield { text: '' };
}

describe('cancellation', () => {
  const shapesOfCalls = {
    unary: (client, signal) => client.echo({ text: '' }, { signal }),
    'server stream': (client, signal) => textsOf(client.count({ text: '' }, { signal })),
    'client stream': (client, signal) => client.collect(never(), { signal }),
    bidirectional: (client, signal) => textsOf(client.chat({ signal })),
  } satisfies Record<
    string,
    (client: Awaited<ReturnType<typeof shapes>>['client'], signal: AbortSignal) => Promise<unknown>
  >;

  for (const [name, start] of Object.entries(shapesOfCalls)) {
    it(`by a signal reaches the handler: ${name}`, async (t) => {
      const hanging = new Hanging();
      const { client, server, channel } = await shapes(t, { handlers: hanging.handlers });
      const controller = new AbortController();
      const failure = failureOf(start(client, controller.signal));
      await waitFor('the handler to run', () => hanging.started === 1);
      controller.abort();
      assert.equal((await failure).code, 'cancelled');
      assert.equal(await hanging.reason(), 'cancelled');
      await waitFor('no call to be left', () => server.activeCalls === 0 && channel.activeCalls === 0);
    });
  }

  it('is refused before it starts when the signal has aborted already', async (t) => {
    const hanging = new Hanging();
    const { client } = await shapes(t, { handlers: hanging.handlers });
    assert.equal((await failureOf(client.echo({ text: '' }, { signal: AbortSignal.abort() }))).code, 'cancelled');
    assert.throws(() => client.chat({ signal: AbortSignal.abort() }));
    assert.equal(hanging.started, 0);
  });

  it('ends many calls by one signal, without a warning of leaks', async (t) => {
    const warnings: Error[] = [];
    const warned = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warned);
    t.after(() => process.off('warning', warned));
    const { client, server } = await shapes(t, {
      handlers: {
        echo: async (_, { signal, draining }) => {
          draining?.addEventListener('abort', () => undefined);
          for (let index = 0; index < 20; index += 1) signal.addEventListener('abort', () => undefined);
          await aborted(signal);
          throw signal.reason as Error;
        },
      },
    });
    const controller = new AbortController();
    const calls = [...Array(30).keys()].map(() => failureOf(client.echo({ text: '' }, { signal: controller.signal })));
    await waitFor('the calls to run', () => server.activeCalls === 30);
    controller.abort();
    await Promise.all(calls);
    assert.deepEqual(warnings, []);
  });

  it('carries the reason of the signal to the caller', async (t) => {
    const { client } = await shapes(t, { handlers: new Hanging().handlers });
    const controller = new AbortController();
    const failure = failureOf(client.echo({ text: '' }, { signal: controller.signal }));
    controller.abort(new MusterError('unavailable', 'stopping'));
    assert.equal((await failure).message, 'stopping');
  });

  it('happens when the loop over a server stream is left', async (t) => {
    const hanging = new Hanging();
    const { client, channel } = await shapes(t, { handlers: hanging.handlers });
    for await (const { text } of client.count({ text: '' })) {
      assert.equal(text, 'first');
      await waitFor('the handler to wait', () => hanging.started === 1);
      break;
    }
    assert.equal(await hanging.reason(), 'cancelled');
    assert.equal(channel.activeCalls, 0);
  });

  it('happens when the loop over a bidirectional stream is left', async (t) => {
    let reason: unknown;
    const { client } = await shapes(t, {
      handlers: {
        chat: async (stream, { signal }) => {
          await stream.send({ text: 'first' });
          await aborted(signal);
          reason = signal.reason;
        },
      },
    });
    for await (const { text } of client.chat()) {
      assert.equal(text, 'first');
      break;
    }
    await waitFor('the handler to be told', () => reason !== undefined);
  });

  it('runs the finally of a handler that yields', async (t) => {
    let cleaned = false;
    const { client } = await shapes(t, {
      handlers: {
        count: async function* () {
          try {
            for (;;) {
              await Promise.resolve();
              yield { text: 'x' };
            }
          } finally {
            cleaned = true;
          }
        },
      },
    });
    for await (const { text } of client.count({ text: '' })) if (text === 'x') break;
    await waitFor('the handler to clean up', () => cleaned);
  });

  it('ends a handler waiting for the next message of a client that is gone', async (t) => {
    let ended: unknown;
    const { client } = await shapes(t, {
      handlers: {
        chat: async (stream) => {
          try {
            for await (const note of stream) await stream.send(note);
          } catch (error) {
            ended = error;
            throw error;
          }
        },
      },
    });
    const chat = client.chat();
    await chat.send({ text: 'a' });
    const first = await chat[Symbol.asyncIterator]().next();
    assert.equal(first.done, false);
    chat.cancel();
    await waitFor('the loop to end', () => ended instanceof MusterError && ended.code === 'cancelled');
    await assert.rejects(chat.send({ text: 'b' }));
  });
});

describe('an upload that is not finished', () => {
  /** A handler that tells whether it took the messages for all of them. */
  function uploads(): { handlers: Pick<ShapesHandlers, 'collect'>; ends: string[]; received: number } {
    const seen = {
      ends: [] as string[],
      received: 0,
      handlers: {
        collect: async (stream: AsyncIterable<Note>) => {
          try {
            for await (const { text } of stream) seen.received += text.length;
            seen.ends.push('whole');
          } catch (error) {
            seen.ends.push(error instanceof MusterError ? error.code : String(error));
            throw error;
          }
          return { text: '' };
        },
      },
    };
    return seen;
  }

  async function* oneThenNothing(): AsyncGenerator<Note> {
    yield { text: 'x' };
    await new Promise(() => undefined);
  }

  it('never looks whole to the server when its client cancels', async (t) => {
    const seen = uploads();
    const { client } = await shapes(t, { handlers: seen.handlers });
    for (let round = 1; round <= 20; round += 1) {
      const controller = new AbortController();
      const call = failureOf(client.collect(oneThenNothing(), { signal: controller.signal }));
      await waitFor('the first message', () => seen.received === round);
      controller.abort();
      assert.equal((await call).code, 'cancelled');
      await waitFor('the handler to end', () => seen.ends.length === round);
    }
    assert.deepEqual(new Set(seen.ends), new Set(['cancelled']));
  });

  it('never looks whole to the server when the connection breaks', async (t) => {
    const seen = uploads();
    const { path } = await shapes(t, { handlers: seen.handlers });
    const between = await relay(t, path);
    const { client } = shapesClient(t, { address: `unix:${between.path}` });
    const call = failureOf(client.collect(oneThenNothing()));
    await waitFor('the first message', () => seen.received === 1);
    between.cut();
    assert.equal((await call).code, 'unavailable');
    await waitFor('the handler to end', () => seen.ends.length === 1);
    assert.deepEqual(seen.ends, ['cancelled']);
  });
});

describe('the end of a caller who may no longer call', () => {
  it('ends the calls of that caller and of nobody else', async (t) => {
    const hanging = new Hanging();
    const { client, server, path } = await shapes(t, { handlers: hanging.handlers });
    const other = await server.listen({ kind: 'unix', path: `${path}2`, principal: { kind: 'queue', name: 'q' } });
    const ended = failureOf(textsOf(client.count({ text: '' })));
    const others = shapesClient(t, { address: other.address }).client.count({ text: '' })[Symbol.asyncIterator]();
    await others.next();
    await waitFor('the handlers to run', () => hanging.started >= 1 && server.activeCalls === 2);
    server.endCalls((principal) => principal.kind === 'operator', new MusterError('denied', 'you are out'));
    assert.equal((await ended).code, 'denied');
    assert.equal(server.activeCalls, 1);
    await others.return?.();
  });
});

describe('deadlines', () => {
  it('end a call at both ends', async (t) => {
    const hanging = new Hanging();
    const { client } = await shapes(t, { handlers: hanging.handlers });
    const failure = await failureOf(client.echo({ text: '' }, { timeoutMs: 200 }));
    assert.equal(failure.code, 'deadline');
    assert.match(failure.message, /200 ms/);
    assert.ok(['deadline', 'cancelled'].includes(await hanging.reason()));
  });

  it('end a stream too, when one is given', async (t) => {
    const { client } = await shapes(t, { handlers: new Hanging().handlers });
    assert.equal((await failureOf(textsOf(client.count({ text: '' }, { timeoutMs: 200 })))).code, 'deadline');
    assert.equal((await failureOf(textsOf(client.chat({ timeoutMs: 200 })))).code, 'deadline');
    assert.equal((await failureOf(client.collect(never(), { timeoutMs: 200 }))).code, 'deadline');
  });

  it('of the server end a unary call whose caller set none, even when the handler ignores its signal', async (t) => {
    const { path } = await shapes(t, {
      limits: { unaryDeadlineMs: 200 },
      handlers: { echo: () => new Promise(() => undefined) },
    });
    // The typed client always sets a deadline, so this caller is grpc-js itself.
    const grpc = await import('@grpc/grpc-js');
    const client = new grpc.Client(`unix:${path}`, grpc.credentials.createInsecure());
    t.after(() => {
      client.close();
    });
    const status = await new Promise<{ code?: number; details?: string }>((resolve) => {
      const plain = (bytes: Buffer): Buffer => bytes;
      client.makeUnaryRequest('/test.Shapes/Echo', plain, plain, Buffer.from('{"text":"x"}'), (error) => {
        resolve(error ?? {});
      });
    });
    assert.equal(status.code, grpc.status.DEADLINE_EXCEEDED);
    assert.match(status.details ?? '', /200 ms/);
  });
});

describe('drain', () => {
  it('lets running calls end, refuses new ones, and says so in health', async (t) => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let started = false;
    const { client, server } = await shapes(t, {
      handlers: {
        echo: async (note, { draining }) => {
          started = true;
          await held;
          return { text: `${note.text} ${String(draining?.aborted)}` };
        },
      },
    });
    const call = client.echo({ text: 'kept' });
    await waitFor('the call to run', () => started);
    const drained = server.drain(60_000);
    assert.equal(server.health.state(''), 'not_serving');
    assert.equal(server.health.state('test.Shapes'), 'not_serving');
    release();
    assert.deepEqual(await call, { text: 'kept true' });
    await drained;
    assert.equal((await failureOf(client.echo({ text: '' }))).code, 'unavailable');
    await assert.rejects(server.listen({ kind: 'unix', path: '/tmp/x', principal: { kind: 'operator', name: 'x' } }));
  });

  it('ends what does not end in time as "unavailable", with a time to come back', async (t) => {
    const hanging = new Hanging();
    const { client, server } = await shapes(t, { handlers: hanging.handlers });
    const streaming = failureOf(textsOf(client.count({ text: '' })));
    const chatting = failureOf(textsOf(client.chat()));
    await waitFor('the handlers to run', () => hanging.started === 2);
    await server.drain(50);
    for (const failure of await Promise.all([streaming, chatting])) {
      assert.equal(failure.code, 'unavailable');
      assert.equal(failure.reason, 'STOPPING');
      assert.equal(failure.retryAfterMs, 1000);
    }
    assert.equal(server.activeCalls, 0);
  });

  it('does not wait for a handler that ignores its signal', async (t) => {
    const { client, server } = await shapes(t, { handlers: { echo: () => new Promise(() => undefined) } });
    const call = failureOf(client.echo({ text: '' }));
    await waitFor('the call to run', () => server.activeCalls === 1);
    await server.drain(20);
    assert.equal((await call).code, 'unavailable');
  });

  it('may be asked for twice', async (t) => {
    const { server } = await shapes(t);
    await Promise.all([server.drain(0), server.drain(0)]);
  });
});
