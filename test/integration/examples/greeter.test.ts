import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Client, credentials, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { grpcProbe } from '../../../src/agent/probes/grpc.js';
import { httpProbe } from '../../../src/agent/probes/http.js';
import { parseManifest } from '../../../src/model/manifest.js';
import { ask, freePort } from '../../support/probing.js';

const GREETER = fileURLToPath(new URL('../../../examples/greeter', import.meta.url));
const LIBRARY = fileURLToPath(new URL('../../../dist/src/client/index.js', import.meta.url));

/** A greeter without an agent. */
class Greeter {
  readonly http: number;
  readonly grpc: number;
  readonly process: ChildProcess;
  stdout = '';
  stderr = '';

  private constructor(http: number, grpc: number) {
    this.http = http;
    this.grpc = grpc;
    this.process = spawn(process.execPath, ['server.mjs'], {
      cwd: GREETER,
      env: { PATH: process.env['PATH'], HTTP_PORT: String(http), GRPC_PORT: String(grpc) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout?.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
    });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
  }

  static async start(http?: number): Promise<Greeter> {
    return new Greeter(http ?? (await freePort()), await freePort());
  }

  /** Resolves when it has written what `pattern` matches. @throws when it ends first */
  async says(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.stdout)) {
      if (this.process.exitCode !== null) throw new Error(`the greeter ended:\n${this.stderr}`);
      await Promise.race([once(this.process.stdout ?? this.process, 'data'), once(this.process, 'close')]);
    }
  }

  async end(): Promise<number | null> {
    this.process.kill('SIGTERM');
    if (this.process.exitCode === null) await once(this.process, 'close');
    return this.process.exitCode;
  }

  async get(path: string, method = 'GET'): Promise<{ status: number; text: string }> {
    const response = await fetch(`http://127.0.0.1:${this.http}${path}`, { method });
    return { status: response.status, text: await response.text() };
  }
}

async function greetOverGrpc(port: number, name: string): Promise<unknown> {
  const service = loadSync(join(GREETER, 'greeter.proto'))['greeter.v1.Greeter'];
  assert.ok(service && !('format' in service));
  const { Greet: method } = service as ServiceDefinition;
  assert.ok(method);
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, { name }, (error, value) => {
        if (error) reject(error);
        else resolve(value);
      });
    });
  } finally {
    client.close();
  }
}

describe('the sample service without an agent', { skip: existsSync(LIBRARY) ? false : 'needs npm run build' }, () => {
  let greeter: Greeter;

  before(async () => {
    greeter = await Greeter.start();
    await greeter.says(/greeter listens/);
  });

  after(() => greeter.end());

  it('greets over HTTP with its default word, and is healthy', async () => {
    assert.deepEqual(await greeter.get('/?name=you'), { status: 200, text: 'Hello, you!\n' });
    assert.deepEqual(await greeter.get('/'), { status: 200, text: 'Hello, world!\n' });
    assert.equal((await greeter.get('/nothing')).status, 404);
    assert.equal((await greeter.get('/', 'POST')).status, 405);
    const address = { host: '127.0.0.1', port: greeter.http };
    assert.deepEqual(await ask(httpProbe({ ...address, path: '/health' })), {
      verdict: 'pass',
      output: 'HTTP 200 OK\nok\n',
    });
  });

  it('greets over gRPC, and is healthy there', async () => {
    assert.deepEqual(await greetOverGrpc(greeter.grpc, 'Ann'), { text: 'Hello, Ann!' });
    const address = { host: '127.0.0.1', port: greeter.grpc };
    assert.equal((await ask(grpcProbe({ ...address, service: '' }))).output, 'SERVING');
    assert.equal((await ask(grpcProbe({ ...address, service: 'greeter.v1.Greeter' }))).output, 'SERVING');
    assert.equal((await ask(grpcProbe({ ...address, service: 'other' }))).verdict, 'fail');
  });

  it('logs a line per request, which no name can fake', async () => {
    await greeter.get('/?name=a%0Afake');
    await greetOverGrpc(greeter.grpc, 'b\nfake');
    await greeter.says(/gRPC Greet "b\\nfake" OK\n/);
    assert.match(greeter.stdout, /GET "\/\?name=you" 200\n/);
    assert.doesNotMatch(greeter.stdout, /^fake/m);
  });

  it('says once that there is no agent', () => {
    assert.equal(greeter.stderr.match(/MUSTER_AGENT is not set/g)?.length, 1);
  });

  it('ends well when it is asked to', async () => {
    assert.equal(await greeter.end(), 0);
  });
});

describe('the sample service', { skip: existsSync(LIBRARY) ? false : 'needs npm run build' }, () => {
  it('ends with a failure where its port is taken', async (t) => {
    const taken = createServer();
    taken.listen(0, '127.0.0.1');
    await once(taken, 'listening');
    t.after(() => taken.close());
    const address = taken.address();
    assert.ok(address && typeof address === 'object');
    const greeter = await Greeter.start(address.port);
    await once(greeter.process, 'close');
    assert.equal(greeter.process.exitCode, 1);
    assert.match(greeter.stderr, /EADDRINUSE/);
  });
});

it('the manifest of the sample is valid, and checks the ports that it passes to the program', async () => {
  const { ports, env, ping } = parseManifest(await readFile(join(GREETER, 'muster.yaml'), 'utf8'));
  assert.deepEqual(
    ports.map((port) => String(port.port)),
    [env['HTTP_PORT'], env['GRPC_PORT']],
  );
  assert.equal(ping?.kind, 'http');
});
