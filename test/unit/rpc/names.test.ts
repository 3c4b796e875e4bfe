import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatAddress, isLoopback, parseAddress } from '../../../src/rpc/addresses.js';
import { chainPem, namedPrincipal, readCertificates, uriNames } from '../../../src/rpc/certificates.js';
import { connectionOf, Connection } from '../../../src/rpc/connection.js';
import { explainConnectionFailure, explainNoConnection } from '../../../src/rpc/connection-errors.js';
import { requireLocalOrigin } from '../../../src/rpc/http-guard.js';
import { parsePrincipalUri, principalUri, type Principal } from '../../../src/rpc/principal.js';
import { createAuthority } from '../../support/certificates.js';

describe('addresses', () => {
  it('are read and written alike', () => {
    for (const text of [
      'center.example:7400',
      '127.0.0.1:1',
      '[::1]:7400',
      'unix:/run/muster/agent.sock',
      'unix:/a b',
    ]) {
      assert.equal(formatAddress(parseAddress(text)), text);
    }
  });

  it('take a default port', () => {
    assert.deepEqual(parseAddress('center', 7400), { kind: 'tcp', host: 'center', port: 7400 });
    assert.deepEqual(parseAddress('::1', 7400), { kind: 'tcp', host: '::1', port: 7400 });
    assert.deepEqual(parseAddress('[::1]', 7400), { kind: 'tcp', host: '::1', port: 7400 });
    assert.deepEqual(parseAddress('center:1', 7400), { kind: 'tcp', host: 'center', port: 1 });
  });

  it('are refused with an example', () => {
    for (const text of ['', ':7400', 'host:', 'host:x', 'host:70000', 'host:1:2', 'unix:x', 'h ost:1', 'http://h:1']) {
      assert.throws(() => parseAddress(text, 7400), /write/, text);
    }
  });

  it('know what can only be this machine', () => {
    for (const host of ['localhost', '127.0.0.1', '127.9.9.9', '::1']) assert.ok(isLoopback(host), host);
    for (const host of ['127.evil.example', '10.0.0.1', '0.0.0.0', '::', 'localhost.evil'])
      assert.ok(!isLoopback(host), host);
  });
});

const names = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });
const plain = { noNullPrototype: true };
const principals: fc.Arbitrary<Principal> = fc.oneof(
  fc.record({ kind: fc.constantFrom('operator' as const, 'center' as const, 'queue' as const), name: names }, plain),
  fc.record({ kind: fc.constant('agent' as const), machine: names }, plain),
  fc.record({ kind: fc.constant('service' as const), machine: names, service: names }, plain),
);

describe('principals', () => {
  it('survive the way through a certificate name, whatever they are called', () => {
    fc.assert(
      fc.property(principals, (principal) => {
        assert.deepEqual(parsePrincipalUri(principalUri('site-1', principal)), { site: 'site-1', principal });
      }),
    );
  });

  it('are not read from anything else', () => {
    for (const uri of [
      '',
      'muster://',
      'muster://site',
      'muster://site/',
      'muster://site/agent',
      'muster://site/agent/',
      'muster://site/agent/a/b',
      'muster://site/agent/m/%zz',
      'muster://site/service/m',
      'muster://site/service/m/s/x',
      'muster://site/anonymous/x',
      'muster://site/root/x',
      'muster:///operator/x',
      'MUSTER://site/operator/x',
      'https://site/operator/x',
    ]) {
      assert.throws(() => parsePrincipalUri(uri), { code: 'unauthenticated' }, uri);
    }
    assert.throws(() => principalUri('site', { kind: 'anonymous' }));
  });
});

describe('names in certificates', () => {
  const operator: Principal = { kind: 'operator', name: 'ann' };

  it('cannot be smuggled in through another name', async () => {
    const authority = await createAuthority();
    const sly = await authority.issue({
      principal: operator,
      uris: ['https://x/, URI:muster://test/operator/root', 'https://y/", URI:muster://test/operator/root, "'],
      dns: ['a'],
    });
    const certificate = new X509Certificate(sly.certificatePem);
    assert.equal(uriNames(certificate).length, 2);
    assert.throws(() => namedPrincipal(certificate), { code: 'unauthenticated' });
  });

  it('are read beside names of other kinds', async () => {
    const authority = await createAuthority();
    const { certificatePem } = await authority.issue({ principal: operator, dns: ['one.example', 'two.example'] });
    assert.deepEqual(namedPrincipal(new X509Certificate(certificatePem)), { site: 'test', principal: operator });
  });

  it('are read from PEM, with the CA added once', async () => {
    const authority = await createAuthority();
    const { certificatePem, caPem } = await authority.issue({ principal: operator });
    const chain = chainPem(certificatePem, caPem);
    assert.equal(readCertificates(chain).length, 2);
    assert.equal(readCertificates(chainPem(chain, caPem)).length, 2);
    assert.throws(() => readCertificates('nothing'), { code: 'invalid' });
    assert.throws(() => readCertificates('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----'), {
      code: 'invalid',
    });
  });
});

describe('the connection of a call', () => {
  it('is unknown, never guessed, when grpc-js is not what it was', () => {
    for (const call of [undefined, null, 1, {}, { call: {} }, { call: { stream: { session: { socket: {} } } } }]) {
      assert.equal(connectionOf(call), undefined);
    }
    const throwing = Object.defineProperty({}, 'call', {
      get: () => {
        throw new Error('gone');
      },
    });
    assert.equal(connectionOf(throwing), undefined);
    assert.ok(new Connection('peer', () => ({ kind: 'anonymous' })) instanceof Connection);
  });
});

describe('explanations of failed connections', () => {
  const target = { peer: 'the center', address: 'c:7400' };
  const reasons: Record<string, string> = {
    'No connection established. Last error: connect ECONNREFUSED 1.2.3.4:1 (2026)': 'CONNECTION_REFUSED',
    'connect ENOENT /x': 'NO_SUCH_SOCKET',
    'connect EACCES /x': 'SOCKET_NOT_YOURS',
    'Name resolution failed for target dns:nowhere:1': 'UNKNOWN_HOST',
    'connect EHOSTUNREACH 1.2.3.4:1': 'UNREACHABLE',
    'Last error: CERT_HAS_EXPIRED': 'SERVER_CERTIFICATE_EXPIRED',
    'certificate is not yet valid': 'SERVER_CERTIFICATE_NOT_YET_VALID',
    'unable to verify the first certificate': 'SERVER_CERTIFICATE_WRONG_CA',
    'self-signed certificate in certificate chain': 'SERVER_CERTIFICATE_WRONG_CA',
    'read ECONNRESET': 'CONNECTION_LOST',
  };
  for (const [details, reason] of Object.entries(reasons)) {
    it(`name ${reason}`, () => {
      const failure = explainConnectionFailure(details, target);
      assert.equal(failure?.reason, reason);
      assert.match(failure.message, /the center at c:7400/);
    });
  }

  it('never speak of ports or networks where a unix socket was called', () => {
    const local = { peer: 'the agent', address: 'unix:/run/agent.sock' };
    const failures = Object.keys(reasons).map((details) => explainConnectionFailure(details, local)?.message ?? '');
    const said = [...failures, explainNoConnection(local, 10).message].filter((text) => /^cannot reach/.test(text));
    for (const text of said) assert.doesNotMatch(text, /\bport\b|network|firewall/);
    assert.ok(said.length > 4);
  });

  it('leave other failures alone', () => {
    assert.equal(explainConnectionFailure('the disk is full', target), undefined);
  });
});

describe('the guard of local HTTP', () => {
  it('takes no header list for a header', () => {
    assert.throws(() => {
      requireLocalOrigin({ host: ['localhost', 'evil'] });
    });
    assert.throws(() => {
      requireLocalOrigin({ host: 'localhost', origin: ['http://localhost'] });
    });
    assert.doesNotThrow(() => {
      requireLocalOrigin({ host: 'localhost', origin: undefined, 'sec-fetch-site': 'same-origin' });
    });
  });
});
