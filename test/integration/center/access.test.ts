import assert from 'node:assert/strict';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { CenterService, CreateTokenRequest } from '../../../generated/muster/v1/center.js';
import { ConfigService } from '../../../generated/muster/v1/config.js';
import type { Instance } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../../src/kit/errors.js';
import { certificateRequest, generateKey } from '../../../src/rpc/certificate-request.js';
import { namedPrincipal, readCertificates } from '../../../src/rpc/certificates.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { openLevelStore } from '../../../src/store/leveldb.js';
import { TestCenter } from '../../support/center.js';
import { createAuthority } from '../../support/certificates.js';
import { FakeAgent, joinAs, type Identified } from '../../support/fake-agent.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

async function caOf(center: TestCenter): Promise<string> {
  return readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
}

async function joined(center: TestCenter, name: string, token?: string): Promise<Identified> {
  return joinAs(center.address, { token: token ?? (await center.token()), name, caPem: await caOf(center) });
}

async function requestBytes(): Promise<Buffer> {
  return Buffer.from(certificateRequest(await generateKey()));
}

function agentOf(t: TestContext, center: TestCenter, name: string, identified: Identified): FakeAgent {
  return new FakeAgent(t, center.address, name, identified);
}

describe("the center's data", () => {
  it('bears its name: nothing else opens it', async (t) => {
    const center = await TestCenter.start(t);
    await center.stop();
    const opening = openLevelStore({ path: join(center.data, 'state'), schema: { name: 'agent', migrations: [] } });
    await assert.rejects(opening, /data of "center", not of "agent"/);
  });
});

describe('joining', () => {
  it('makes a machine of a token, and keeps the keys to their owner', async (t) => {
    const center = await TestCenter.start(t);
    const { machine, site } = await joined(center, 'web-1');
    assert.equal(site, center.ready.site);
    const known = await center.operator.getMachine({ machine: 'web-1' });
    assert.deepEqual([known.id, known.online], [machine, false]);
    for (const name of ['ca.pem', 'key.pem']) {
      assert.equal((await stat(join(center.data, 'ca', name))).mode & 0o777, 0o600);
    }
    assert.equal((await stat(center.ready.adminSocket)).mode & 0o777, 0o600);
  });

  it('takes a token once, even from two who come together', async (t) => {
    const center = await TestCenter.start(t);
    const token = await center.token();
    const outcomes = await Promise.allSettled([joined(center, 'a', token), joined(center, 'b', token)]);
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    const refusal = await failureOf(joined(center, 'c', token));
    assert.deepEqual([refusal.code, refusal.reason], ['unauthenticated', 'TOKEN_USED']);
    assert.equal((await center.operator.listMachines({ pageSize: 0, pageToken: '', selector: '' })).machines.length, 1);
  });

  it('remembers over a restart that a token was used', async (t) => {
    const center = await TestCenter.start(t);
    const token = await center.token();
    await joined(center, 'a', token);
    await center.stop();
    await center.start();
    assert.equal((await failureOf(joined(center, 'b', token))).reason, 'TOKEN_USED');
  });

  it('refuses a guessed, an expired and a revoked token, and slows down who guesses', async (t) => {
    const center = await TestCenter.start(t);
    const token = await center.token();
    const guessed = token.replace(/^.{8}/, (start) => (start.startsWith('0') ? '11111111' : '00000000'));
    assert.equal((await failureOf(joined(center, 'a', guessed))).reason, 'TOKEN_UNKNOWN');
    const short = await center.token({ lifetime: { seconds: 0, nanos: 1 } });
    assert.equal((await failureOf(joined(center, 'a', short))).reason, 'TOKEN_EXPIRED');
    const { token: revoked, id } = await center.operator.createToken(CreateTokenRequest.create());
    await center.operator.revokeToken({ id });
    assert.equal((await failureOf(joined(center, 'a', revoked))).reason, 'TOKEN_UNKNOWN');
    let last = await failureOf(joined(center, 'a', guessed));
    for (let tries = 0; tries < 40 && last.code !== 'exhausted'; tries += 1)
      last = await failureOf(joined(center, 'a', guessed));
    assert.equal(last.reason, 'TOO_MANY_ATTEMPTS');
    assert.ok((last.retryAfterMs ?? 0) > 0);
  });

  it('takes a wrong clock, a wrong name and a broken request without using the token up', async (t) => {
    const center = await TestCenter.start(t);
    const token = await center.token({ name: 'web-1' });
    const caPem = await caOf(center);
    const behind = new Date(Date.now() - 3 * 24 * 3_600_000);
    const skew = await failureOf(joinAs(center.address, { token, name: 'web-1', caPem, now: behind }));
    assert.equal(skew.reason, 'CLOCK_SKEW');
    assert.match(skew.message, new RegExp(behind.toISOString()));
    assert.equal((await failureOf(joined(center, 'web-2', token))).reason, 'TOKEN_NAME');
    const channel = openChannel({ address: center.address, tls: { caPem } });
    t.after(() => {
      channel.close();
    });
    const client = createClient(CenterService, channel);
    const good = await requestBytes();
    const forged = Buffer.from(good);
    forged.writeUInt8(forged.readUInt8(forged.length - 4) ^ 1, forged.length - 4);
    for (const certificateRequest of [Buffer.of(), Buffer.from('x'), forged, Buffer.alloc(20_000)]) {
      const refusal = await failureOf(
        client.join({ token, name: 'web-1', labels: {}, now: new Date(), certificateRequest }),
      );
      assert.deepEqual([refusal.code, refusal.reason], ['invalid', 'CERTIFICATE_REQUEST']);
    }
    await joined(center, 'web-1', token);
  });

  it('refuses a taken name unless the token is for it, and then keeps the id', async (t) => {
    const center = await TestCenter.start(t);
    const first = await joined(center, 'web-1');
    const taken = await failureOf(joined(center, 'web-1'));
    assert.deepEqual([taken.code, taken.reason], ['exists', 'MACHINE_NAME_TAKEN']);
    assert.match(taken.message, /muster token create --machine web-1/);
    const again = await joined(center, 'web-1', await center.token({ name: 'web-1' }));
    assert.equal(again.machine, first.machine);
    const stream = await agentOf(t, center, 'web-1', again).connect();
    await stream.leave();
  });

  it('names the principal itself, whatever the request says', async (t) => {
    const center = await TestCenter.start(t);
    const { identity, machine } = await joined(center, 'web-1');
    const [leaf] = readCertificates(identity.current().certificatePem);
    assert.ok(leaf);
    assert.deepEqual(namedPrincipal(leaf), { site: center.ready.site, principal: { kind: 'agent', machine } });
  });

  it("makes operators of operators' tokens", async (t) => {
    const center = await TestCenter.start(t);
    const token = await center.token({ kind: 'TOKEN_KIND_OPERATOR' });
    const { identity, machine } = await joined(center, 'ann', token);
    assert.equal(machine, '');
    const channel = openChannel({ address: center.address, tls: { identity } });
    t.after(() => {
      channel.close();
    });
    const status = await createClient(CenterService, channel).getStatus({});
    assert.equal(status.site, center.ready.site);
  });
});

describe('identity', () => {
  it('opens nothing to a caller without a certificate', async (t) => {
    const center = await TestCenter.start(t);
    const channel = openChannel({ address: center.address, tls: { caPem: await caOf(center) } });
    t.after(() => {
      channel.close();
    });
    const client = createClient(CenterService, channel);
    assert.equal((await failureOf(client.getStatus({}))).code, 'unauthenticated');
    assert.equal((await failureOf(client.createToken(CreateTokenRequest.create()))).code, 'unauthenticated');
  });

  it('is not taken from another CA, and a fake center is not believed', async (t) => {
    const center = await TestCenter.start(t);
    const foreign = await createAuthority(center.ready.site);
    const impostor = await foreign.issue({ principal: { kind: 'operator', name: 'local' } });
    const channel = openChannel({
      address: center.address,
      tls: { identity: { current: () => ({ ...impostor, caPem: impostor.caPem }), onChange: () => () => undefined } },
    });
    t.after(() => {
      channel.close();
    });
    const distrusted = await failureOf(createClient(CenterService, channel).getStatus({}));
    assert.notEqual(distrusted.code, 'internal');
    const caPem = await caOf(center);
    const mixed = openChannel({
      address: center.address,
      tls: { identity: { current: () => ({ ...impostor, caPem }), onChange: () => () => undefined } },
    });
    t.after(() => {
      mixed.close();
    });
    assert.equal((await failureOf(createClient(CenterService, mixed).getStatus({}))).code, 'unauthenticated');
  });

  it('lets an agent speak for its own machine only', async (t) => {
    const center = await TestCenter.start(t);
    const a = agentOf(t, center, 'a', await joined(center, 'a'));
    const b = await joined(center, 'b');
    const stream = await a.connect();
    await stream.report({ machine: b.machine, machineName: 'b', service: 'orders', state: 'SERVICE_STATE_RUNNING' });
    await stream.endFullReport();
    await stream.awaited('reportFull');
    const instance = await untilInstance(center, 'a', 'orders');
    assert.equal(instance.machine, a.machine);
    assert.equal((await failureOf(center.operator.getInstance({ machine: 'b', service: 'orders' }))).code, 'not_found');
    assert.equal((await failureOf(a.client.listMachines({ pageSize: 0, pageToken: '', selector: '' }))).code, 'denied');
    assert.equal((await failureOf(a.client.createToken(CreateTokenRequest.create()))).code, 'denied');
  });

  it('renews for the same principal, and signs for services, and tells their configuration, only where they are', async (t) => {
    const center = await TestCenter.start(t);
    const agent = agentOf(t, center, 'a', await joined(center, 'a'));
    const renewed = await agent.client.renew({ certificateRequest: await requestBytes() });
    const [leaf] = readCertificates(renewed.certificate);
    assert.ok(leaf);
    assert.deepEqual(namedPrincipal(leaf).principal, { kind: 'agent', machine: agent.machine });
    const request = { service: 'orders', certificateRequest: await requestBytes() };
    assert.equal((await failureOf(agent.client.signServiceCertificate(request))).reason, 'SERVICE_NOT_HERE');
    const config = createClient(ConfigService, agent.channel);
    const asked = { service: 'orders', machine: '' };
    assert.equal((await failureOf(config.get(asked))).reason, 'SERVICE_NOT_HERE');
    const stream = await agent.connect();
    await stream.report({ service: 'orders' });
    await untilInstance(center, 'a', 'orders');
    assert.equal((await config.get(asked)).revision, 0);
    const signed = await agent.client.signServiceCertificate(request);
    const [service] = readCertificates(signed.certificate);
    assert.ok(service);
    assert.deepEqual(namedPrincipal(service).principal, { kind: 'service', machine: agent.machine, service: 'orders' });
  });

  it('ends with the removal of its machine, at once and for good', async (t) => {
    const center = await TestCenter.start(t);
    const agent = agentOf(t, center, 'a', await joined(center, 'a'));
    const stream = await agent.connect();
    await center.operator.removeMachine({ machine: 'a' });
    const ended = await stream.failure();
    assert.ok(ended instanceof MusterError && ended.reason === 'MACHINE_REMOVED');
    assert.equal(
      (await failureOf(agent.client.renew({ certificateRequest: await requestBytes() }))).reason,
      'MACHINE_REMOVED',
    );
    await center.stop();
    await center.start();
    assert.deepEqual((await center.operator.listMachines({ pageSize: 0, pageToken: '', selector: '' })).machines, []);
    const late = new FakeAgent(t, center.address, 'a', { machine: agent.machine, identity: agent.identity, site: '' });
    const refused = await (await late.open()).failure();
    assert.ok(refused instanceof MusterError && refused.reason === 'MACHINE_REMOVED');
    const anew = await joined(center, 'a');
    assert.notEqual(anew.machine, agent.machine);
  });
});

async function untilInstance(center: TestCenter, machine: string, service: string): Promise<Instance> {
  return waitFor(`instance ${service} on ${machine}`, () => center.operator.getInstance({ machine, service }));
}
