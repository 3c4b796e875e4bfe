import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { connect as connectPlain } from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { HealthService } from '../../../generated/grpc/health/v1/health.js';
import { ManualClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { certificateHash, fetchCaByHash } from '../../../src/rpc/ca-by-hash.js';
import { createClient } from '../../../src/rpc/client.js';
import { IdentityHolder, type Identity } from '../../../src/rpc/identity.js';
import { describePrincipal, type Principal } from '../../../src/rpc/principal.js';
import { notAnonymous, type Bound } from '../../../src/rpc/server.js';
import { createAuthority, validities, type Authority, type LeafOptions } from '../../support/certificates.js';
import {
  failureOf,
  notes,
  shapesClient,
  shapesServer,
  textsOf,
  type ServerOverrides,
  type ShapesClient,
} from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const center: Principal = { kind: 'center', name: 'c' };
const ann: Principal = { kind: 'operator', name: 'ann' };

interface Site {
  readonly authority: Authority;
  readonly bound: Bound;
  readonly server: ReturnType<typeof shapesServer>;
  readonly identity: IdentityHolder;
  /** A client with that certificate; with none for undefined. */
  readonly client: (identity: Identity | undefined) => ShapesClient;
}

/** A server on the network that tells everybody who they are, and refuses the anonymous. */
async function site(t: TestContext, leaf: Partial<LeafOptions> = {}, overrides: ServerOverrides = {}): Promise<Site> {
  const authority = await createAuthority();
  const identity = new IdentityHolder(await authority.issue({ principal: center, ...leaf }));
  const server = shapesServer(t, {
    authorize: (principal) => {
      if (principal.kind === 'anonymous') throw notAnonymous('this call');
    },
    handlers: { echo: (_, { principal }) => Promise.resolve({ text: describePrincipal(principal) }) },
    ...overrides,
  });
  const bound = await server.listen({ kind: 'tls', host: '127.0.0.1', port: 0, identity });
  const client = (own: Identity | undefined): ShapesClient => {
    const tls = own
      ? { identity: new IdentityHolder({ ...own, caPem: authority.caPem, site: 'test' }) }
      : { caPem: authority.caPem };
    return shapesClient(t, { address: bound.address, tls }).client;
  };
  return { authority, bound, server, identity, client };
}

describe('the identity of a caller on the network', () => {
  const principals: Principal[] = [
    ann,
    { kind: 'agent', machine: 'm-1' },
    { kind: 'queue', name: 'q' },
    { kind: 'service', machine: 'm-1', service: 'orders' },
    { kind: 'operator', name: 'name, with "quotes", URI:muster://test/operator/root' },
  ];
  for (const principal of principals) {
    it(`comes from the certificate: ${describePrincipal(principal)}`, async (t) => {
      const { authority, client } = await site(t);
      assert.equal(
        (await client(await authority.issue({ principal })).echo({ text: '' })).text,
        describePrincipal(principal),
      );
    });
  }

  it('is anonymous without a certificate, and what authorize refuses is refused for every shape', async (t) => {
    const { client } = await site(t);
    const nobody = client(undefined);
    for (const call of [
      () => nobody.echo({ text: '' }),
      () => textsOf(nobody.count({ text: '3' })),
      () => nobody.collect(notes('a')),
      () => textsOf(nobody.chat()),
    ]) {
      const failure = await failureOf(call());
      assert.equal(failure.code, 'unauthenticated');
      assert.equal(failure.reason, 'NO_CREDENTIALS');
    }
  });

  it('may be anonymous where authorize allows it, and always for health', async (t) => {
    const { bound, authority } = await site(
      t,
      {},
      {
        authorize: (principal, method) => {
          if (principal.kind === 'anonymous' && method !== 'test.Shapes/Echo') throw notAnonymous('this call');
        },
      },
    );
    const { client, channel } = shapesClient(t, { address: bound.address, tls: { caPem: authority.caPem } });
    assert.equal((await client.echo({ text: '' })).text, 'anonymous');
    assert.equal((await createClient(HealthService, channel).check({ service: '' })).status, 'SERVING');
    assert.equal((await failureOf(client.collect(notes('a')))).code, 'unauthenticated');
  });

  it('is asked for every method by its full name', async (t) => {
    const asked: string[] = [];
    const { client, authority } = await site(
      t,
      {},
      {
        authorize: (principal, method) => {
          asked.push(`${describePrincipal(principal)} ${method}`);
          throw new MusterError('denied', 'you may look, not touch');
        },
      },
    );
    const viewer = client(await authority.issue({ principal: ann }));
    for (const call of [
      () => viewer.echo({ text: '' }),
      () => textsOf(viewer.count({ text: '3' })),
      () => viewer.collect(notes('a')),
      () => textsOf(viewer.chat()),
    ]) {
      assert.equal((await failureOf(call())).code, 'denied');
    }
    assert.deepEqual(
      asked,
      ['Echo', 'Count', 'Collect', 'Chat'].map((name) => `operator ann test.Shapes/${name}`),
    );
  });

  it('stays with its connection when many identities call at once', async (t) => {
    const { authority, client } = await site(t);
    const names = [...Array(8).keys()].map((index) => `op${index}`);
    const clients = await Promise.all(
      names.map(async (name) => client(await authority.issue({ principal: { kind: 'operator', name } }))),
    );
    for (let round = 0; round < 5; round += 1) {
      const answers = await Promise.all(clients.map((each) => each.echo({ text: '' })));
      assert.deepEqual(
        answers.map(({ text }) => text),
        names.map((name) => `operator ${name}`),
      );
    }
  });
});

describe('a bad client certificate fails every call, health too', () => {
  const cases: Record<string, { reason: string; make: (authority: Authority) => Promise<Identity> }> = {
    'of another CA': {
      reason: 'CERTIFICATE_WRONG_CA',
      make: async () => (await createAuthority()).issue({ principal: ann }),
    },
    'of another CA of the same name': {
      reason: 'CERTIFICATE_WRONG_CA',
      make: async () => (await createAuthority('test')).issue({ principal: ann }),
    },
    expired: {
      reason: 'CERTIFICATE_EXPIRED',
      make: (authority) => authority.issue({ principal: ann, validity: validities.past() }),
    },
    'not yet valid': {
      reason: 'CERTIFICATE_NOT_YET_VALID',
      make: (authority) => authority.issue({ principal: ann, validity: validities.future() }),
    },
    'of another site': {
      reason: 'CERTIFICATE_OTHER_SITE',
      make: (authority) => authority.issue({ principal: ann, site: 'elsewhere' }),
    },
    'without a name of this system': {
      reason: 'CERTIFICATE_NAME',
      make: (authority) => authority.issue({ principal: ann, uris: ['https://test/operator/ann'] }),
    },
    'with a broken name': {
      reason: 'CERTIFICATE_NAME',
      make: (authority) => authority.issue({ principal: ann, uris: ['muster://test/operator/%E0%A4%A'] }),
    },
    'with two names': {
      reason: 'CERTIFICATE_NAME',
      make: (authority) =>
        authority.issue({ principal: ann, uris: ['muster://test/operator/ann', 'muster://test/center/c'] }),
    },
  };
  for (const [name, { reason, make }] of Object.entries(cases)) {
    it(name, async (t) => {
      const { authority, bound } = await site(t);
      const identity = new IdentityHolder({ ...(await make(authority)), caPem: authority.caPem, site: 'test' });
      const { client, channel } = shapesClient(t, { address: bound.address, tls: { identity } });
      const health = createClient(HealthService, channel);
      for (const call of [client.echo({ text: '' }), health.check({ service: '' })]) {
        const failure = await failureOf(call);
        assert.equal(failure.code, 'unauthenticated');
        assert.equal(failure.reason, reason);
      }
    });
  }
});

describe('the identity of the server', () => {
  const cases: Record<string, { leaf: Partial<LeafOptions>; reason: string; message: RegExp }> = {
    'is refused when it is expired, with a hint at the clocks': {
      leaf: { validity: validities.past() },
      reason: 'SERVER_CERTIFICATE_EXPIRED',
      message: /expired.*clocks/,
    },
    'is refused when it is not valid yet, with a hint at the clock': {
      leaf: { validity: validities.future() },
      reason: 'SERVER_CERTIFICATE_NOT_YET_VALID',
      message: /clock/,
    },
    'is refused when an agent pretends to be the center': {
      leaf: { principal: { kind: 'agent', machine: 'm-1' }, dns: ['center.muster'] },
      reason: 'SERVER_CERTIFICATE_NAME',
      message: /agent of m-1, not a center/,
    },
    'is refused when it lacks the name of a center': {
      leaf: { dns: ['somewhere.else'] },
      reason: 'SERVER_CERTIFICATE_NAME',
      message: /another kind of server/,
    },
    'is refused when it is of another site': {
      leaf: { site: 'elsewhere' },
      reason: 'SERVER_CERTIFICATE_NAME',
      message: /site "elsewhere"/,
    },
  };
  for (const [name, { leaf, reason, message }] of Object.entries(cases)) {
    it(name, async (t) => {
      const { authority, client } = await site(t, leaf);
      const failure = await failureOf(client(await authority.issue({ principal: ann })).echo({ text: '' }));
      assert.equal(failure.code, 'unavailable');
      assert.equal(failure.reason, reason, failure.message);
      assert.match(failure.message, message);
    });
  }

  it('is refused when its CA is not ours', async (t) => {
    const { bound } = await site(t);
    const other = await createAuthority();
    const { client } = shapesClient(t, {
      address: bound.address,
      tls: { identity: new IdentityHolder(await other.issue({ principal: ann })) },
    });
    const failure = await failureOf(client.echo({ text: '' }));
    assert.equal(failure.reason, 'SERVER_CERTIFICATE_WRONG_CA', failure.message);
  });

  it('may be demanded more closely by the client', async (t) => {
    const { authority, bound } = await site(t, { principal: { kind: 'service', machine: 'm-1', service: 'orders' } });
    const identity = new IdentityHolder(await authority.issue({ principal: ann }));
    const verify = (name: string) => (principal: Principal) => {
      if (principal.kind !== 'service' || principal.service !== name)
        throw new MusterError('denied', `it is not ${name}`);
    };
    const call = (name: string): Promise<unknown> =>
      shapesClient(t, {
        address: bound.address,
        tls: { identity, expect: 'service', verify: verify(name) },
      }).client.echo({ text: '' });
    await call('orders');
    assert.match((await failureOf(call('billing'))).message, /it is not billing/);
  });
});

describe('renewal', () => {
  it('of the server serves new connections at once and keeps the open ones', async (t) => {
    const { authority, identity, bound, client } = await site(t);
    const before = client(await authority.issue({ principal: ann }));
    const chat = before.chat();
    await chat.send({ text: 'a' });
    const answers = chat[Symbol.asyncIterator]();
    await answers.next();
    const renewed = await authority.issue({ principal: center });
    identity.renew(renewed);
    const seen = await presented(bound.port);
    assert.equal(seen, new X509Certificate(renewed.certificatePem).fingerprint256);
    await chat.send({ text: 'b' });
    assert.deepEqual((await answers.next()).value, { text: 'B' });
    assert.equal((await client(await authority.issue({ principal: ann })).echo({ text: '' })).text, 'operator ann');
  });

  it('of the client takes effect with its next call, while its open calls go on', async (t) => {
    const { authority, bound } = await site(t);
    const own = new IdentityHolder(await authority.issue({ principal: ann }));
    const { client, channel } = shapesClient(t, { address: bound.address, tls: { identity: own } });
    const chat = client.chat();
    await chat.send({ text: 'a' });
    const answers = chat[Symbol.asyncIterator]();
    await answers.next();
    own.renew(await authority.issue({ principal: { kind: 'operator', name: 'bob' } }));
    assert.equal((await client.echo({ text: '' })).text, 'operator bob');
    await chat.send({ text: 'b' });
    assert.deepEqual((await answers.next()).value, { text: 'B' });
    chat.end();
    assert.equal((await answers.next()).done, true);
    channel.close();
    assert.equal(own.listeners, 0);
  });

  it('stops being listened for when the server has been drained', async (t) => {
    const { identity, server } = await site(t);
    assert.equal(identity.listeners, 1);
    await server.drain(0);
    assert.equal(identity.listeners, 0);
  });

  it('is forced: a connection ends with its client certificate', async (t) => {
    const clock = new ManualClock(Date.now());
    const { authority, client } = await site(t, {}, { clock });
    const own = client(await authority.issue({ principal: ann, validity: validities.lasting(600_000) }));
    const chat = own.chat();
    await chat.send({ text: 'a' });
    const answers = chat[Symbol.asyncIterator]();
    await answers.next();
    await clock.advance(590_000);
    await chat.send({ text: 'b' });
    assert.deepEqual((await answers.next()).value, { text: 'B' });
    await clock.advance(11_000);
    await assert.rejects(answers.next());
  });
});

/** The fingerprint of the certificate a server shows to a new connection. */
function presented(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'] }, () => {
      resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? '');
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

describe('the first contact', () => {
  it('finds the CA by its hash', async (t) => {
    const { authority, bound } = await site(t);
    const hash = certificateHash(new X509Certificate(authority.caPem));
    const found = await fetchCaByHash('127.0.0.1', bound.port, hash.toUpperCase());
    assert.equal(new X509Certificate(found.caPem).fingerprint256, new X509Certificate(authority.caPem).fingerprint256);
    assert.equal(found.site, 'test');
  });

  it('refuses a center of another CA', async (t) => {
    const { bound } = await site(t);
    const failure = await failureOf(fetchCaByHash('127.0.0.1', bound.port, 'ab'.repeat(32)));
    assert.equal(failure.reason, 'FAKE_CENTER');
  });

  it('refuses a fake center that shows the right CA beside a certificate of its own', async (t) => {
    const real = await createAuthority();
    const fake = await createAuthority();
    const leaf = await fake.issue({ principal: center });
    const server = shapesServer(t);
    const identity = new IdentityHolder({ ...leaf, caPem: real.caPem });
    const bound = await server.listen({ kind: 'tls', host: '127.0.0.1', port: 0, identity });
    const failure = await failureOf(
      fetchCaByHash('127.0.0.1', bound.port, certificateHash(new X509Certificate(real.caPem))),
    );
    assert.equal(failure.reason, 'FAKE_CENTER', failure.message);
  });

  it('refuses another party of the right CA', async (t) => {
    const { authority, bound } = await site(t, { principal: { kind: 'agent', machine: 'm-1' } });
    const hash = certificateHash(new X509Certificate(authority.caPem));
    assert.match(
      (await failureOf(fetchCaByHash('127.0.0.1', bound.port, hash))).message,
      /it is agent of m-1, not a center/,
    );
  });

  it('says so when nobody answers', async () => {
    const failure = await failureOf(fetchCaByHash('127.0.0.1', 1, 'ab'.repeat(32)));
    assert.equal(failure.reason, 'CONNECTION_REFUSED');
  });
});

describe('a network listener', () => {
  it('closes what does not speak TLS, and what speaks it for another protocol', async (t) => {
    const { bound, authority, client } = await site(t);
    const ended = (socket: ReturnType<typeof connectPlain>): Promise<void> =>
      new Promise((resolve) => {
        socket.on('error', () => undefined);
        socket.on('close', () => {
          resolve();
        });
        socket.resume();
      });
    const plain = connectPlain(bound.port, '127.0.0.1');
    plain.write('GET / HTTP/1.1\r\n\r\n');
    await ended(plain);
    const options = { host: '127.0.0.1', port: bound.port, rejectUnauthorized: false };
    await ended(connectTls({ ...options, ALPNProtocols: ['http/1.1'] }));
    await ended(connectTls(options));
    const babbler = connectTls({ ...options, ALPNProtocols: ['h2'] }, () => babbler.write('GET / HTTP/1.1\r\n\r\n'));
    await ended(babbler);
    assert.equal((await client(await authority.issue({ principal: ann })).echo({ text: '' })).text, 'operator ann');
  });

  it('keeps room for those with a certificate when the anonymous crowd in', async (t) => {
    const { bound, authority, client } = await site(t, {}, { limits: { anonymousConnectionsMax: 3 } });
    const open = new Set<unknown>();
    for (let index = 0; index < 10; index += 1) {
      const socket = connectTls(
        { host: '127.0.0.1', port: bound.port, rejectUnauthorized: false, ALPNProtocols: ['h2'] },
        () => open.add(socket),
      );
      socket.on('error', () => undefined);
      socket.on('close', () => open.delete(socket));
      socket.resume();
      t.after(() => socket.destroy());
    }
    await waitFor('the surplus to be closed', () => open.size === 3);
    assert.equal((await client(await authority.issue({ principal: ann })).echo({ text: '' })).text, 'operator ann');
  });

  it('says which port is taken', async (t) => {
    const { bound, identity, server } = await site(t);
    const failure = await failureOf(server.listen({ kind: 'tls', host: '127.0.0.1', port: bound.port, identity }));
    assert.equal(failure.code, 'precondition');
    assert.match(failure.message, new RegExp(`127.0.0.1:${bound.port}.*taken`));
    assert.equal(identity.listeners, 1);
  });
});
