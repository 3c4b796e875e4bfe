import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import {
  CenterService,
  type FetchArtifactResponse,
  type UploadArtifactRequest,
} from '../../../generated/muster/v1/center.js';
import { generateSigningKey } from '../../../src/archive/signature.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import type { Client } from '../../../src/rpc/types.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs } from '../../support/fake-agent.js';
import { Releaser, uploadMessages, uploadOf, type Packed } from '../../support/releases.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

interface World {
  readonly center: TestCenter;
  readonly releaser: Releaser;
}

async function world(t: TestContext): Promise<World> {
  const center = await TestCenter.start(t);
  const releaser = await Releaser.open(t);
  await releaser.enroll(center.operator);
  return { center, releaser };
}

async function agentOf(t: TestContext, center: TestCenter, name = 'web-1'): Promise<FakeAgent> {
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  return new FakeAgent(
    t,
    center.address,
    name,
    await joinAs(center.address, { token: await center.token(), name, caPem }),
  );
}

/** Files of the archive store. */
async function stored(center: TestCenter): Promise<string[]> {
  const names = await readdir(join(center.data, 'artifacts'), { recursive: true });
  return names.filter((name) => /\.(tar\.gz|part)$/.test(name)).sort();
}

function fileOf(center: TestCenter, digest: string, ending = '.tar.gz'): string {
  return join(center.data, 'artifacts', digest.slice(0, 2), digest + ending);
}

const LIST = { pageSize: 0, pageToken: '', service: '' };

async function fetched(
  client: Client<typeof CenterService>,
  digest: string,
  offset = 0,
): Promise<{ size: number; bytes: Buffer }> {
  const messages: FetchArtifactResponse[] = [];
  for await (const message of client.fetchArtifact({ digest, offset })) messages.push(message);
  assert.ok(messages.every(({ data }) => data.length <= 64 * 1024));
  return { size: messages[0]?.sizeBytes ?? 0, bytes: Buffer.concat(messages.map(({ data }) => data)) };
}

/** Messages up to so many bytes, then nothing until the call is ended. */
async function* brokenOff(packed: Packed, bytes: number, sent: () => void): AsyncGenerator<UploadArtifactRequest> {
  let count = 0;
  for (const message of uploadMessages(packed, { pieceBytes: 8192 })) {
    yield message;
    count += message.data.length;
    if (count >= bytes) break;
  }
  sent();
  await new Promise(() => undefined);
}

/** A release of about a megabyte that does not compress. */
function large(releaser: Releaser, version = '1.0.0'): Promise<Packed> {
  const files = { 'run.sh': '#!/bin/sh\n', 'blob.bin': randomBytes(1_000_000) };
  return releaser.release('web', version, { files });
}

describe('an upload', () => {
  it('that breaks off goes on where it was, also at a center started anew', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await large(releaser);
    assert.deepEqual(await center.operator.getUpload({ digest: packed.digest }), { offset: 0, complete: false });
    const leaving = new AbortController();
    const first = center.operator.uploadArtifact(
      brokenOff(packed, 300_000, () => undefined),
      { signal: leaving.signal },
    );
    // The part has a length once the first bytes are written.
    await waitFor('bytes on the disk', async () => {
      const size = (await readFile(fileOf(center, packed.digest, '.part')).catch(() => Buffer.alloc(0))).length;
      return size > 250_000 ? size : undefined;
    });
    leaving.abort();
    await failureOf(first);
    const { offset } = await waitFor('the part', async () => {
      const answer = await center.operator.getUpload({ digest: packed.digest });
      return answer.offset > 0 ? answer : undefined;
    });
    await center.stop();
    await center.start();
    assert.deepEqual(await center.operator.getUpload({ digest: packed.digest }), { offset, complete: false });
    const rest = await center.operator.uploadArtifact(uploadOf(packed, { offset }));
    assert.deepEqual(rest, { offset: packed.bytes.length, complete: true });
    assert.deepEqual(await readFile(fileOf(center, packed.digest)), packed.bytes);
    assert.deepEqual(await stored(center), [`${packed.digest.slice(0, 2)}/${packed.digest}.tar.gz`]);
    assert.equal((await releaser.putRelease(center.operator, packed)).version, '1.0.0');
  });

  it('skips what is there, and refuses to leave a gap', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await large(releaser);
    const half = {
      digest: packed.digest,
      sizeBytes: packed.bytes.length,
      offset: 0,
      data: packed.bytes.subarray(0, 500_000),
    };
    assert.deepEqual(await center.operator.uploadArtifact(one(half)), { offset: 500_000, complete: false });
    const gap = await failureOf(center.operator.uploadArtifact(uploadOf(packed, { offset: 500_001 })));
    assert.deepEqual([gap.code, gap.reason, gap.metadata['offset']], ['conflict', 'OFFSET', '500000']);
    const whole = await center.operator.uploadArtifact(uploadOf(packed, { offset: 0 }));
    assert.equal(whole.complete, true);
    assert.deepEqual(await readFile(fileOf(center, packed.digest)), packed.bytes);
  });

  it('of the same archive twice at once takes both and stores it once', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await large(releaser);
    const answers = await Promise.all([0, 1, 2].map(() => center.operator.uploadArtifact(uploadOf(packed))));
    assert.ok(answers.every(({ complete }) => complete));
    assert.equal((await stored(center)).length, 1);
    assert.deepEqual(await readFile(fileOf(center, packed.digest)), packed.bytes);
  });

  it('that is not what its digest says is lost and begins again', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await large(releaser);
    const wrong = Buffer.from(packed.bytes);
    wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
    const refusal = await failureOf(center.operator.uploadArtifact(uploadOf({ digest: packed.digest, bytes: wrong })));
    assert.deepEqual([refusal.code, refusal.reason], ['data_loss', 'DIGEST_MISMATCH']);
    assert.deepEqual(await center.operator.getUpload({ digest: packed.digest }), { offset: 0, complete: false });
    assert.deepEqual(await stored(center), []);
    assert.equal((await center.operator.uploadArtifact(uploadOf(packed))).complete, true);
  });

  it('with more bytes than announced, too many bytes or a wrong digest is refused', async (t) => {
    const { center } = await world(t);
    const digest = 'a'.repeat(64);
    const data = Buffer.alloc(100);
    const upload = (message: Partial<UploadArtifactRequest>) =>
      failureOf(center.operator.uploadArtifact(one({ digest, sizeBytes: 100, offset: 0, data, ...message })));
    assert.equal((await upload({ sizeBytes: 50 })).reason, 'UPLOAD_SIZE');
    assert.equal((await upload({ sizeBytes: 5 * 1024 ** 3 })).reason, 'ARCHIVE_SIZE');
    assert.equal((await upload({ digest: '../../../etc/passwd' })).reason, 'DIGEST');
    assert.equal((await upload({ data: Buffer.alloc(1024 * 1024 + 2048) })).code, 'invalid');
  });
});

async function* one<T>(message: T): AsyncGenerator<T> {
  await Promise.resolve();
  yield message;
}

describe('a release', () => {
  it('is pushed, listed, shown and pushed again without a change', async (t) => {
    const { center, releaser } = await world(t);
    const base = await releaser.module('base', '2.0.0');
    await releaser.pushModule(center.operator, base);
    const lines = ['command: ["./run.sh"]', 'modules: { base: "2.0.0" }'];
    const packed = await releaser.release('web', '1.0.0', { lines });
    const release = await releaser.pushRelease(center.operator, packed);
    assert.deepEqual(
      [release.service, release.version, release.files, release.signedBy, release.pushedBy, release.problem],
      ['web', '1.0.0', 2, 'local', 'operator local', ''],
    );
    assert.deepEqual(release.modules, [{ name: 'base', version: '2.0.0', digest: base.digest }]);
    assert.match(release.manifest, /^name: web/);
    assert.deepEqual(await releaser.pushRelease(center.operator, packed), release);
    const second = await releaser.pushRelease(center.operator, await releaser.release('web', '1.1.0'));
    const { releases } = await center.operator.listReleases({ ...LIST, service: 'web' });
    assert.deepEqual(
      releases.map(({ version, manifest }) => [version, manifest]),
      [
        ['1.1.0', ''],
        ['1.0.0', ''],
      ],
    );
    assert.equal((await center.operator.getModule({ name: 'base', version: '2.0.0' })).pinnedBy[0], 'web 1.0.0');
    await center.stop();
    await center.start();
    assert.deepEqual(await center.operator.getRelease({ service: 'web', version: '1.1.0' }), second);
    const unknown = await failureOf(center.operator.getRelease({ service: 'web', version: '1.1.1' }));
    assert.equal(
      unknown.message,
      'service "web" has no release "1.1.1". Did you mean "1.1.0"? There are: 1.1.0, 1.0.0',
    );
  });

  it('of a version that is taken is refused, and its archive goes', async (t) => {
    const { center, releaser } = await world(t);
    await releaser.pushRelease(center.operator, await releaser.release('web', '1.0.0'));
    const other = await releaser.release('web', '1.0.0', { files: { 'run.sh': 'another' } });
    const refusal = await failureOf(releaser.pushRelease(center.operator, other));
    assert.deepEqual([refusal.code, refusal.reason], ['exists', 'VERSION_TAKEN']);
    assert.equal((await stored(center)).length, 1);
  });

  it('is refused unsigned, signed for another version, with a key nobody enrolled, or one that was revoked', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await releaser.release('web', '1.0.0');
    const none = { publicKey: Buffer.alloc(0), signature: Buffer.alloc(0) };
    const strange = releaser.sign(packed, generateSigningKey());
    const another = releaser.sign({ ...packed, version: '1.0.1' });
    for (const signature of [none, strange, another]) {
      await center.operator.uploadArtifact(uploadOf(packed));
      const refusal = await failureOf(releaser.putRelease(center.operator, packed, signature));
      assert.deepEqual([refusal.code, refusal.reason], ['denied', 'SIGNATURE'], refusal.message);
      assert.deepEqual(await stored(center), []);
    }
    assert.equal((await center.operator.listReleases(LIST)).releases.length, 0);
    const { keys } = await center.operator.listSigningKeys({});
    const revoked = await center.operator.revokeSigningKey({ id: keys[0]?.id ?? '' });
    assert.ok(revoked.revoked);
    const refusal = await failureOf(releaser.pushRelease(center.operator, packed));
    assert.deepEqual([refusal.code, refusal.reason], ['denied', 'SIGNATURE']);
    assert.match(refusal.message, /was revoked by operator local/);
    assert.equal((await failureOf(releaser.enroll(center.operator))).reason, 'KEY_REVOKED');
  });

  it('says every mistake of its manifest with line and column, and missing pins with the nearest version', async (t) => {
    const { center, releaser } = await world(t);
    await releaser.pushModule(center.operator, await releaser.module('base', '2.3.0'));
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [
        ['name: web', 'version: 1.0', 'command: ["./run.sh"]'],
        /^muster\.yaml:2:10: version: 1 is wrong: expected a version/,
      ],
      [['name: web', 'command: ["./run.sh"]'], /^muster\.yaml:1:1: version: missing: a release says its version/],
      [
        ['name: web', 'version: "1"', 'comand: ["./run.sh"]'],
        /^muster\.yaml:3:1: comand: there is no such field\. Did you mean "command"\?/m,
      ],
      [
        ['name: web', 'version: "1"', 'command: ["./gone.sh"]'],
        /^muster\.yaml:3:11: command\[0\]: the archive has no gone\.sh/,
      ],
      [
        ['name: web', 'version: "1"', 'command: ["./run.sh"]', 'modules:', '  base: "2.3.1"', '  bose: "1"'],
        /^muster\.yaml:5:9: modules\.base: module "base" has no version "2\.3\.1" here\. Did you mean "2\.3\.0"\?.*\nmuster\.yaml:6:9: modules\.bose: there is no module "bose"\. Did you mean "base"\?/,
      ],
    ];
    for (const [lines, expected] of cases) {
      const files = { 'muster.yaml': lines.join('\n'), 'run.sh': '#!/bin/sh\n' };
      const packed = await releaser.packed({ kind: 'release', name: 'web', version: '1' }, files);
      const refusal = await failureOf(releaser.pushRelease(center.operator, packed));
      assert.equal(refusal.code, 'invalid');
      assert.match(refusal.message, expected);
      assert.ok(refusal.fields.length > 0);
    }
    assert.equal((await stored(center)).length, 1);
  });

  it('must not hold what is linked, nor be an archive that leaves its directory, a bomb or none', async (t) => {
    const { center, releaser } = await world(t);
    await releaser.pushModule(center.operator, await releaser.module('base', '1.0.0'));
    const lines = ['command: ["./run.sh"]', 'modules: { base: "1.0.0" }'];
    const files = { 'run.sh': '', 'modules/base/index.js': '' };
    const linked = await failureOf(
      releaser.pushRelease(center.operator, await releaser.release('web', '1.0.0', { lines, files })),
    );
    assert.match(linked.message, /^muster\.yaml:4:18: modules\.base: the archive holds modules\/base itself/);
    const manifest = 'name: web\nversion: "1.0.0"\ncommand: ["true"]\n';
    const evil: readonly Buffer[] = [
      tarOf([tarEntry('muster.yaml', manifest), tarEntry('../outside', 'x')]),
      tarOf([tarEntry('muster.yaml', manifest), tarEntry('/etc/outside', 'x')]),
      tarOf([
        tarEntry('muster.yaml', manifest),
        tarEntry('link', '', { type: '2', target: '/etc' }),
        tarEntry('link/x', 'x'),
      ]),
      tarOf([tarEntry('muster.yaml', manifest), tarEntry('device', '', { type: '3' })]),
      tarOf([tarEntry('other.yaml', manifest)]),
      gzipSync(Buffer.alloc(64 * 1024 * 1024)),
      Buffer.from('no archive at all'),
    ];
    for (const bytes of evil) {
      const digest = createHash('sha256').update(bytes).digest('hex');
      const packed: Packed = { kind: 'release', name: 'web', version: '1.0.0', digest, bytes };
      const refusal = await failureOf(releaser.pushRelease(center.operator, packed));
      assert.equal(refusal.code, 'invalid', refusal.message);
    }
    assert.equal((await stored(center)).length, 1);
    assert.equal((await center.operator.listReleases(LIST)).releases.length, 0);
  });

  it('is only checked where that is asked for', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await releaser.release('web', '1.0.0');
    const request = { digest: packed.digest, signature: releaser.sign(packed), note: '', validateOnly: true };
    assert.equal((await failureOf(center.operator.putRelease(request))).reason, 'ARTIFACT_MISSING');
    await center.operator.uploadArtifact(uploadOf(packed));
    assert.equal((await center.operator.putRelease(request)).version, '1.0.0');
    assert.equal((await center.operator.listReleases(LIST)).releases.length, 0);
    assert.equal((await releaser.putRelease(center.operator, packed)).version, '1.0.0');
  });

  it('that machines run from or hold is counted and stays; one that none has is removed with its archive', async (t) => {
    const { center, releaser } = await world(t);
    const base = await releaser.module('base', '1.0.0');
    await releaser.pushModule(center.operator, base);
    const lines = ['command: ["./run.sh"]', 'modules: { base: "1.0.0" }'];
    const [v1, v2, v3] = [
      await releaser.release('web', '1', { lines }),
      await releaser.release('web', '2'),
      await releaser.release('web', '3'),
    ];
    for (const packed of [v1, v2, v3]) await releaser.pushRelease(center.operator, packed);
    const agent = await agentOf(t, center);
    const stream = await agent.connect();
    const ref = ({ name, version, digest }: Packed, modules: Packed[] = []) => ({
      service: name,
      version,
      digest,
      modules: modules.map((one) => ({ name: one.name, version: one.version, digest: one.digest })),
      configRevision: 0,
    });
    await stream.report({
      service: 'web',
      version: '2',
      release: ref(v2),
      heldReleases: [ref(v1, [base])],
      verified: true,
    });
    await stream.report({ service: 'other', version: '1' });
    await stream.endFullReport();
    await waitFor('the report', async () =>
      (await center.operator.getRelease({ service: 'web', version: '2' })).machines === 1 ? true : undefined,
    );
    assert.equal((await center.operator.getRelease({ service: 'web', version: '1' })).machinesHolding, 1);
    await stream.leave();
    for (const version of ['1', '2']) {
      const refusal = await failureOf(center.operator.removeRelease({ service: 'web', version }));
      assert.deepEqual([refusal.code, refusal.reason], ['precondition', 'RELEASE_IN_USE']);
      assert.match(refusal.message, /is on web-1/);
    }
    assert.equal(
      (await failureOf(center.operator.removeModule({ name: 'base', version: '1.0.0' }))).reason,
      'MODULE_IN_USE',
    );
    await center.operator.removeRelease({ service: 'web', version: '3' });
    assert.equal(
      (await stored(center)).some((name) => name.includes(v3.digest)),
      false,
    );
    assert.equal((await failureOf(center.operator.removeRelease({ service: 'web', version: '3' }))).code, 'not_found');
    const instances = (filter: object) =>
      center.operator
        .listInstances({
          pageSize: 0,
          pageToken: '',
          service: '',
          selector: '',
          module: '',
          moduleVersion: '',
          version: '',
          ...filter,
        })
        .then((answer) => answer.instances.map(({ service, version }) => `${service} ${version}`));
    assert.deepEqual(await instances({ version: '2' }), ['web 2']);
    assert.deepEqual(await instances({ module: 'base' }), []);
    assert.equal(
      (await failureOf(instances({ module: 'bose' }))).message,
      'there is no module "bose". Did you mean "base"?',
    );
    assert.equal((await failureOf(instances({ moduleVersion: '1' }))).code, 'invalid');
    const again = await agent.connect();
    await again.report({ service: 'web', version: '1', release: ref(v1, [base]), verified: true });
    await waitFor('the other report', async () =>
      (await instances({ module: 'base' })).length === 1 ? true : undefined,
    );
    assert.deepEqual(await instances({ module: 'base', moduleVersion: '1.0.0' }), ['web 1']);
    assert.deepEqual(await instances({ module: 'base', moduleVersion: '1.0.1' }), []);
  });
});

describe('an archive for an agent', () => {
  it('is sent from any offset on, and nothing else of the center is', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await large(releaser);
    const agent = await agentOf(t, center);
    await center.operator.uploadArtifact(uploadOf(packed));
    const early = await failureOf(fetched(agent.client, packed.digest));
    assert.deepEqual([early.code, early.reason], ['not_found', 'ARTIFACT_UNKNOWN']);
    await releaser.putRelease(center.operator, packed);
    const all = await fetched(agent.client, packed.digest);
    assert.equal(all.size, packed.bytes.length);
    assert.deepEqual(all.bytes, packed.bytes);
    const rest = await fetched(agent.client, packed.digest, 700_000);
    assert.equal(rest.size, packed.bytes.length);
    assert.deepEqual(rest.bytes, packed.bytes.subarray(700_000));
    assert.deepEqual(await fetched(agent.client, packed.digest, packed.bytes.length), {
      size: packed.bytes.length,
      bytes: Buffer.alloc(0),
    });
    assert.equal((await failureOf(fetched(agent.client, packed.digest, packed.bytes.length + 1))).reason, 'OFFSET');
    assert.equal((await failureOf(fetched(agent.client, '../../ca/key'))).code, 'invalid');
    // Operators push, agents fetch.
    assert.equal((await failureOf(agent.client.getUpload({ digest: packed.digest }))).code, 'denied');
    const asOperator = center.operator.fetchArtifact({ digest: packed.digest, offset: 0 })[Symbol.asyncIterator]();
    assert.equal((await failureOf(asOperator.next())).code, 'denied');
    const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
    const channel = openChannel({ address: center.address, tls: { caPem } });
    t.after(() => {
      channel.close();
    });
    const nobody = createClient(CenterService, channel);
    assert.equal((await failureOf(nobody.listReleases(LIST))).code, 'unauthenticated');
    assert.equal((await failureOf(nobody.uploadArtifact(uploadOf(packed)))).code, 'unauthenticated');
  });

  it('that is damaged, cut short or gone on the disk is never sent, said at once, and replaced by a push of the same', async (t) => {
    const { center, releaser } = await world(t);
    const [flipped, short, gone] = [await large(releaser, '1'), await large(releaser, '2'), await large(releaser, '3')];
    for (const packed of [flipped, short, gone]) await releaser.pushRelease(center.operator, packed);
    const agent = await agentOf(t, center);
    await center.stop();
    const bytes = Buffer.from(flipped.bytes);
    bytes[500_000] = (bytes[500_000] ?? 0) ^ 1;
    await writeFile(fileOf(center, flipped.digest), bytes);
    await writeFile(fileOf(center, short.digest), short.bytes.subarray(0, 1000));
    await rm(fileOf(center, gone.digest));
    await center.start();
    const { client } = new FakeAgent(t, center.address, 'web-1', {
      machine: agent.machine,
      identity: agent.identity,
      site: '',
    });
    for (const packed of [flipped, short, gone]) {
      const refusal = await failureOf(fetched(client, packed.digest));
      assert.equal(refusal.code, 'data_loss', refusal.message);
      const { problem } = await center.operator.getRelease({ service: 'web', version: packed.version });
      assert.match(problem, /on the center's disk/);
      await releaser.pushRelease(center.operator, packed);
      assert.equal((await center.operator.getRelease({ service: 'web', version: packed.version })).problem, '');
      assert.deepEqual((await fetched(client, packed.digest)).bytes, packed.bytes);
    }
  });

  it('is not sent any more once its key was revoked', async (t) => {
    const { center, releaser } = await world(t);
    const packed = await releaser.release('web', '1.0.0');
    await releaser.pushRelease(center.operator, packed);
    const agent = await agentOf(t, center);
    const { keys } = await center.operator.listSigningKeys({});
    await center.operator.revokeSigningKey({ id: keys[0]?.id ?? '' });
    assert.equal((await failureOf(fetched(agent.client, packed.digest))).reason, 'KEY_REVOKED');
  });
});

interface TarOptions {
  readonly type?: string;
  readonly target?: string;
}

/** A ustar entry, as no honest packer makes it. */
function tarEntry(path: string, content: string, { type = '0', target = '' }: TarOptions = {}): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;
  header.write(path, 0);
  header.write(octal(0o644, 8) + octal(0, 8) + octal(0, 8) + octal(content.length, 12) + octal(0, 12), 100);
  header.write(`        ${type}${target}`, 148);
  header.write('ustar\u000000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  body.write(content);
  return Buffer.concat([header, body]);
}

function tarOf(entries: readonly Buffer[]): Buffer {
  return gzipSync(Buffer.concat([...entries, Buffer.alloc(1024)]));
}
