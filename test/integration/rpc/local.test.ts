import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, lstat, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { HealthService } from '../../../generated/grpc/health/v1/health.js';
import { Secret } from '../../../src/kit/secret.js';
import { createClient } from '../../../src/rpc/client.js';
import { describePrincipal, type Principal } from '../../../src/rpc/principal.js';
import { notAnonymous, type Bound } from '../../../src/rpc/server.js';
import { failureOf, shapesClient, shapesServer, temporaryDirectory, type ServerOverrides } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';
import { NODE_FLAGS, moduleUrl } from '../../support/program.js';

const run = promisify(execFile);
const me: Principal = { kind: 'operator', name: 'me' };
const orders: Principal = { kind: 'service', machine: 'm-1', service: 'orders' };
const token = new Secret('correct-horse');

const telling: ServerOverrides = {
  authorize: (principal) => {
    if (principal.kind === 'anonymous') throw notAnonymous('this call');
  },
  handlers: {
    echo: (_, { principal, peer }) => Promise.resolve({ text: `${describePrincipal(principal)} via ${peer}` }),
  },
  http: (principal) => (request, response) => {
    response.end(`${request.method ?? ''} ${request.url ?? ''} ${describePrincipal(principal)}`);
  },
};

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: IncomingHttpHeaders;
}

/** One HTTP/1.1 request on a connection of its own. */
function http(
  where: { socketPath: string } | { port: number },
  headers: Record<string, string>,
  path = '/x',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', ...where, path, headers, agent: false }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body, headers: response.headers });
      });
    });
    request.on('error', reject);
    request.end();
  });
}

describe('a unix socket', () => {
  it('is who its caller is, in gRPC and in HTTP', async (t) => {
    const directory = await temporaryDirectory(t);
    const server = shapesServer(t, telling);
    for (const [name, principal] of [
      ['me', me],
      ['orders', orders],
    ] as const) {
      const path = join(directory, name);
      const bound = await server.listen({ kind: 'unix', path, principal });
      const { client } = shapesClient(t, { address: bound.address });
      assert.equal((await client.echo({ text: '' })).text, `${describePrincipal(principal)} via unix:${path}`);
      const answer = await http({ socketPath: path }, { host: 'localhost' });
      assert.equal(answer.body, `GET /x ${describePrincipal(principal)}`);
    }
  });

  it('has exactly the asked permissions, 0600 unless told', async (t) => {
    const directory = await temporaryDirectory(t);
    const server = shapesServer(t, telling);
    for (const [name, mode] of [
      ['default', undefined],
      ['group', 0o660],
      ['all', 0o666],
    ] as const) {
      const path = join(directory, name);
      await server.listen({ kind: 'unix', path, principal: me, ...(mode === undefined ? {} : { mode }) });
      assert.equal((await lstat(path)).mode & 0o777, mode ?? 0o600);
    }
  });

  it('can be opened by the user it is for and by nobody else', async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip('needs root');
      return;
    }
    const directory = await temporaryDirectory(t);
    await chmod(directory, 0o755);
    const path = join(directory, 's');
    const server = shapesServer(t, telling);
    await server.listen({ kind: 'unix', path, principal: orders, uid: 65_534, gid: 65_534 });
    const { uid, gid, mode } = await lstat(path);
    assert.deepEqual([uid, gid, mode & 0o777], [65_534, 65_534, 0o600]);
    const dial = `require('net').connect(${JSON.stringify(path)}).on('connect', () => process.exit(0)).on('error', (e) => { console.log(e.code); process.exit(1); })`;
    await run(process.execPath, ['-e', dial], { uid: 65_534, gid: 65_534 });
    await assert.rejects(run(process.execPath, ['-e', dial], { uid: 65_533, gid: 65_533 }), { stdout: 'EACCES\n' });
  });

  it('says what this user may not do', async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip('needs root');
      return;
    }
    const directory = await temporaryDirectory(t);
    await chmod(directory, 0o755);
    const writable = join(directory, 'writable');
    await mkdir(writable);
    await chmod(writable, 0o777);
    const module = moduleUrl('src/rpc/unix-socket');
    const listen = async (options: object): Promise<string> => {
      const program = `
        import { createServer } from 'node:net';
        const { listenOnUnixSocket } = await import(${JSON.stringify(module)});
        await listenOnUnixSocket(createServer(), ${JSON.stringify(options)}).then(
          () => console.log('listening'), (error) => console.log(error.code + ': ' + error.message));
        process.exit(0);`;
      const args = [...NODE_FLAGS, '--input-type=module', '-e', program];
      const { stdout } = await run(process.execPath, args, {
        uid: 65_534,
        gid: 65_534,
        env: { ...process.env, TMPDIR: writable },
      });
      return stdout;
    };
    assert.match(await listen({ path: join(directory, 's') }), /^denied: .*no permission to write in/);
    assert.match(await listen({ path: join(writable, 's'), uid: 0 }), /^denied: .*another user: run as root/);
    await assert.rejects(lstat(join(writable, 's')));
  });

  it('replaces the file of a dead process, and only that', async (t) => {
    const directory = await temporaryDirectory(t);
    const path = join(directory, 's');
    // A process that dies without cleaning up leaves its socket file behind.
    await run(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`,
    ]).catch(() => undefined);
    assert.ok((await lstat(path)).isSocket());
    const first = shapesServer(t, telling);
    await first.listen({ kind: 'unix', path, principal: me });
    const failure = await failureOf(shapesServer(t, telling).listen({ kind: 'unix', path, principal: me }));
    assert.equal(failure.code, 'precondition');
    assert.equal(failure.reason, 'ALREADY_RUNNING');
    assert.equal((await http({ socketPath: path }, { host: 'localhost' })).status, 200);
    await first.drain(0);
    await assert.rejects(lstat(path));
  });

  it('leaves what is not a socket alone', async (t) => {
    const directory = await temporaryDirectory(t);
    const server = shapesServer(t, telling);
    await writeFile(join(directory, 'file'), 'precious');
    await symlink('/etc/passwd', join(directory, 'link'));
    await mkdir(join(directory, 'dir'));
    for (const name of ['file', 'link', 'dir']) {
      const failure = await failureOf(server.listen({ kind: 'unix', path: join(directory, name), principal: me }));
      assert.match(failure.message, /not a socket/);
    }
  });

  it('does not remove a file that another server has put in its place', async (t) => {
    const path = join(await temporaryDirectory(t), 's');
    const first = shapesServer(t, telling);
    await first.listen({ kind: 'unix', path, principal: me });
    const stranger = createServer();
    await rm(path);
    await new Promise<void>((resolve) => stranger.listen(path, resolve));
    await first.drain(0);
    assert.ok((await lstat(path)).isSocket());
    stranger.close();
  });

  it('says what is wrong with its path', async (t) => {
    const directory = await temporaryDirectory(t);
    const server = shapesServer(t, telling);
    const listen = (path: string): Promise<unknown> => server.listen({ kind: 'unix', path, principal: me });
    const long = await failureOf(listen(join(directory, 'x'.repeat(120))));
    assert.equal(long.reason, 'SOCKET_PATH_TOO_LONG');
    assert.match(long.message, /107 bytes/);
    const missing = await failureOf(listen(join(directory, 'none', 's')));
    assert.match(missing.message, /no such directory/);
  });

  it('reports to the caller what is wrong on the other side', async (t) => {
    const directory = await temporaryDirectory(t);
    const missing = await failureOf(
      shapesClient(t, { address: `unix:${join(directory, 'none')}` }).client.echo({ text: '' }),
    );
    assert.equal(missing.reason, 'NO_SUCH_SOCKET', missing.message);
    assert.match(missing.message, /Is it running/);
  });

  it('can be closed alone, and cuts its connections', async (t) => {
    const directory = await temporaryDirectory(t);
    const server = shapesServer(t, telling);
    const one = await server.listen({ kind: 'unix', path: join(directory, 'one'), principal: me });
    const two = await server.listen({ kind: 'unix', path: join(directory, 'two'), principal: me });
    const { client } = shapesClient(t, { address: one.address });
    const chat = client.chat();
    await chat.send({ text: 'a' });
    const answers = chat[Symbol.asyncIterator]();
    await answers.next();
    await one.close();
    await assert.rejects(answers.next());
    await assert.rejects(lstat(join(directory, 'one')));
    assert.match((await shapesClient(t, { address: two.address }).client.echo({ text: '' })).text, /operator me/);
  });
});

async function loopback(t: TestContext, overrides: ServerOverrides = {}): Promise<Bound> {
  return shapesServer(t, { ...telling, ...overrides }).listen({ kind: 'loopback', port: 0, token, principal: me });
}

describe('loopback', () => {
  it('needs the token, in gRPC and in HTTP', async (t) => {
    const { address, port } = await loopback(t);
    const grpc = (authorization?: string): Promise<{ text: string }> =>
      shapesClient(t, { address, headers: authorization === undefined ? {} : { authorization } }).client.echo({
        text: '',
      });
    assert.match((await grpc('Bearer correct-horse')).text, /operator me/);
    assert.match((await grpc('bearer correct-horse')).text, /operator me/);
    const refused = {
      undefined: 'NO_CREDENTIALS',
      'Bearer wrong': 'WRONG_TOKEN',
      'Basic correct-horse': 'WRONG_TOKEN',
      'Bearer correct-horse-': 'WRONG_TOKEN',
      'correct-horse': 'WRONG_TOKEN',
    };
    for (const [header, reason] of Object.entries(refused)) {
      const authorization = header === 'undefined' ? undefined : header;
      const failure = await failureOf(grpc(authorization));
      assert.equal(failure.code, 'unauthenticated');
      assert.equal(failure.reason, reason);
      const answer = await http({ port }, authorization === undefined ? {} : { authorization });
      assert.equal(answer.status, 401);
      assert.equal(answer.headers['www-authenticate'], 'Bearer');
      assert.equal((JSON.parse(answer.body) as { reason: string }).reason, reason);
    }
    assert.equal((await http({ port }, { authorization: 'Bearer correct-horse' })).body, 'GET /x operator me');
  });

  it('answers health without a token', async (t) => {
    const { address } = await loopback(t);
    const { channel } = shapesClient(t, { address });
    assert.equal((await createClient(HealthService, channel).check({ service: '' })).status, 'SERVING');
  });

  it('is refused on an address of the network', async (t) => {
    const server = shapesServer(t);
    for (const host of ['0.0.0.0', '::', '192.0.2.1']) {
      assert.equal(
        (await failureOf(server.listen({ kind: 'loopback', host, port: 0, token, principal: me }))).code,
        'invalid',
      );
    }
  });
});

describe('what a web page could send', () => {
  const authorization = 'Bearer correct-horse';
  const refused: Record<string, Record<string, string>> = {
    'a foreign Host (DNS rebinding)': { host: 'evil.example' },
    'a foreign Host with our port': { host: 'evil.example:7580' },
    'a Host that begins like ours': { host: 'localhost.evil.example' },
    'a Host that ends like ours': { host: 'evil-localhost' },
    'another address of this machine': { host: '0.0.0.0' },
    'a foreign Origin': { origin: 'http://evil.example' },
    'an opaque Origin': { origin: 'null' },
    'the Origin of another port': { host: 'localhost:7580', origin: 'http://localhost:3000' },
    'the Origin of another scheme': { host: 'localhost', origin: 'https://localhost' },
    'what the browser marks as cross-site': { 'sec-fetch-site': 'cross-site' },
  };
  for (const [name, headers] of Object.entries(refused)) {
    it(`is refused on every local listener: ${name}`, async (t) => {
      const server = shapesServer(t, telling);
      const path = join(await temporaryDirectory(t), 's');
      await server.listen({ kind: 'unix', path, principal: me });
      const { port } = await server.listen({ kind: 'loopback', port: 0, token, principal: me });
      for (const where of [{ socketPath: path }, { port }]) {
        const answer = await http(where, { host: 'localhost', authorization, ...headers });
        assert.equal(answer.status, 403, `${answer.status} ${answer.body}`);
      }
    });
  }

  for (const [name, request] of Object.entries({
    'without a Host': 'GET / HTTP/1.0\r\n\r\n',
    'with an empty Host': 'GET / HTTP/1.1\r\nhost:\r\n\r\n',
    'for a foreign absolute address': 'GET http://localhost/ HTTP/1.1\r\nhost: evil.example\r\n\r\n',
  })) {
    it(`is refused ${name}`, async (t) => {
      const path = join(await temporaryDirectory(t), 's');
      await shapesServer(t, telling).listen({ kind: 'unix', path, principal: me });
      const socket = connect(path);
      let answer = '';
      socket.setEncoding('utf8').on('data', (chunk: string) => (answer += chunk));
      socket.write(request);
      await waitFor('the answer', () => answer.includes('\r\n\r\n'));
      assert.match(answer, /^HTTP\/1.1 403/);
      socket.destroy();
    });
  }

  it('is refused before the token is looked at', async (t) => {
    const { port } = await loopback(t);
    assert.equal((await http({ port }, { host: 'evil.example' })).status, 403);
  });

  it('is refused in gRPC too', async (t) => {
    const { address } = await loopback(t);
    const { client } = shapesClient(t, { address, headers: { authorization, origin: 'http://evil.example' } });
    const failure = await failureOf(client.echo({ text: '' }));
    assert.equal(failure.code, 'denied');
    assert.equal(failure.reason, 'FOREIGN_ORIGIN');
  });

  it("passes for this machine's own names and pages", async (t) => {
    const { port } = await loopback(t);
    for (const headers of [
      { host: 'localhost' },
      { host: 'LOCALHOST:1' },
      { host: `127.0.0.1:${port}` },
      { host: '[::1]:99' },
      { host: 'localhost:7580', origin: 'http://localhost:7580' },
    ]) {
      assert.equal((await http({ port }, { authorization, ...headers })).status, 200, JSON.stringify(headers));
    }
  });
});

describe('HTTP beside gRPC', () => {
  it('answers a failing handler with an error and nothing of its cause', async (t) => {
    const { port } = await loopback(t, { http: () => () => Promise.reject(new Error('hunter2')) });
    const answer = await http({ port }, { authorization: 'Bearer correct-horse' });
    assert.equal(answer.status, 500);
    assert.doesNotMatch(answer.body, /hunter2/);
  });

  it('answers 404 where only gRPC is served', async (t) => {
    const path = join(await temporaryDirectory(t), 's');
    await shapesServer(t).listen({ kind: 'unix', path, principal: me });
    assert.equal((await http({ socketPath: path }, { host: 'localhost' })).status, 404);
  });

  it('takes a request that comes byte by byte', async (t) => {
    const path = join(await temporaryDirectory(t), 's');
    await shapesServer(t, telling).listen({ kind: 'unix', path, principal: me });
    const socket = connect(path);
    let answer = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => (answer += chunk));
    for (const byte of 'PUT /slow HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n') {
      socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor('the answer', () => answer.includes('PUT /slow operator me'));
    socket.destroy();
  });

  it('does not hold up a drain with connections kept alive', async (t) => {
    const path = join(await temporaryDirectory(t), 's');
    const server = shapesServer(t, telling);
    await server.listen({ kind: 'unix', path, principal: me });
    const socket = connect(path);
    let answer = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => (answer += chunk));
    socket.write('GET /kept HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await waitFor('the answer', () => answer.includes('/kept'));
    const silent = connect(path);
    await new Promise((resolve) => silent.once('connect', resolve));
    const before = performance.now();
    await server.drain(30_000);
    assert.ok(performance.now() - before < 20_000, 'it waited for an idle connection');
  });

  it('finishes a request that runs when the drain begins', async (t) => {
    const path = join(await temporaryDirectory(t), 's');
    const running: (() => void)[] = [];
    const server = shapesServer(t, {
      http: () => (_, response) =>
        running.push(() => {
          response.end('whole');
        }),
    });
    await server.listen({ kind: 'unix', path, principal: me });
    const answer = http({ socketPath: path }, { host: 'localhost', connection: 'keep-alive' });
    await waitFor('the request', () => running.length === 1);
    const drained = server.drain(30_000);
    for (const finish of running) finish();
    assert.equal((await answer).body, 'whole');
    await drained;
  });
});
