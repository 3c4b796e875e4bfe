import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ServerReflectionService } from '../../../generated/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as AlphaService } from '../../../generated/grpc/reflection/v1alpha/reflection.js';
import { HealthService } from '../../../generated/grpc/health/v1/health.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { readDescriptors } from '../../../src/rpc/descriptor-set.js';
import { DescriptorIndex } from '../../../src/rpc/descriptors.js';
import { IdentityHolder } from '../../../src/rpc/identity.js';
import { reflect } from '../../../src/rpc/reflection-client.js';
import { RpcServer, type Bound } from '../../../src/rpc/server.js';
import { createAuthority, type Authority } from '../../support/certificates.js';
import { failureOf, temporaryDirectory } from '../../support/rpc.js';
import { surveyImplementation, surveyDescriptors } from '../../support/survey.js';

const run = promisify(execFile);
const buf = fileURLToPath(new URL('../../../node_modules/.bin/buf', import.meta.url));

interface Fixture {
  readonly server: RpcServer;
  readonly directory: string;
  readonly unix: Bound;
  readonly tls: Bound;
  readonly authority: Authority;
}

/** A server with a service whose messages have maps, imports, enums, oneofs and well-known types. */
async function fixture(t: TestContext): Promise<Fixture> {
  const directory = await temporaryDirectory(t);
  const server = new RpcServer({
    services: [surveyImplementation],
    authorize: () => undefined,
    logger: silentLogger,
    descriptors: await surveyDescriptors(),
  });
  t.after(() => server.drain(0));
  const authority = await createAuthority();
  const identity = new IdentityHolder(await authority.issue({ principal: { kind: 'center', name: 'c' } }));
  return {
    server,
    directory,
    authority,
    unix: await server.listen({
      kind: 'unix',
      path: join(directory, 's'),
      principal: { kind: 'operator', name: 'me' },
    }),
    tls: await server.listen({ kind: 'tls', host: '127.0.0.1', port: 0, identity }),
  };
}

interface Said {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function bufCurl(...args: string[]): Promise<Said> {
  try {
    const { stdout, stderr } = await run(buf, ['curl', '--protocol', 'grpc', ...args]);
    return { status: 0, stdout, stderr };
  } catch (error) {
    if (!(error instanceof Error && 'stdout' in error && 'stderr' in error && 'code' in error)) throw error;
    return { status: Number(error.code), stdout: String(error.stdout), stderr: String(error.stderr) };
  }
}

const METHODS = [
  'grpc.health.v1.Health/Check',
  'grpc.health.v1.Health/Watch',
  'grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
  'grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo',
  'test.survey.v1.Survey/Ask',
  'test.survey.v1.Survey/AskAll',
];

describe('buf curl', () => {
  it('lists, describes by calling and calls over the unix socket', async (t) => {
    const { directory } = await fixture(t);
    const socket = ['--unix-socket', join(directory, 's'), '--http2-prior-knowledge'];
    const listed = await bufCurl(...socket, '--list-methods', 'http://localhost');
    assert.deepEqual(listed.stdout.trim().split('\n').sort(), METHODS, listed.stderr);
    const data =
      '{"labels":{"a":"1"},"when":"2026-01-02T03:04:05Z","every":"1.500s","kind":"KIND_DEEP","nested":{"k":{"text":"v"}}}';
    const answered = await bufCurl(...socket, '-d', data, 'http://localhost/test.survey.v1.Survey/Ask');
    assert.equal(answered.status, 0, answered.stderr);
    assert.deepEqual(JSON.parse(answered.stdout), JSON.parse(data));
    const wrong = await bufCurl(...socket, '-d', '{"lables":{}}', 'http://localhost/test.survey.v1.Survey/Ask');
    assert.notEqual(wrong.status, 0);
    const gone = await bufCurl(...socket, 'http://localhost/test.survey.v1.Nobody/Ask');
    assert.notEqual(gone.status, 0);
    for (const reflector of ['grpc-v1', 'grpc-v1alpha']) {
      const again = await bufCurl(
        ...socket,
        '--reflect-protocol',
        reflector,
        '-d',
        '{}',
        'http://localhost/test.survey.v1.Survey/Ask',
      );
      assert.equal(again.status, 0, `${reflector}: ${again.stderr}`);
    }
  });

  it('does so over mTLS, and is refused without a certificate', async (t) => {
    const { directory, authority, tls } = await fixture(t);
    const own = await authority.issue({ principal: { kind: 'operator', name: 'ann' } });
    const file = (name: string): string => join(directory, name);
    await writeFile(file('ca.pem'), own.caPem);
    await writeFile(file('cert.pem'), own.certificatePem);
    await writeFile(file('key.pem'), own.privateKeyPem.reveal());
    const trust = ['--cacert', file('ca.pem'), '--servername', 'center.muster'];
    const url = `https://127.0.0.1:${tls.port}`;
    const listed = await bufCurl(...trust, '--cert', file('cert.pem'), '--key', file('key.pem'), '--list-methods', url);
    assert.deepEqual(listed.stdout.trim().split('\n').sort(), METHODS, listed.stderr);
    const anonymous = await bufCurl(...trust, '--list-methods', url);
    assert.notEqual(anonymous.status, 0);
    assert.match(anonymous.stderr, /not authenticated/);
    const health = await bufCurl(
      ...trust,
      '--schema',
      fileURLToPath(new URL('../../../proto', import.meta.url)),
      `${url}/grpc.health.v1.Health/Check`,
    );
    assert.match(health.stdout, /SERVING/, health.stderr);
  });
});

describe('reflection', () => {
  const versions = { v1: ServerReflectionService, v1alpha: AlphaService };
  for (const [name, service] of Object.entries(versions)) {
    it(`answers every question: ${name}`, async (t) => {
      const { unix } = await fixture(t);
      const channel = openChannel({ address: unix.address });
      t.after(() => {
        channel.close();
      });
      const stream = createClient(service, channel).serverReflectionInfo();
      const answers = stream[Symbol.asyncIterator]();
      type Question = Parameters<typeof stream.send>[0]['messageRequest'];
      const ask = async (messageRequest: Question): Promise<unknown> => {
        await stream.send({ host: 'h', messageRequest });
        const next = await answers.next();
        if (next.done === true) throw new Error('the stream ended');
        assert.equal(next.value.validHost, 'h');
        assert.deepEqual(next.value.originalRequest?.messageRequest, messageRequest);
        const { messageResponse } = next.value;
        if (messageResponse?.$case === 'errorResponse') return messageResponse.value.errorCode;
        if (messageResponse?.$case === 'fileDescriptorResponse')
          return messageResponse.value.fileDescriptorProto.length;
        if (messageResponse?.$case === 'allExtensionNumbersResponse') return messageResponse.value.extensionNumber;
        return messageResponse?.value.service.map((each) => each.name);
      };
      assert.ok(Array.isArray(await ask({ $case: 'listServices', value: '' })));
      // The file and what it imports the first time, then only the file: the client has the rest.
      assert.equal(await ask({ $case: 'fileContainingSymbol', value: 'test.survey.v1.Survey' }), 4);
      assert.equal(await ask({ $case: 'fileContainingSymbol', value: '.test.survey.v1.Question.Nested.text' }), 1);
      for (const symbol of [
        'Survey.Ask',
        'Question',
        'Question.labels',
        'Question.LabelsEntry',
        'Kind',
        'KIND_DEEP',
        'Question.answer',
        'Subject',
      ]) {
        assert.equal(await ask({ $case: 'fileContainingSymbol', value: `test.survey.v1.${symbol}` }), 1, symbol);
      }
      assert.equal(await ask({ $case: 'fileByFilename', value: 'google/protobuf/timestamp.proto' }), 1);
      assert.equal(await ask({ $case: 'fileByFilename', value: 'none.proto' }), 5);
      assert.equal(await ask({ $case: 'fileContainingSymbol', value: 'test.survey.v1.Nobody' }), 5);
      assert.equal(
        await ask({ $case: 'fileContainingExtension', value: { containingType: 'x.Y', extensionNumber: 1 } }),
        5,
      );
      assert.deepEqual(await ask({ $case: 'allExtensionNumbersOfType', value: 'test.survey.v1.Question' }), []);
      assert.equal(await ask({ $case: 'allExtensionNumbersOfType', value: 'x.Y' }), 5);
      assert.equal(await ask(undefined), 3);
      stream.end();
      assert.equal((await answers.next()).done, true);
    });
  }

  it('is not for the anonymous', async (t) => {
    const { tls, authority } = await fixture(t);
    const channel = openChannel({ address: tls.address, tls: { caPem: authority.caPem } });
    t.after(() => {
      channel.close();
    });
    const failure = await failureOf(reflect(channel));
    assert.equal(failure.code, 'unauthenticated');
    assert.equal(failure.reason, 'NO_CREDENTIALS');
  });

  it('is "unimplemented" on a server without descriptors', async (t) => {
    const directory = await temporaryDirectory(t);
    const server = new RpcServer({
      services: [surveyImplementation],
      authorize: () => undefined,
      logger: silentLogger,
    });
    t.after(() => server.drain(0));
    const { address } = await server.listen({
      kind: 'unix',
      path: join(directory, 's'),
      principal: { kind: 'operator', name: 'me' },
    });
    const channel = openChannel({ address });
    t.after(() => {
      channel.close();
    });
    assert.equal((await failureOf(reflect(channel))).code, 'unimplemented');
  });

  it('can describe every contract of this project', async () => {
    const index = new DescriptorIndex(await readDescriptors());
    for (const service of ['Center', 'Agent', 'Config', 'Counter'])
      assert.ok(index.declaring(`muster.v1.${service}`), service);
  });
});

describe('health', () => {
  it('tells of the server, of its services, and of names it does not know', async (t) => {
    const { unix } = await fixture(t);
    const channel = openChannel({ address: unix.address });
    t.after(() => {
      channel.close();
    });
    const health = createClient(HealthService, channel);
    assert.equal((await health.check({ service: '' })).status, 'SERVING');
    assert.equal((await health.check({ service: 'test.survey.v1.Survey' })).status, 'SERVING');
    const failure = await failureOf(health.check({ service: 'test.survey.v1.Surwey' }));
    assert.equal(failure.code, 'not_found');
    assert.match(failure.message, /Did you mean "test\.survey\.v1\.Survey"/);
  });

  it('tells those who watch of each change', async (t) => {
    const { unix, server } = await fixture(t);
    const channel = openChannel({ address: unix.address });
    t.after(() => {
      channel.close();
    });
    const watching = createClient(HealthService, channel).watch({ service: 'later' })[Symbol.asyncIterator]();
    const next = async (): Promise<string> => {
      const told = await watching.next();
      return told.done === true ? 'ended' : told.value.status;
    };
    assert.equal(await next(), 'SERVICE_UNKNOWN');
    server.health.set('later', 'serving');
    assert.equal(await next(), 'SERVING');
    server.health.set('later', 'not_serving');
    assert.equal(await next(), 'NOT_SERVING');
    server.health.set('later', 'serving');
    assert.equal(await next(), 'SERVING');
    const drained = server.drain(100);
    assert.equal(await next(), 'NOT_SERVING');
    await drained;
    server.health.set('later', 'serving');
    assert.equal(server.health.state('later'), 'not_serving');
  });
});
