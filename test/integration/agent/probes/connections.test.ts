import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Socket } from 'node:net';
import type { Probe } from '../../../../src/agent/probes/answer.js';
import { grpcProbe } from '../../../../src/agent/probes/grpc.js';
import { httpProbe } from '../../../../src/agent/probes/http.js';
import { tcpProbe, type Address } from '../../../../src/agent/probes/tcp.js';
import { isCode } from '../../../../src/kit/errors.js';
import { CHECK_OUTPUT_BYTES_MAX } from '../../../../src/model/instance.js';
import { ask, askWithin, freePort, listenHttp, listenRaw, type Listening } from '../../../support/probing.js';

const kinds: Readonly<Record<string, (address: Address) => Probe>> = {
  tcp: tcpProbe,
  http: (address) => httpProbe({ ...address, path: '/health' }),
  grpc: (address) => grpcProbe({ ...address, service: '' }),
};

async function endsInTime(probe: Probe, server: Listening): Promise<void> {
  await assert.rejects(askWithin(probe, 200), (error) => isCode(error, 'deadline'));
  await server.closed();
}

/** Sends a byte of `text` at a time, for ever. */
function drip(socket: Socket, text: string): void {
  let at = 0;
  const timer = setInterval(() => {
    socket.write(text[at % text.length] ?? '');
    at += 1;
  }, 10);
  socket.on('close', () => {
    clearInterval(timer);
  });
}

for (const [kind, probeOf] of Object.entries(kinds)) {
  describe(`a ${kind} check`, () => {
    it('fails on a port where nothing listens, and says so', async () => {
      const port = await freePort();
      const answer = await ask(probeOf({ host: '127.0.0.1', port }));
      assert.equal(answer.verdict, 'fail');
      assert.equal(answer.output, `127.0.0.1:${port} refused the connection: nothing listens there`);
    });

    it('fails on a host that does not exist', async () => {
      const answer = await ask(probeOf({ host: 'no-such-host.invalid', port: 80 }));
      assert.equal(answer.verdict, 'fail');
      assert.match(answer.output, /no-such-host\.invalid/);
    });

    it('opens nothing when it is ended before it begins', async (t) => {
      const server = await listenRaw(t, () => undefined);
      await assert.rejects(probeOf(server)(AbortSignal.abort(new Error('ended'))), /ended/);
      assert.equal(server.open.size, 0);
    });
  });
}

describe('a tcp check', () => {
  it('passes when the connection is accepted, and closes it', async (t) => {
    const server = await listenRaw(t, () => undefined);
    assert.deepEqual(await ask(tcpProbe(server)), {
      verdict: 'pass',
      output: `127.0.0.1:${server.port} accepts connections`,
    });
    await server.closed();
  });
});

describe('an http check', () => {
  const http = (server: Address, path = '/health'): Probe => httpProbe({ ...server, path });

  it('asks with GET for the path, as localhost, and shows status and body', async (t) => {
    const asked: unknown[] = [];
    const server = await listenHttp(t, (request, response) => {
      asked.push([request.method, request.url, request.headers.host]);
      response.end('{"db":"ok"}\n');
    });
    assert.deepEqual(await ask(http(server, '/health?full=1')), {
      verdict: 'pass',
      output: 'HTTP 200 OK\n{"db":"ok"}\n',
    });
    assert.deepEqual(asked, [['GET', '/health?full=1', 'localhost']]);
    await server.closed();
  });

  for (const [status, verdict] of [
    [204, 'pass'],
    [301, 'pass'],
    [399, 'pass'],
    [400, 'fail'],
    [503, 'fail'],
  ] as const) {
    it(`counts status ${status} as a ${verdict}`, async (t) => {
      const server = await listenHttp(t, (_, response) => response.writeHead(status).end());
      assert.equal((await ask(http(server))).verdict, verdict);
    });
  }

  it('follows no redirect', async (t) => {
    const other = await listenHttp(t, (_, response) => response.end('never asked'));
    let asked = 0;
    const server = await listenHttp(t, (_, response) => {
      asked += 1;
      response.writeHead(302, { location: `http://127.0.0.1:${other.port}/` }).end();
    });
    assert.equal((await ask(http(server))).output, 'HTTP 302 Found');
    assert.equal(asked, 1);
    assert.equal(other.open.size, 0);
  });

  it('reads no more of an endless body than it keeps', async (t) => {
    const server = await listenHttp(t, (_, response) => {
      const more = (): void => {
        while (response.write('x'.repeat(10_000)) && !response.destroyed);
      };
      response.on('drain', more);
      more();
    });
    const answer = await ask(http(server));
    assert.equal(answer.verdict, 'pass');
    assert.ok(answer.output.length >= CHECK_OUTPUT_BYTES_MAX);
    await server.closed();
  });

  it('ends, with its connection, when nothing is answered', async (t) => {
    const server = await listenRaw(t, () => undefined);
    await endsInTime(http(server), server);
  });

  it('ends when head or body only drip', async (t) => {
    const head = await listenRaw(t, (socket) => {
      drip(socket, 'HTTP/1.1 200 OK\r\nx-slow: ');
    });
    await endsInTime(http(head), head);
    const body = await listenHttp(t, (_, response) => {
      response.writeHead(200);
      drip(response.socket as Socket, '1\r\nx\r\n');
      response.flushHeaders();
    });
    await endsInTime(http(body), body);
  });

  it('fails on what is not HTTP, a broken body and an oversized head', async (t) => {
    const banner = await listenRaw(t, (socket) => socket.end('220 mail.example ESMTP\r\n'));
    assert.match((await ask(http(banner))).output, /did not answer in HTTP/);
    const broken = await listenHttp(t, (_, response) => {
      response.writeHead(200, { 'content-length': 100 });
      response.write('half', () => response.destroy());
    });
    assert.deepEqual(await ask(http(broken)), {
      verdict: 'fail',
      output: 'HTTP 200 OK\nthe answer broke off after 4 bytes of body',
    });
    const fat = await listenRaw(t, (socket) => socket.end(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`));
    assert.equal((await ask(http(fat))).verdict, 'fail');
    const shut = await listenRaw(t, (socket) => socket.destroy());
    assert.match((await ask(http(shut))).output, /closed the connection before it answered/);
  });
});
