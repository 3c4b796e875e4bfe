import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createLogger } from '../../../src/kit/logger.js';
import { MusterError } from '../../../src/kit/errors.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { countTo, failureOf, notes, shapes, textsOf } from '../../support/rpc.js';
import { ShapesService } from '../../support/shapes.js';
import { waitFor } from '../../support/waiting.js';

describe('the four shapes of calls', () => {
  it('carries a unary call', async (t) => {
    const { client } = await shapes(t);
    assert.deepEqual(await client.echo({ text: 'hello' }), { text: 'hello' });
  });

  it('carries a server stream', async (t) => {
    const { client, channel } = await shapes(t);
    assert.deepEqual(await textsOf(client.count({ text: '100' })), [...Array(100).keys()].map(String));
    assert.equal(channel.activeCalls, 0);
  });

  it('carries a client stream', async (t) => {
    const { client } = await shapes(t);
    assert.deepEqual(await client.collect(notes('a', 'b', 'c')), { text: 'a,b,c' });
  });

  it('carries a bidirectional stream, both ways at once', async (t) => {
    const { client, channel } = await shapes(t);
    const chat = client.chat();
    const answers = textsOf(chat);
    for (let index = 0; index < 200; index += 1) await chat.send({ text: `x${index}` });
    chat.end();
    assert.deepEqual(
      await answers,
      [...Array(200).keys()].map((index) => `X${index}`),
    );
    assert.equal(channel.activeCalls, 0);
  });

  it('carries many calls at once', async (t) => {
    const { client } = await shapes(t);
    const texts = [...Array(100).keys()].map(String);
    assert.deepEqual(await Promise.all(texts.map(async (text) => (await client.echo({ text })).text)), texts);
  });

  it('carries empty streams', async (t) => {
    const { client } = await shapes(t);
    assert.deepEqual(await textsOf(client.count({ text: '0' })), []);
    assert.deepEqual(await client.collect(notes()), { text: '' });
    const chat = client.chat();
    chat.end();
    assert.deepEqual(await textsOf(chat), []);
  });

  it('hands on what a server says of its own files as it says it', async (t) => {
    const texts = ["ENOENT: no such file or directory, open '/x'", 'connect ECONNREFUSED', 'self-signed certificate'];
    const refuse = (text: string): never => {
      throw new MusterError('unavailable', text);
    };
    const { client } = await shapes(t, {
      handlers: {
        echo: ({ text }) => Promise.resolve().then(() => refuse(text)),
        count: async function* ({ text }) {
          yield* countTo(1);
          refuse(text);
        },
      },
    });
    for (const text of texts) {
      assert.equal((await failureOf(client.echo({ text }))).message, text);
      assert.equal((await failureOf(textsOf(client.count({ text })))).message, text);
    }
  });

  it('delivers everything sent before a failure, then the failure', async (t) => {
    const { client } = await shapes(t, {
      handlers: {
        count: async function* () {
          yield* countTo(20);
          throw new MusterError('data_loss', 'the rest is gone');
        },
      },
    });
    const seen: string[] = [];
    const failure = await failureOf(
      (async () => {
        for await (const { text } of client.count({ text: '' })) seen.push(text);
      })(),
    );
    assert.equal(failure.code, 'data_loss');
    assert.equal(seen.length, 20);
  });
});

describe('failures', () => {
  const rich = new MusterError('conflict', 'the document moved on: read it again — 100% sure\n#1', {
    reason: 'STALE_ETAG',
    fields: [{ field: 'etag', description: 'is of revision 3' }],
    retryAfterMs: 1250,
    metadata: { revision: '4' },
  });

  it('reach the client of every shape with all they say', async (t) => {
    const { client } = await shapes(t, {
      handlers: {
        echo: () => Promise.reject(rich),
        count: async function* () {
          await Promise.resolve();
          throw rich;
        },
        collect: () => Promise.reject(rich),
        chat: () => Promise.reject(rich),
      },
    });
    const calls = [
      () => client.echo({ text: '' }),
      () => textsOf(client.count({ text: '' })),
      () => client.collect(notes('a')),
      () => textsOf(client.chat()),
    ];
    for (const call of calls) {
      const { code, message, reason, fields, retryAfterMs, metadata } = await failureOf(call());
      assert.deepEqual(
        { code, message, reason, fields, retryAfterMs, metadata },
        {
          code: rich.code,
          message: rich.message,
          reason: rich.reason,
          fields: rich.fields,
          retryAfterMs: rich.retryAfterMs,
          metadata: rich.metadata,
        },
      );
    }
  });

  it('say nothing of a bug but an id under which the log has its cause', async (t) => {
    const lines: string[] = [];
    const logger = createLogger('info', { write: (line: string) => void lines.push(line) });
    const { client } = await shapes(t, {
      logger,
      handlers: { echo: () => Promise.reject(new TypeError('password is hunter2')) },
    });
    const failure = await failureOf(client.echo({ text: 'payload-text' }));
    assert.equal(failure.code, 'internal');
    assert.doesNotMatch(failure.message, /hunter2/);
    const id = failure.metadata['id'] ?? '';
    assert.match(id, /^e-/);
    assert.equal(lines.length, 1);
    const [line = ''] = lines;
    assert.match(line, /hunter2/);
    assert.ok(line.includes(id));
    assert.doesNotMatch(line, /payload-text/);
  });

  it('are logged in one line with code, method, caller and duration, never the payload', async (t) => {
    const lines: string[] = [];
    const logger = createLogger('info', { write: (line: string) => void lines.push(line) });
    const { client } = await shapes(t, {
      logger,
      handlers: { echo: () => Promise.reject(new MusterError('not_found', 'no such note', { reason: 'NO_NOTE' })) },
    });
    await failureOf(client.echo({ text: 'payload-text' }));
    assert.equal(lines.length, 1);
    const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    assert.equal(line['code'], 'not_found');
    assert.equal(line['reason'], 'NO_NOTE');
    assert.equal(line['method'], 'test.Shapes/Echo');
    assert.equal(line['principal'], 'operator tester');
    assert.equal(typeof line['durationMs'], 'number');
    assert.doesNotMatch(lines[0] ?? '', /payload-text/);
  });

  it('survive lone surrogates and very long texts', async (t) => {
    const { client } = await shapes(t, {
      handlers: {
        echo: () =>
          Promise.reject(
            new MusterError('invalid', `\ud800 ${'é'.repeat(50_000)}`, {
              fields: [...Array(1000).keys()].map((index) => ({ field: `f${index}`, description: 'x'.repeat(10_000) })),
              metadata: { long: 'y'.repeat(100_000) },
            }),
          ),
      },
    });
    const failure = await failureOf(client.echo({ text: '' }));
    assert.equal(failure.code, 'invalid');
    assert.ok(failure.fields.length > 0);
  });

  it("of a message that is none are the caller's", async (t) => {
    const { client } = await shapes(t);
    // A message the server cannot read: JSON without the field the service needs.
    const failure = await failureOf(client.echo(JSON.parse('{"text":5}') as { text: string }));
    assert.equal(failure.code, 'invalid');
    assert.equal(failure.reason, 'MALFORMED_MESSAGE');
  });

  it('of an unknown method are "unimplemented"', async (t) => {
    const { channel } = await shapes(t);
    const stranger = createClient({ gone: { ...ShapesService.echo, path: '/test.Shapes/Gone' } }, channel);
    assert.equal((await failureOf(stranger.gone({ text: '' }))).code, 'unimplemented');
  });
});

describe('a stream of the client', () => {
  it('fails with the failure of its source', async (t) => {
    const { client, server } = await shapes(t);
    const broken = (async function* () {
      await Promise.resolve();
      yield { text: 'a' };
      throw new MusterError('data_loss', 'the disk is gone');
    })();
    assert.equal((await failureOf(client.collect(broken))).code, 'data_loss');
    assert.ok(server.activeCalls <= 1);
  });

  it('stops reading its source when the server has answered early', async (t) => {
    const { client } = await shapes(t, { handlers: { collect: () => Promise.resolve({ text: 'enough' }) } });
    let returned = false;
    const endless = (async function* () {
      try {
        for (;;) {
          await new Promise((resolve) => setImmediate(resolve));
          yield { text: 'more' };
        }
      } finally {
        returned = true;
      }
    })();
    assert.deepEqual(await client.collect(endless), { text: 'enough' });
    await waitFor('the source to be closed', () => returned);
  });

  it('refuses to send after its end', async (t) => {
    const { client } = await shapes(t);
    const chat = client.chat();
    chat.end();
    chat.end();
    await assert.rejects(chat.send({ text: 'late' }));
    assert.deepEqual(await textsOf(chat), []);
  });
});

describe('a channel', () => {
  it('refuses the network without a certificate', () => {
    assert.throws(() => openChannel({ address: 'center.example:7400' }), /certificate is needed/);
  });

  it('cancels its calls when it is closed, and refuses new ones', async (t) => {
    const { client, channel } = await shapes(t, { handlers: { echo: () => new Promise(() => undefined) } });
    const hanging = failureOf(client.echo({ text: '' }));
    const chat = client.chat();
    const chatting = failureOf(textsOf(chat));
    channel.close();
    channel.close();
    assert.equal((await hanging).code, 'cancelled');
    assert.equal((await chatting).code, 'cancelled');
    assert.equal((await failureOf(client.echo({ text: '' }))).code, 'cancelled');
    assert.equal(channel.activeCalls, 0);
  });
});
