import assert from 'node:assert/strict';
import { connect as connectHttp2, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect, createServer } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { aborted } from '../../../src/kit/tasks.js';
import { openChannel } from '../../../src/rpc/client.js';
import { failureOf, notes, shapes, shapesClient, shapesServer, textsOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const KIB = 1024;

/** HTTP/2 spoken by hand, to send what no gRPC library would. */
function rawSession(t: TestContext, path: string): ClientHttp2Session {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(path) });
  session.on('error', () => undefined);
  t.after(() => {
    session.destroy();
  });
  return session;
}

function rawCall(session: ClientHttp2Session, path: string, headers: Record<string, string> = {}): ClientHttp2Stream {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  stream.on('error', () => undefined);
  stream.resume();
  return stream;
}

/** A gRPC message of these bytes. */
function framed(bytes: Buffer, lengthSaid = bytes.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(lengthSaid, 1);
  return Buffer.concat([head, bytes]);
}

/** The grpc-status a raw call ends with; `reset` when it has none. */
function statusOf(stream: ClientHttp2Stream): Promise<string> {
  return new Promise((resolve) => {
    const take = (headers: Record<string, unknown>): void => {
      const status = headers['grpc-status'];
      if (typeof status !== 'string' && typeof status !== 'number') return;
      resolve(String(status));
      stream.close();
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('close', () => {
      resolve('reset');
    });
  });
}

describe('limits', () => {
  it('on the size of a message hold for requests and for answers', async (t) => {
    const { client, path } = await shapes(t, {
      limits: { messageBytesMax: 64 * KIB },
      handlers: { collect: () => Promise.resolve({ text: 'x'.repeat(100 * KIB) }) },
    });
    const big = { text: 'x'.repeat(100 * KIB) };
    assert.equal((await failureOf(client.echo(big))).code, 'exhausted');
    assert.equal((await failureOf(client.collect(notes('a')))).code, 'exhausted');
    assert.equal((await failureOf(textsOf(client.count(big)))).code, 'exhausted');
    const small = shapesClient(t, { address: `unix:${path}`, messageBytesMax: 10 * KIB }).client;
    assert.equal((await failureOf(small.echo({ text: 'x'.repeat(20 * KIB) }))).code, 'exhausted');
    assert.equal((await client.echo({ text: 'fits' })).text, 'fits');
  });

  it('on the size of a message hold for the length it announces', async (t) => {
    const { path, client } = await shapes(t);
    const session = rawSession(t, path);
    const stream = rawCall(session, '/test.Shapes/Echo');
    stream.write(framed(Buffer.from('{'), 0xfffffff0));
    assert.equal(await statusOf(stream), '8');
    assert.equal((await client.echo({ text: 'well' })).text, 'well');
  });

  it('on what a compressed message becomes hold too', async (t) => {
    const { path } = await shapes(t);
    const stream = rawCall(rawSession(t, path), '/test.Shapes/Echo', { 'grpc-encoding': 'gzip' });
    const bomb = framed(gzipSync(Buffer.alloc(64 * KIB * KIB)));
    bomb[0] = 1;
    stream.end(bomb);
    assert.equal(await statusOf(stream), '8');
  });

  it('on calls of one connection keep the surplus out, and others in', async (t) => {
    let running = 0;
    let most = 0;
    const { path, server } = await shapes(t, {
      limits: { streamsPerConnectionMax: 10 },
      handlers: {
        chat: async (_, { signal }) => {
          running += 1;
          most = Math.max(most, running);
          await aborted(signal);
          running -= 1;
        },
      },
    });
    const session = rawSession(t, path);
    await new Promise((resolve) => session.once('remoteSettings', resolve));
    assert.equal(session.remoteSettings.maxConcurrentStreams, 10);
    // A client that ignores what it was told: more streams than allowed, before it has read the settings.
    const rude = connectHttp2('http://localhost', {
      createConnection: () => connect(path),
      peerMaxConcurrentStreams: 1000,
    });
    rude.on('error', () => undefined);
    const streams = [...Array(50).keys()].map(() => rawCall(rude, '/test.Shapes/Chat'));
    await waitFor('the allowed calls to run', () => running === 10);
    const { client } = shapesClient(t, { address: `unix:${path}` });
    assert.equal((await client.echo({ text: 'in' })).text, 'in');
    assert.equal(most, 10);
    for (const stream of streams) stream.close();
    rude.destroy();
    await waitFor('all to end', () => server.activeCalls === 0);
  });

  it('on connections close the surplus', async (t) => {
    const { path } = await shapes(t, { limits: { connectionsMax: 3 } });
    const open = new Set<unknown>();
    for (let index = 0; index < 10; index += 1) {
      const socket = connect(path);
      open.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => open.delete(socket));
      t.after(() => socket.destroy());
    }
    await waitFor('the surplus to be closed', () => open.size === 3);
  });

  it('on headers refuse an excess', async (t) => {
    const { path, client } = await shapes(t);
    const session = rawSession(t, path);
    const long = rawCall(session, '/test.Shapes/Echo', { 'x-long': 'x'.repeat(200 * KIB) });
    assert.notEqual(await statusOf(long), '0');
    const many = rawSession(t, path);
    const crowd = Object.fromEntries([...Array(500).keys()].map((index) => [`x-${index}`, 'y']));
    assert.notEqual(await statusOf(rawCall(many, '/test.Shapes/Echo', crowd)), '0');
    assert.equal((await client.echo({ text: 'well' })).text, 'well');
  });
});

describe('hostile peers', () => {
  it('that never say a byte are cut', async (t) => {
    const { path } = await shapes(t, { limits: { firstByteTimeoutMs: 100 } });
    for (const first of ['', 'P', 'PR']) {
      const socket = connect(path);
      if (first !== '') socket.write(first);
      await new Promise((resolve) => socket.on('close', resolve).resume());
    }
  });

  it('that drip an HTTP header are cut', async (t) => {
    const { path } = await shapes(t, { limits: { httpHeadersTimeoutMs: 200, httpRequestTimeoutMs: 400 } });
    const socket = connect(path);
    socket.on('error', () => undefined);
    socket.write('GET / HTTP/1.1\r\nhost: localhost\r\nx-drip: ');
    const drip = setInterval(() => socket.write('x'), 20);
    await new Promise((resolve) => socket.on('close', resolve).resume());
    clearInterval(drip);
  });

  it('that send garbage after the preface are cut', async (t) => {
    const { path, client } = await shapes(t);
    const socket = connect(path);
    socket.on('error', () => undefined);
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    socket.write(Buffer.alloc(4 * KIB, 0xff));
    await new Promise((resolve) => socket.on('close', resolve).resume());
    const almost = connect(path);
    almost.on('error', () => undefined);
    almost.write('PRI * HTTP/9.9\r\n\r\nXX\r\n\r\n');
    await new Promise((resolve) => almost.on('close', resolve).resume());
    assert.equal((await client.echo({ text: 'well' })).text, 'well');
  });

  it('that send bytes which are no message are told so', async (t) => {
    const { path } = await shapes(t);
    const session = rawSession(t, path);
    for (const method of ['Echo', 'Count', 'Collect', 'Chat']) {
      const stream = rawCall(session, `/test.Shapes/${method}`);
      stream.end(framed(Buffer.from([0xff, 0x00, 0x13])));
      assert.equal(await statusOf(stream), '3', method);
    }
  });

  it('that send no message where one belongs, or two, are told so', async (t) => {
    const { path, server } = await shapes(t);
    const session = rawSession(t, path);
    const none = rawCall(session, '/test.Shapes/Echo');
    none.end();
    assert.equal(await statusOf(none), '12');
    const two = rawCall(session, '/test.Shapes/Echo');
    two.end(Buffer.concat([framed(Buffer.from('{"text":"a"}')), framed(Buffer.from('{"text":"b"}'))]));
    assert.equal(await statusOf(two), '12');
    const half = rawCall(session, '/test.Shapes/Echo');
    half.end(framed(Buffer.from('{"te'), 100));
    await statusOf(half);
    await waitFor('no call to be left', () => server.activeCalls === 0);
  });

  it('that open and reset calls in a rush lose their connection, and nobody else does', async (t) => {
    let started = 0;
    const { path, client, server } = await shapes(t, {
      handlers: {
        chat: async (_, { signal }) => {
          started += 1;
          await aborted(signal);
        },
      },
    });
    const session = rawSession(t, path);
    await new Promise((resolve) => session.once('remoteSettings', resolve));
    const ends: string[] = [];
    for (const event of ['close', 'goaway']) session.on(event, () => ends.push(event));
    const total = 20_000;
    for (let sent = 0; sent < total && ends.length === 0; sent += 100) {
      for (let index = 0; index < 100 && !session.destroyed && !session.closed; index += 1) {
        rawCall(session, '/test.Shapes/Chat').close(constants.NGHTTP2_CANCEL);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor('the connection to be refused further calls', () => ends.length > 0);
    assert.ok(started < total / 2, `${started} handlers were started`);
    assert.equal((await client.echo({ text: 'well' })).text, 'well');
    await waitFor('no call to be left', () => server.activeCalls === 0);
  });

  it('that reset their socket in the middle of everything leave nothing behind', async (t) => {
    const { path, server, client } = await shapes(t, { handlers: { chat: (_, { signal }) => aborted(signal) } });
    for (let round = 0; round < 10; round += 1) {
      const socket = connect(path);
      const session = connectHttp2('http://localhost', { createConnection: () => socket });
      session.on('error', () => undefined);
      for (let index = 0; index < 5; index += 1) rawCall(session, '/test.Shapes/Chat');
      await waitFor('the calls to run', () => server.activeCalls === 5);
      socket.destroy();
      session.destroy();
      await waitFor('the calls to end', () => server.activeCalls === 0);
    }
    assert.equal((await client.echo({ text: 'well' })).text, 'well');
  });
});

describe('a center that cannot be reached', () => {
  it('is named, with what to do', async (t) => {
    const failure = await failureOf(
      shapesClient(t, { address: '127.0.0.1:1', peer: 'the center' }).client.echo({ text: '' }),
    );
    assert.equal(failure.code, 'unavailable');
    assert.equal(failure.reason, 'CONNECTION_REFUSED');
    assert.match(failure.message, /^cannot reach the center at 127\.0\.0\.1:1: connection refused\. Is it running/);
  });

  it('fails a stream without a deadline within the time to connect', async (t) => {
    // A listener that accepts and says nothing: no HTTP/2 connection ever comes to be.
    const sockets = new Set<{ destroy(): unknown }>();
    const silent = createServer((socket) => sockets.add(socket));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const address = silent.address();
    assert.ok(typeof address === 'object' && address !== null);
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      silent.close();
    });
    const { client } = shapesClient(t, { address: `127.0.0.1:${address.port}`, connectTimeoutMs: 200 });
    const failure = await failureOf(textsOf(client.chat()));
    assert.equal(failure.reason, 'CONNECT_TIMEOUT');
    assert.match(failure.message, /within 200 ms/);
  });

  it('is found again when it is back', async (t) => {
    const first = await shapes(t);
    assert.equal((await first.client.echo({ text: 'a' })).text, 'a');
    await first.server.drain(0);
    assert.equal((await failureOf(first.client.echo({ text: 'b' }))).code, 'unavailable');
    await shapesServer(t).listen({ kind: 'unix', path: first.path, principal: { kind: 'operator', name: 'x' } });
    await waitFor('the channel to reconnect', async () => (await first.client.echo({ text: 'c' })).text === 'c');
  });

  it('needs a well-formed address', () => {
    for (const address of ['', 'host', 'host:port', 'host:99999', 'unix:relative', 'a b:1', 'http://x:1']) {
      assert.throws(() => openChannel({ address }), /is not an address/, address);
    }
  });
});
