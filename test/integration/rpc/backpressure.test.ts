import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SEND_WINDOW_MESSAGES } from '../../../src/rpc/streams.js';
import { shapes, textsOf } from '../../support/rpc.js';
import type { Note } from '../../support/shapes.js';
import { waitFor } from '../../support/waiting.js';

/**
 * A peer that does not read must hold its sender back. What may lie between the two: the send window, what both ends of
 * grpc-js and HTTP/2 hold (16 messages in object streams, 64 KiB of flow control, 64 KiB kept for a retry), and little more.
 */
const MESSAGE_BYTES = 64 * 1024;
const BETWEEN_MAX = 3 * SEND_WINDOW_MESSAGES;
const OFFERED = 2000;
const text = 'x'.repeat(MESSAGE_BYTES);

/** Waits until a count has stopped growing. */
async function settled(count: () => number): Promise<number> {
  let [last, unchanged] = [-1, 0];
  await waitFor('the sender to be held back', () => {
    unchanged = count() === last ? unchanged + 1 : 0;
    last = count();
    return unchanged >= 10;
  });
  return last;
}

describe('backpressure', () => {
  it('holds a server back that streams to a client who reads one message and then no more', async (t) => {
    let sent = 0;
    const { client } = await shapes(t, {
      handlers: {
        count: async function* () {
          for (; sent < OFFERED; sent += 1) {
            await Promise.resolve();
            yield { text };
          }
        },
      },
    });
    const stream = client.count({ text: '' })[Symbol.asyncIterator]();
    await stream.next();
    assert.ok((await settled(() => sent)) < BETWEEN_MAX, `${sent} messages were sent to a client that did not read`);
    // The stream is held, not broken: all of it still comes.
    let received = 1;
    while ((await stream.next()).done !== true) received += 1;
    assert.equal(received, OFFERED);
  });

  it('holds the sending half of a bidirectional call back on the server', async (t) => {
    let sent = 0;
    const { client } = await shapes(t, {
      handlers: {
        chat: async (stream) => {
          for (; sent < OFFERED; sent += 1) await stream.send({ text });
        },
      },
    });
    const chat = client.chat();
    await chat[Symbol.asyncIterator]().next();
    assert.ok((await settled(() => sent)) < BETWEEN_MAX, `${sent} messages were sent to a client that did not read`);
    chat.cancel();
  });

  it('holds a client back whose server does not read', async (t) => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { client } = await shapes(t, {
      handlers: {
        chat: async (stream) => {
          await held;
          let received = 0;
          for await (const note of stream) received += note.text.length > 0 ? 1 : 0;
          await stream.send({ text: String(received) });
        },
      },
    });
    const chat = client.chat();
    let sent = 0;
    const sending = (async () => {
      for (; sent < OFFERED; sent += 1) await chat.send({ text });
      chat.end();
    })();
    assert.ok((await settled(() => sent)) < BETWEEN_MAX, `${sent} messages were sent to a server that did not read`);
    release();
    await sending;
    assert.deepEqual(await textsOf(chat), [String(OFFERED)]);
  });

  it('does not read the source of a client stream ahead of the server', async (t) => {
    let taken = 0;
    const source = (async function* (): AsyncGenerator<Note> {
      for (; taken < OFFERED; taken += 1) {
        await Promise.resolve();
        yield { text };
      }
    })();
    const end = new AbortController();
    const { client } = await shapes(t, { handlers: { collect: () => new Promise(() => undefined) } });
    const call = client.collect(source, { signal: end.signal });
    assert.ok(
      (await settled(() => taken)) < BETWEEN_MAX,
      `${taken} messages were taken for a server that did not read`,
    );
    end.abort();
    await assert.rejects(call);
  });

  it('keeps one slow stream from holding up another of the same connection', async (t) => {
    const { client } = await shapes(t, {
      handlers: {
        count: async function* () {
          for (let sent = 0; sent < OFFERED; sent += 1) {
            await Promise.resolve();
            yield { text };
          }
        },
      },
    });
    const slow = client.count({ text: '' })[Symbol.asyncIterator]();
    await slow.next();
    for (let index = 0; index < 20; index += 1) assert.equal((await client.echo({ text })).text.length, MESSAGE_BYTES);
    await slow.return?.();
  });
});
