import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type ClientHttp2Session, type Settings } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { setConnectionWindow, setStreamWindow, type FlowWindow } from '../../../src/rpc/flow-window.js';
import { shapes, type ServerOverrides } from '../../support/rpc.js';

const KIB = 1024;
const WINDOW: FlowWindow = { streamBytes: 3 * KIB * KIB, connectionBytes: 5 * KIB * KIB };

/** A plain HTTP/2 client of a server of ours, and the settings that the server sent. */
async function connected(
  t: TestContext,
  overrides: ServerOverrides,
): Promise<{ session: ClientHttp2Session; settings: Settings }> {
  const { path } = await shapes(t, overrides);
  const session = connect('http://localhost', { createConnection: () => connectSocket(path) });
  session.on('error', () => undefined);
  t.after(() => {
    session.destroy();
  });
  const [settings] = (await once(session, 'remoteSettings')) as [Settings];
  // What the server sends with its settings has come when it answers.
  await new Promise<void>((resolve, reject) => {
    session.ping((error) => {
      if (error) reject(error);
      else resolve();
    });
  });
  return { session, settings };
}

describe('the receive windows of a server', () => {
  it('are what was asked for, of each stream and of each connection', async (t) => {
    const { session, settings } = await connected(t, { flowWindow: WINDOW });
    assert.equal(settings.initialWindowSize, WINDOW.streamBytes);
    assert.equal(session.state.remoteWindowSize, WINDOW.connectionBytes);
  });

  it("are the protocol's own where nothing was asked for", async (t) => {
    const { session, settings } = await connected(t, {});
    assert.equal(settings.initialWindowSize, 64 * KIB - 1);
    assert.equal(session.state.remoteWindowSize, 64 * KIB - 1);
  });
});

describe('the private fields of grpc-js that make the windows', () => {
  it('are still there', (t) => {
    const server = new Server();
    t.after(() => {
      server.forceShutdown();
    });
    setStreamWindow(server, WINDOW);
    server.createConnectionInjector(ServerCredentials.createInsecure());
    assert.ok((Reflect.get(server, 'http2Servers') as Map<unknown, unknown>).size > 0, 'no HTTP/2 server to set');
    setConnectionWindow(server, WINDOW);
    assert.deepEqual(Reflect.get(Reflect.get(server, 'commonServerOptions') as object, 'settings'), {
      ...(Reflect.get(Reflect.get(new Server(), 'commonServerOptions') as object, 'settings') as object | undefined),
      initialWindowSize: WINDOW.streamBytes,
    });
  });

  it('are missed aloud', () => {
    const changed = new Server();
    for (const field of ['commonServerOptions', 'http2Servers']) Reflect.deleteProperty(changed, field);
    for (const set of [setStreamWindow, setConnectionWindow]) {
      assert.throws(
        () => {
          set(changed, WINDOW);
        },
        { code: 'internal', message: /see flow-window\.ts/ },
      );
    }
  });
});
