import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { joinMachine } from '../../../../src/agent/identity/join.js';
import { machineFiles } from '../../../../src/agent/identity/machine.js';
import { MemberIdentity } from '../../../../src/enrolment/identity.js';
import { askToRenew } from '../../../../src/enrolment/wire.js';
import { ManualClock, systemClock } from '../../../../src/kit/clock.js';
import { isCode, MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { systemRandom } from '../../../../src/kit/random.js';
import { openChannel } from '../../../../src/rpc/client.js';
import { FakeCenter } from '../../../support/fake-center.js';
import { linkedAgent, QUICK, temporaryData } from '../../../support/linked-agent.js';
import { realCenter } from '../../../support/real-center.js';
import { waitFor } from '../../../support/waiting.js';

function reason(word: string): (error: unknown) => boolean {
  return (error) => error instanceof MusterError && error.reason === word;
}

test('joining: the key stays here, the files are private, the machine is known at the center', async (t) => {
  const center = await realCenter(t);
  const data = await temporaryData(t);
  const membership = await joinMachine({
    data,
    center: center.ready.address,
    token: await center.token(),
    name: 'web-1',
    labels: { role: 'web' },
  });
  assert.equal(membership.site, center.ready.site);
  assert.equal((await stat(join(data, 'identity'))).mode & 0o777, 0o700);
  assert.equal((await stat(join(data, 'identity', 'key.pem'))).mode & 0o777, 0o600);
  assert.deepEqual((await readdir(join(data, 'identity'))).sort(), ['ca.pem', 'cert.pem', 'key.pem']);
  assert.deepEqual(JSON.parse(await readFile(join(data, 'agent.json'), 'utf8')), membership);
  const machine = await center.operator.getMachine({ machine: 'web-1' });
  assert.equal(machine.id, membership.machine);
  assert.deepEqual(machine.labels, { role: 'web' });
});

test('joining: a used, wrong or cut token, a taken name and a bad name are said, and nothing is left behind', async (t) => {
  const center = await realCenter(t);
  const data = await temporaryData(t);
  const token = await center.token();
  const attempt = (options: { token: string; name?: string; center?: string }) =>
    joinMachine({ data, center: center.ready.address, name: 'web-1', ...options });
  await assert.rejects(attempt({ token: token.slice(0, -3) }), reason('TOKEN_FORMAT'));
  await assert.rejects(attempt({ token, name: 'web 1' }), /cannot be a machine's name/);
  await assert.rejects(attempt({ token: token.replace(/^.{32}/, '0'.repeat(32)) }), reason('TOKEN_UNKNOWN'));
  const elsewhere = await temporaryData(t);
  await joinMachine({ data: elsewhere, center: center.ready.address, token, name: 'web-1' });
  await assert.rejects(attempt({ token }), reason('TOKEN_USED'));
  await assert.rejects(
    attempt({ token: await center.token() }),
    (error) => isCode(error, 'exists') && /--machine web-1/.test(error.message),
  );
  assert.equal(await machineFiles(data).load(), undefined);
  assert.deepEqual(await readdir(join(data, 'identity')), []);

  const again = await attempt({ token: await center.token('web-1') });
  const before = await machineFiles(elsewhere).load();
  assert.equal(again.machine, before?.membership.machine);
});

test('a token for a person or a queue is refused before it is used up, with what to use instead', async (t) => {
  const center = await realCenter(t);
  const data = await temporaryData(t);
  const make = async (kind: 'TOKEN_KIND_OPERATOR' | 'TOKEN_KIND_QUEUE'): Promise<string> =>
    (await center.operator.createToken({ kind, lifetime: undefined, name: 'ann', labels: {} })).token;
  const attempt = (token: string): Promise<unknown> =>
    joinMachine({ data, center: center.ready.address, name: 'ann', token });
  await assert.rejects(
    attempt(await make('TOKEN_KIND_OPERATOR')),
    /this token is for a person: use "muster login", or make one for a machine with "muster token create"; .* not used$/,
  );
  await assert.rejects(attempt(await make('TOKEN_KIND_QUEUE')), reason('TOKEN_KIND'));
  assert.equal((await center.operator.listTokens({})).tokens.length, 3, 'two, and the one that the center printed');
  assert.deepEqual(await readdir(join(data, 'identity')), []);
});

test('a directory of another site is refused before the token is sent, and stays as it was', async (t) => {
  const [first, second] = [await realCenter(t), await realCenter(t)];
  const data = await temporaryData(t);
  const before = await joinMachine({ data, center: first.ready.address, token: await first.token(), name: 'web-1' });
  const token = await second.token();
  await assert.rejects(joinMachine({ data, center: second.ready.address, token, name: 'web-1' }), reason('OTHER_SITE'));
  assert.deepEqual((await machineFiles(data).load())?.membership, before);
  const elsewhere = await temporaryData(t);
  await joinMachine({ data: elsewhere, center: second.ready.address, token, name: 'web-1' });
});

test('a fake center never sees the token', async (t) => {
  const real = await realCenter(t);
  const fake = await FakeCenter.start(t);
  const data = await temporaryData(t);
  await assert.rejects(
    joinMachine({ data, center: fake.address, token: await real.token(), name: 'web-1' }),
    reason('FAKE_CENTER'),
  );

  const heard: Buffer[] = [];
  const listener = createServer((socket: Socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      heard.push(chunk);
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
  }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.after(() => listener.close());
  const address = listener.address();
  assert.ok(typeof address === 'object' && address);
  const token = await real.token();
  await assert.rejects(joinMachine({ data, center: `127.0.0.1:${address.port}`, token, name: 'web-1' }), MusterError);
  assert.ok(!Buffer.concat(heard).includes(token.slice(0, 32)));
});

test('a clock that is far off is said when joining', async (t) => {
  const center = await realCenter(t);
  const data = await temporaryData(t);
  const clock = new ManualClock(Date.now() - 5 * 86_400_000);
  await assert.rejects(
    joinMachine({ data, center: center.ready.address, token: await center.token(), name: 'web-1', clock }),
    (error) => error instanceof MusterError && /clock/.test(error.message),
  );
});

test('certificates that live for seconds are renewed again and again, without the session noticing more than a move', async (t) => {
  const center = await realCenter(t, { leafLifetimeMs: 12_000, heartbeatMs: 500 });
  const data = await temporaryData(t);
  await joinMachine({ data, center: center.ready.address, token: await center.token(), name: 'web-1' });
  const agent = await linkedAgent(t, { data, timings: { ...QUICK, keepaliveIntervalMs: 10_000 } });
  const stopping = new AbortController();
  t.after(() => {
    stopping.abort();
  });
  const keys = new Set<string>();
  agent.identity.onChange(({ privateKeyPem }) => keys.add(privateKeyPem.reveal()));
  const renewing = agent.identity.keepRenewed(async (request, signal) => {
    const channel = agent.link.channel();
    assert.ok(channel);
    return askToRenew(channel, request, signal);
  }, stopping.signal);
  const firstEnd = agent.identity.expiresMs ?? (await waitFor('the identity', () => agent.identity.expiresMs));
  await waitFor('two renewals', () => keys.size >= 2);
  await waitFor('time beyond the first certificate', () => Date.now() > firstEnd + 1000);
  // The session moves with each renewal, so each of these holds but for moments.
  await waitFor('a live session', async () => {
    const machine = await center.operator.getMachine({ machine: 'web-1' });
    return agent.link.connected && machine.online;
  });
  await waitFor('the files to hold what is used', async () => {
    const stored = await machineFiles(data).load();
    return stored?.identity.certificatePem === agent.identity.current().certificatePem;
  });
  stopping.abort();
  await assert.rejects(renewing);
});

test('a renewal is tried again until the center answers', async (t) => {
  const center = await FakeCenter.start(t, {
    handlers: {
      renew: async ({ certificateRequest }) => {
        tries += 1;
        if (tries < 3) throw new MusterError('unavailable', 'not now');
        const renewed = await center.issue({
          principal: { kind: 'agent', machine: 'm-1' },
          request: certificateRequest,
        });
        return { certificate: renewed.certificatePem, ca: renewed.caPem };
      },
    },
  });
  let tries = 0;
  const data = await temporaryData(t);
  const soon = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 20_000) };
  const identity = await center.issue({ principal: { kind: 'agent', machine: 'm-1' }, validity: soon });
  const files = machineFiles(data);
  await files.writeNextKey(identity.privateKeyPem, 'join');
  await files.writeCertificate(identity.certificatePem, identity.caPem, 'join');
  await files.writeMembership({
    site: identity.site,
    center: center.address,
    machine: 'm-1',
    name: 'web-1',
    labels: {},
  });
  const clock = new ManualClock(Date.now());
  const machine = new MemberIdentity({ files, clock, random: systemRandom, logger: silentLogger });
  await machine.refresh();
  const channel = openChannel({ address: center.address, tls: { identity: machine } });
  const stopping = new AbortController();
  t.after(() => {
    stopping.abort();
    channel.close();
  });
  const renewing = machine.keepRenewed((request, signal) => askToRenew(channel, request, signal), stopping.signal);
  await clock.advance(10_000);
  assert.equal(tries, 0, 'it renewed before two thirds');
  await waitFor('the renewal', async () => {
    await clock.advance(1000);
    return machine.current().certificatePem !== identity.certificatePem;
  });
  assert.equal(tries, 3);
  stopping.abort();
  await assert.rejects(renewing);
});

test('a crash at any step of replacing the files leaves an identity that fits together', async (t) => {
  const center = await FakeCenter.start(t);
  const principal = { kind: 'agent', machine: 'm-1' } as const;
  const [old, next] = [await center.issue({ principal }), await center.issue({ principal })];
  const data = await temporaryData(t);
  const files = machineFiles(data);
  await files.writeNextKey(old.privateKeyPem, 'join');
  await files.writeCertificate(old.certificatePem, old.caPem, 'join');
  await files.writeMembership({ site: old.site, center: center.address, machine: 'm-1', name: 'web-1', labels: {} });

  await files.writeNextKey(next.privateKeyPem, 'renew');
  assert.equal((await files.load())?.identity.certificatePem, old.certificatePem);
  await writeFile(join(data, 'identity', 'cert.pem'), next.certificatePem);
  const loaded = await machineFiles(data).load();
  assert.equal(loaded?.identity.privateKeyPem.reveal(), next.privateKeyPem.reveal());
  assert.equal(await readFile(join(data, 'identity', 'key.pem'), 'utf8'), next.privateKeyPem.reveal());

  await writeFile(join(data, 'identity', 'cert.pem'), old.certificatePem);
  await assert.rejects(
    files.load(),
    (error) => error instanceof MusterError && /muster token create --machine/.test(error.message),
  );
  const identity = new MemberIdentity({ files, clock: systemClock, random: systemRandom, logger: silentLogger });
  await identity.refresh();
  assert.match(identity.problem() ?? '', /damaged/);
});
