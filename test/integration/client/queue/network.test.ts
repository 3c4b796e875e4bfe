import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { AgentService, type GetCertificateResponse } from '../../../../generated/muster/v1/agent.js';
import { Authority, newKey } from '../../../../src/center/access/authority.js';
import { runCli } from '../../../../src/cli/program.js';
import { Queue } from '../../../../src/client/queue/queue.js';
import { serviceIdentity } from '../../../../src/client/queue/service-identity.js';
import { ManualClock, systemClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { seededRandom } from '../../../../src/kit/random.js';
import { openChannel } from '../../../../src/rpc/client.js';
import { implement, RpcServer } from '../../../../src/rpc/server.js';
import type { Handlers } from '../../../../src/rpc/types.js';
import { TestCenter } from '../../../support/center.js';
import { fakeIo } from '../../../support/io.js';
import { take } from '../../../support/queue-client.js';
import { TestQueue } from '../../../support/queue-host.js';
import { failureOf, temporaryDirectory } from '../../../support/rpc.js';

type AgentHandlers = Handlers<typeof AgentService>;

const HOUR_MS = 3_600_000;

/** Stands for the agent's socket of a service: with what these handlers answer. */
async function agentSocket(t: TestContext, given: Partial<AgentHandlers>): Promise<string> {
  const refuse = (): never => {
    throw new MusterError('unimplemented', 'not needed here');
  };
  const all = Object.fromEntries(Object.keys(AgentService).map((name) => [name, refuse]));
  const server = new RpcServer({
    services: [implement(AgentService, { ...all, ...given } as AgentHandlers)],
    authorize: () => undefined,
    logger: silentLogger,
  });
  const path = join(await temporaryDirectory(t), 'shop.sock');
  await server.listen({ kind: 'unix', path, principal: { kind: 'service', machine: 'm-1', service: 'shop' } });
  t.after(() => server.drain(0));
  return path;
}

/** A certificate of the site for the service `shop`. */
async function certificate(center: TestCenter, lifetimeMs: number): Promise<GetCertificateResponse> {
  const authority = await Authority.open(join(center.data, 'ca'), systemClock);
  const { publicKey, privateKeyPem } = await newKey();
  const principal = { kind: 'service', machine: 'm-1', service: 'shop' } as const;
  const signed = await authority.sign({ publicKey, principal, lifetimeMs });
  const privateKey = privateKeyPem.reveal();
  return { certificate: signed.certificatePem, privateKey, ca: authority.caPem, expires: undefined };
}

async function startSite(t: TestContext): Promise<{ center: TestCenter; queue: TestQueue; home: string }> {
  const center = await TestCenter.start(t);
  const queue = await TestQueue.joined(t, center);
  return { center, queue, home: await temporaryDirectory(t) };
}

describe('a queue on the network', () => {
  it('is found by a service through its agent, and used with the certificate the agent gives', async (t) => {
    const { center, queue } = await startSite(t);
    let asked = 0;
    const socket = await agentSocket(t, {
      getQueues: async () => {
        asked += 1;
        const { queues } = await center.operator.listQueues({});
        return { queues: queues.map((one) => ({ ...one, address: queue.ready.address })), stale: false };
      },
      getCertificate: () => certificate(center, HOUR_MS),
    });
    const operator = new Queue({ address: `unix:${queue.ready.socket}` }, {});
    const library = new Queue({}, { MUSTER_AGENT: socket });
    t.after(() => Promise.all([operator.close(), library.close()]));
    assert.equal((await failureOf(library.publish('orders', 'early'))).reason, 'UNKNOWN_TOPIC');
    const io = fakeIo({ home: '/', env: { MUSTER_QUEUE: `unix:${queue.ready.socket}` } });
    assert.equal(await runCli(['topic', 'create', 'orders', '--publishers', 'shop'], io), 0, io.complained());
    const messages = library.subscribe('orders', 'mail', { create: { start: 'earliest' } });
    await library.publish('orders', ['a', 'b']);
    const got = await take(messages, 2, (message) => message.acked());
    assert.deepEqual(
      got.map((message) => message.text()),
      ['a', 'b'],
    );
    assert.equal(asked, 1);
  });

  it('is found by an operator who logged in', async (t) => {
    const { center, queue, home } = await startSite(t);
    const token = await center.token({ kind: 'TOKEN_KIND_OPERATOR', name: 'ann' });
    const run = async (...argv: string[]): Promise<string> => {
      const io = fakeIo({ home });
      assert.equal(await runCli(argv, io), 0, io.complained());
      return io.written();
    };
    await run('login', center.address, '--token', token);
    await run('topic', 'create', 'orders', '--queue', queue.ready.address);
    assert.match(await run('publish', 'orders', 'a', '--queue', queue.ready.address), /1 message in orders/);
    const unknown = fakeIo({ home });
    assert.equal(await runCli(['topics', '--queue', 'nope'], unknown), 1);
    assert.match(unknown.complained(), /no queue "nope".*"muster queues" lists them/);
    const socket = fakeIo({ home });
    assert.equal(await runCli(['--socket', center.ready.adminSocket, 'topics'], socket), 1);
    assert.match(socket.complained(), /gives no certificate.*--queue unix:PATH/);
  });

  it('sees the certificate renewed before it ends', async (t) => {
    const center = await TestCenter.start(t);
    const given: string[] = [];
    const socket = await agentSocket(t, {
      getCertificate: async () => {
        const made = await certificate(center, HOUR_MS);
        given.push(made.certificate);
        return made;
      },
    });
    const clock = new ManualClock(systemClock.now());
    const agent = openChannel({ address: `unix:${socket}` });
    const stop = new AbortController();
    t.after(() => {
      stop.abort(new Error('over'));
      agent.close();
    });
    const identity = await serviceIdentity({ agent, clock, random: seededRandom(1) }, stop.signal);
    assert.equal(identity.current().certificatePem, given[0]);
    const renewed = new Promise((resolve) => identity.onChange(resolve));
    await clock.advance(HOUR_MS * 0.6);
    assert.equal(given.length, 1);
    await clock.advance(HOUR_MS * 0.15);
    await renewed;
    assert.equal(identity.current().certificatePem, given[1]);
  });
});
