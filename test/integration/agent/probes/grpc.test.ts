import assert from 'node:assert/strict';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { describe, it, type TestContext } from 'node:test';
import { Server as GrpcServer, ServerCredentials, status } from '@grpc/grpc-js';
import {
  HealthService,
  type HealthCheckResponse_ServingStatus,
  type HealthServer,
} from '../../../../generated/grpc/health/v1/health.js';
import type { Probe } from '../../../../src/agent/probes/answer.js';
import { grpcProbe } from '../../../../src/agent/probes/grpc.js';
import type { Address } from '../../../../src/agent/probes/tcp.js';
import { isCode } from '../../../../src/kit/errors.js';
import { ask, askWithin, listen, listenHttp, listenRaw, type Listening } from '../../../support/probing.js';

/** A real gRPC server that says this of its services, NOT_FOUND of others. */
async function serve(
  t: TestContext,
  services: Readonly<Record<string, HealthCheckResponse_ServingStatus>>,
  parts: { health: boolean } = { health: true },
): Promise<Address> {
  const server = new GrpcServer();
  const handlers: HealthServer = {
    check: (call, answer) => {
      const found = services[call.request.service];
      if (found) answer(null, { status: found });
      else answer({ code: status.NOT_FOUND, details: 'unknown service' });
    },
    watch: () => undefined,
  };
  if (parts.health) server.addService(HealthService, handlers);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  t.after(() => {
    server.forceShutdown();
  });
  return { host: '127.0.0.1', port };
}

async function serveStreams(t: TestContext, onStream: (stream: ServerHttp2Stream) => void): Promise<Listening> {
  const server = createHttp2Server();
  server.on('sessionError', () => undefined);
  server.on('stream', (stream) => {
    stream.on('error', () => undefined);
    onStream(stream);
  });
  return listen(t, server);
}

const grpc = (address: Address, service = ''): Probe => grpcProbe({ ...address, service });

describe('a grpc check', () => {
  it('passes when a real server says SERVING, of itself or of one service', async (t) => {
    const server = await serve(t, { '': 'SERVING', 'shop.Orders': 'SERVING' });
    assert.deepEqual(await ask(grpc(server)), { verdict: 'pass', output: 'SERVING' });
    assert.deepEqual(await ask(grpc(server, 'shop.Orders')), { verdict: 'pass', output: 'SERVING' });
  });

  it('fails on any other status', async (t) => {
    const server = await serve(t, { '': 'NOT_SERVING', odd: 'UNKNOWN' });
    assert.deepEqual(await ask(grpc(server)), { verdict: 'fail', output: 'NOT_SERVING' });
    assert.deepEqual(await ask(grpc(server, 'odd')), { verdict: 'fail', output: 'UNKNOWN' });
  });

  it('says which service the server does not know, and where there is no health service', async (t) => {
    const server = await serve(t, { '': 'SERVING' });
    const unknown = await ask(grpc(server, 'shop.Odrers'));
    assert.equal(unknown.output, `127.0.0.1:${server.port} knows no service "shop.Odrers"`);
    const bare = await serve(t, {}, { health: false });
    assert.deepEqual(await ask(grpc(bare)), {
      verdict: 'fail',
      output: `127.0.0.1:${bare.port} does not serve grpc.health.v1`,
    });
  });

  it('fails on a server of HTTP/1, of another protocol, and one that closes', async (t) => {
    const http = await listenHttp(t, (_, response) => response.end('hello'));
    const mail = await listenRaw(t, (socket) => socket.write('220 mail.example ESMTP\r\n'));
    const shut = await listenRaw(t, (socket) => socket.destroy());
    for (const server of [http, mail]) {
      const answer = await ask(grpc(server));
      assert.equal(answer.verdict, 'fail');
      assert.match(answer.output, /does not speak gRPC|closed the connection/);
      await server.closed();
    }
    const closed = await ask(grpc(shut));
    assert.match(closed.output, /closed the connection before it answered/);
  });

  it('fails on plain HTTP/2 and on messages that are none', async (t) => {
    const plain = await serveStreams(t, (stream) => {
      stream.respond({ ':status': 404 });
      stream.end('no');
    });
    assert.equal(
      (await ask(grpc(plain))).output,
      `127.0.0.1:${plain.port} answered HTTP 404 after 2 bytes without a gRPC status`,
    );
    for (const body of [Buffer.alloc(0), Buffer.from([0, 0, 0, 0, 9, 8, 1]), Buffer.from([1, 0, 0, 0, 2, 8, 1])]) {
      const server = await serveStreams(t, (stream) => {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
        stream.on('wantTrailers', () => {
          stream.sendTrailers({ 'grpc-status': '0' });
        });
        stream.end(body);
      });
      const answer = await ask(grpc(server));
      assert.equal(answer.verdict, 'fail');
      assert.match(answer.output, /that are not one gRPC message/);
    }
  });

  it('reads no more than an answer can be', async (t) => {
    const server = await serveStreams(t, (stream) => {
      stream.respond({ ':status': 200 });
      const more = (): void => {
        while (!stream.destroyed && stream.write(Buffer.alloc(16_384)));
      };
      stream.on('drain', more);
      more();
    });
    assert.equal((await ask(grpc(server))).verdict, 'fail');
    await server.closed();
  });

  it('ends, with its connection, where nothing is ever answered: no HTTP/2, no headers, no end', async (t) => {
    const silent = await listenRaw(t, () => undefined);
    const noHeaders = await serveStreams(t, () => undefined);
    const noEnd = await serveStreams(t, (stream) => {
      stream.respond({ ':status': 200 });
      stream.write(Buffer.alloc(1));
    });
    for (const server of [silent, noHeaders, noEnd]) {
      await assert.rejects(askWithin(grpc(server), 300), (error) => isCode(error, 'deadline'));
      await server.closed();
    }
  });

  it('leaves no connection behind on a server that goes on', async (t) => {
    const server = await serveStreams(t, (stream) => {
      stream.respond({ ':status': 200, 'grpc-status': '12' }, { endStream: true });
    });
    for (let round = 0; round < 5; round += 1) await ask(grpc(server));
    await server.closed();
    assert.equal(server.open.size, 0);
  });
});
