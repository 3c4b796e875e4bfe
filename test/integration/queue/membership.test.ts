import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { HealthService } from '../../../generated/grpc/health/v1/health.js';
import { CenterService } from '../../../generated/muster/v1/center.js';
import { KnownQueues } from '../../../src/agent/queues/queues.js';
import { systemClock } from '../../../src/kit/clock.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { systemRandom } from '../../../src/kit/random.js';
import { joinQueue } from '../../../src/queue/main.js';
import { certificateRequest, generateKey } from '../../../src/rpc/certificate-request.js';
import { namedPrincipal, notAfterMs, readCertificates } from '../../../src/rpc/certificates.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { IdentityHolder } from '../../../src/rpc/identity.js';
import { Secret } from '../../../src/kit/secret.js';
import { openMemoryStore } from '../../../src/store/memory.js';
import { TestCenter } from '../../support/center.js';
import { caOf, joinedAgent, queueToken, TestQueue } from '../../support/queue-host.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

async function requestBytes(): Promise<Buffer> {
  return Buffer.from(certificateRequest(await generateKey()));
}

/** The identity that a joined queue has on its disk. */
async function identityOf(queue: TestQueue, site: string): Promise<IdentityHolder> {
  const read = (file: string): Promise<string> => readFile(join(queue.data, 'identity', file), 'utf8');
  return new IdentityHolder({
    certificatePem: await read('cert.pem'),
    privateKeyPem: new Secret(await read('key.pem')),
    caPem: await read('ca.pem'),
    site,
  });
}

describe('a queue', () => {
  it('joins with a token: its key stays on its disk, its certificate says who it is, the center lists it', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.joined(t, center, { name: 'main' });
    assert.deepEqual((await readdir(join(queue.data, 'identity'))).sort(), ['ca.pem', 'cert.pem', 'key.pem']);
    assert.equal((await stat(join(queue.data, 'identity', 'key.pem'))).mode & 0o777, 0o600);
    const { ready } = queue;
    assert.deepEqual([ready.name, ready.site, ready.center], ['main', center.ready.site, center.address]);
    const [certificate] = readCertificates(await readFile(join(queue.data, 'identity', 'cert.pem'), 'utf8'));
    assert.ok(certificate);
    assert.deepEqual(namedPrincipal(certificate).principal, { kind: 'queue', name: 'main' });
    assert.match(certificate.subjectAltName ?? '', /DNS:queue\.muster/);
    const [listed] = (await center.operator.listQueues({})).queues;
    assert.deepEqual([listed?.name, listed?.address], ['main', ready.address]);
    assert.ok(listed?.lastSeen && listed.joined);

    const caPem = await caOf(center);
    const expected = openChannel({ address: ready.address, tls: { caPem, site: ready.site, expect: 'queue' } });
    const mistaken = openChannel({ address: ready.address, tls: { caPem, site: ready.site } });
    t.after(() => {
      expected.close();
      mistaken.close();
    });
    assert.equal((await createClient(HealthService, expected).check({ service: '' })).status, 'SERVING');
    assert.notEqual((await failureOf(createClient(HealthService, mistaken).check({ service: '' }))).code, 'internal');
  });

  it('that has not joined serves its socket alone, and the network as soon as it has', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.make(t);
    await queue.start();
    assert.deepEqual([queue.ready.name, queue.ready.address], ['', '']);
    assert.equal((await stat(queue.ready.socket)).mode & 0o777, 0o600);
    const channel = openChannel({ address: `unix:${queue.ready.socket}` });
    t.after(() => {
      channel.close();
    });
    assert.equal((await createClient(HealthService, channel).check({ service: '' })).status, 'SERVING');
    const order = { data: queue.data, center: center.address, name: 'late', token: await queueToken(center) };
    await joinQueue({ ...order, advertise: 'queue.example:7600' });
    const [listed] = await waitFor('the center to know it', async () => {
      const { queues } = await center.operator.listQueues({});
      return queues[0]?.address === '' ? undefined : queues;
    });
    assert.deepEqual([listed?.name, listed?.address], ['late', 'queue.example:7600']);
  });

  it('has a name of its own: a taken one is refused, and a token for it joins it anew', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.joined(t, center, { name: 'main' });
    const other = await TestQueue.make(t);
    const attempt = async (token: string, name = 'main'): Promise<unknown> =>
      joinQueue({ data: other.data, center: center.address, name, token });
    const taken = await failureOf(attempt(await queueToken(center)));
    assert.deepEqual([taken.code, taken.reason], ['exists', 'QUEUE_NAME_TAKEN']);
    assert.match(taken.message, /muster token create --queue --name main/);
    assert.match(
      (await failureOf(attempt(await queueToken(center), 'Main queue'))).message,
      /cannot be a queue's name/,
    );
    assert.equal((await failureOf(attempt(await center.token()))).reason, 'TOKEN_KIND');
    assert.equal((await failureOf(attempt(await queueToken(center, 'other')))).reason, 'TOKEN_NAME');
    await attempt(await queueToken(center, 'main'));
    assert.equal((await center.operator.listQueues({})).queues.length, 1);
    await queue.stop();
  });

  it('of another site stays what it is', async (t) => {
    const [first, second] = [await TestCenter.start(t), await TestCenter.start(t)];
    const queue = await TestQueue.joined(t, first);
    const token = await queueToken(second);
    const refused = await failureOf(joinQueue({ data: queue.data, center: second.address, name: 'q', token }));
    assert.equal(refused.reason, 'OTHER_SITE');
    assert.match(refused.message, /stop it and join with another --data/);
  });

  it('renews its certificate again and again, and streams that are open go on', async (t) => {
    const center = await TestCenter.start(t, { leafLifetimeMs: 6000 });
    const queue = await TestQueue.joined(t, center);
    const certificate = async (): Promise<string> => readFile(join(queue.data, 'identity', 'cert.pem'), 'utf8');
    const first = await certificate();
    const channel = openChannel({
      address: queue.ready.address,
      tls: { caPem: await caOf(center), site: queue.ready.site, expect: 'queue' },
    });
    t.after(() => {
      channel.close();
    });
    const seen: string[] = [];
    let ended: unknown;
    const watching = (async () => {
      for await (const { status } of createClient(HealthService, channel).watch({ service: '' })) seen.push(status);
    })().catch((error: unknown) => {
      ended = error;
    });
    const certificates = new Set<string>();
    await waitFor('two renewals', async () => certificates.add(await certificate()).size >= 3);
    const [before] = readCertificates(first);
    assert.ok(before);
    await waitFor('the end of the first certificate', () => Date.now() > notAfterMs(before) + 500);
    assert.deepEqual([seen, ended], [['SERVING'], undefined], 'the stream of before is still there');
    const late = openChannel({
      address: queue.ready.address,
      tls: { caPem: await caOf(center), site: queue.ready.site, expect: 'queue' },
    });
    t.after(() => {
      late.close();
    });
    assert.equal((await createClient(HealthService, late).check({ service: '' })).status, 'SERVING');
    channel.close();
    await watching;
  });

  it('that was removed is refused, at once and for good, and its name with it', async (t) => {
    const center = await TestCenter.start(t);
    const queue = await TestQueue.joined(t, center, { name: 'gone' });
    const identity = await identityOf(queue, center.ready.site);
    const channel = openChannel({ address: center.address, tls: { identity } });
    t.after(() => {
      channel.close();
    });
    const itself = createClient(CenterService, channel);
    assert.equal((await failureOf(itself.listQueues({}))).code, 'denied', 'a queue steers nothing');
    assert.equal((await failureOf(itself.registerQueue({ address: 'nowhere' }))).code, 'invalid');
    await itself.registerQueue({ address: 'elsewhere:7600' });
    assert.equal((await failureOf(center.operator.removeQueue({ queue: 'gnoe' }))).code, 'not_found');
    await center.operator.removeQueue({ queue: 'gone' });
    assert.deepEqual((await center.operator.listQueues({})).queues, []);
    const refused = [
      await failureOf(itself.registerQueue({ address: 'elsewhere:7600' })),
      await failureOf(itself.renew({ certificateRequest: await requestBytes() })),
    ];
    for (const { code, reason } of refused) assert.deepEqual([code, reason], ['unauthenticated', 'QUEUE_REMOVED']);
    await queue.stop();
    await center.stop();
    await center.start();
    assert.deepEqual((await center.operator.listQueues({})).queues, []);
    const again = openChannel({ address: center.address, tls: { identity } });
    t.after(() => {
      again.close();
    });
    const late = await failureOf(createClient(CenterService, again).registerQueue({ address: 'elsewhere:7600' }));
    assert.equal(late.reason, 'QUEUE_REMOVED');
    const anew = await TestQueue.make(t);
    const rejoin = joinQueue({
      data: anew.data,
      center: center.address,
      name: 'gone',
      token: await queueToken(center),
    });
    assert.equal((await failureOf(rejoin)).reason, 'QUEUE_NAME_REMOVED');
  });
});

describe('an agent', () => {
  it('tells the services of its machine where the queues are, with the center gone too', async (t) => {
    const center = await TestCenter.start(t);
    const agent = await joinedAgent(t, center, 'web-1');
    const store = await openMemoryStore();
    const access = { channel: () => agent.channel, connected: true, onConnection: () => () => undefined };
    const parts = { store, clock: systemClock, random: systemRandom, logger: silentLogger };
    const queues = await KnownQueues.open({ ...parts, center: access });
    assert.deepEqual(await queues.get(), { queues: [], stale: false });
    const queue = await TestQueue.joined(t, center);
    const known = await waitFor('the queue to be known', async () => {
      const answer = await queues.get();
      return answer.queues.length > 0 ? answer : undefined;
    });
    assert.equal(known.stale, false);
    assert.deepEqual(
      known.queues.map(({ name, address }) => [name, address]),
      [['q', queue.ready.address]],
    );
    await center.stop();
    const later = await KnownQueues.open({ ...parts, center: access });
    const stale = await later.get();
    assert.deepEqual([stale.stale, stale.queues.map(({ address }) => address)], [true, [queue.ready.address]]);
    await store.close();
  });
});
