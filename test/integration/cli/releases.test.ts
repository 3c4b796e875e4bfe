import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  Module,
  Release,
  SigningKey,
  type PutModuleRequest,
  type PutReleaseRequest,
  type UploadArtifactRequest,
} from '../../../generated/muster/v1/center.js';
import { isSignedBy, keyId } from '../../../src/archive/signature.js';
import { MusterError } from '../../../src/kit/errors.js';
import { ScriptedCenter, STARTED } from '../../support/scripted-center.js';
import { temporaryDirectory } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const MANIFEST = 'name: orders\nversion: 1.4.2\ncommand: [node, server.mjs]\n';

async function service(t: TestContext, manifest = MANIFEST): Promise<string> {
  const directory = join(await temporaryDirectory(t), 'orders');
  await mkdir(join(directory, 'lib'), { recursive: true });
  await writeFile(join(directory, 'muster.yaml'), manifest);
  await writeFile(join(directory, 'server.mjs'), '// serves\n');
  // Several pieces of an upload, and nothing that packs well.
  const noise = Buffer.concat(Array.from({ length: 40_000 }, (_, n) => createHash('sha256').update(`${n}`).digest()));
  await writeFile(join(directory, 'lib', 'noise.bin'), noise);
  return directory;
}

/** A center that keeps what is pushed. `failAfterBytes`: the first upload breaks off then. */
interface Kept {
  readonly center: ScriptedCenter;
  readonly bytes: () => Buffer;
  readonly offsets: number[];
  readonly releases: PutReleaseRequest[];
  readonly modules: PutModuleRequest[];
  readonly enrolled: Set<string>;
}

async function keeping(t: TestContext, { failAfterBytes = Infinity, more = {} } = {}): Promise<Kept> {
  let bytes: Buffer = Buffer.alloc(0);
  let whole = '';
  let breaks = failAfterBytes;
  const offsets: number[] = [];
  const releases: PutReleaseRequest[] = [];
  const modules: PutModuleRequest[] = [];
  const enrolled = new Set<string>();
  const digestOf = (): string => createHash('sha256').update(bytes).digest('hex');
  const unknown = (): Promise<never> => Promise.reject(new MusterError('not_found', 'there is no such version'));
  const take = async (
    requests: AsyncIterable<UploadArtifactRequest>,
  ): Promise<{ offset: number; complete: boolean }> => {
    let first = true;
    for await (const { digest, offset, data } of requests) {
      if (first) {
        whole = digest;
        offsets.push(offset);
        assert.equal(offset, bytes.length, 'it goes on where it broke off');
      }
      first = false;
      bytes = Buffer.concat([bytes, data]);
      if (bytes.length >= breaks) {
        breaks = Infinity;
        throw new MusterError('unavailable', 'the connection was lost');
      }
    }
    return { offset: bytes.length, complete: digestOf() === whole };
  };
  const center = await ScriptedCenter.start(t, {
    getRelease: ({ service: name, version }) => {
      const [put] = releases;
      return put === undefined
        ? unknown()
        : Promise.resolve(
            Release.fromPartial({
              service: name,
              version,
              artifact: { digest: put.digest },
              pushed: STARTED,
              pushedBy: 'operator ada',
            }),
          );
    },
    getModule: unknown,
    enrollSigningKey: ({ publicKey }) => {
      const id = keyId(publicKey.toString('base64'));
      enrolled.add(id);
      return Promise.resolve(SigningKey.fromPartial({ id, publicKey, operator: 'ada', enrolled: STARTED }));
    },
    getUpload: ({ digest }) =>
      Promise.resolve({ offset: bytes.length, complete: bytes.length > 0 && digest === digestOf() }),
    uploadArtifact: take,
    putRelease: (request) => {
      releases.push(request);
      return Promise.resolve(
        Release.fromPartial({ service: 'orders', version: '1.4.2', files: 5, unpackedBytes: 1_280_000 }),
      );
    },
    putModule: (request) => {
      modules.push(request);
      return Promise.resolve(Module.fromPartial({ name: 'shared-lib', version: '2.3.1', files: 2 }));
    },
    ...more,
  });
  return { center, bytes: () => bytes, offsets, releases, modules, enrolled };
}

/** Of a process that was there and is not any more. */
function endedPid(): number {
  const { pid } = spawnSync(process.execPath, ['--version']);
  return pid;
}

describe('muster release push', () => {
  it('packs, signs with a key that it makes once, uploads, and says what can be done next', async (t) => {
    const kept = await keeping(t);
    const directory = await service(t);
    const { status, io } = await kept.center.run(['release', 'push', directory, '--note', 'faster']);
    assert.equal(status, 0, io.complained());
    const digest = createHash('sha256').update(kept.bytes()).digest('hex');
    const [put] = kept.releases;
    assert.equal(put?.digest, digest);
    assert.equal(put.note, 'faster');
    const signature = {
      publicKey: put.signature?.publicKey.toString('base64') ?? '',
      signature: put.signature?.signature.toString('base64') ?? '',
    };
    assert.ok(isSignedBy('release', { name: 'orders', version: '1.4.2', digest }, signature));
    assert.ok(!isSignedBy('module', { name: 'orders', version: '1.4.2', digest }, signature));
    const key = join(kept.center.home, '.config', 'muster', 'signing-key.pem');
    assert.equal((await stat(key)).mode & 0o777, 0o600);
    assert.match(io.complained(), new RegExp(`Made the signing key ${keyId(signature.publicKey)} in ${key}`));
    assert.match(io.written(), new RegExp(`^orders 1\\.4\\.2 is pushed: 5 files, .*sha256 ${digest.slice(0, 12)}`));
    assert.match(io.complained(), /"muster deploy orders 1\.4\.2" makes it run/);
    assert.doesNotMatch(io.written() + io.complained(), /PRIVATE/);

    const before = await readFile(key, 'utf8');
    const again = await kept.center.run(['release', 'push', directory]);
    assert.equal(again.status, 0);
    assert.match(
      again.io.written(),
      /^orders 1\.4\.2 is there already, pushed .* by operator ada: nothing was uploaded\n$/,
    );
    assert.equal(kept.releases.length, 1);
    assert.equal(kept.offsets.length, 1);
    assert.equal(await readFile(key, 'utf8'), before);
  });

  it('goes on with an upload that broke off', async (t) => {
    const kept = await keeping(t, { failAfterBytes: 600_000 });
    const { status, io } = await kept.center.run(['release', 'push', await service(t)]);
    assert.equal(status, 0, io.complained());
    assert.equal(kept.offsets.length, 2);
    assert.equal(kept.offsets[0], 0);
    assert.ok((kept.offsets[1] ?? 0) >= 600_000, 'what had arrived is not sent again');
    assert.match(io.complained(), /The upload broke off and is tried again: .*the connection was lost/);
  });

  it('goes on with it in a later run too, since packing again gives the same bytes', async (t) => {
    const stop = new AbortController();
    const kept = await keeping(t);
    const { uploadArtifact } = kept.center.handlers;
    assert.ok(uploadArtifact);
    const taken: Promise<unknown>[] = [];
    kept.center.handlers = {
      ...kept.center.handlers,
      uploadArtifact: (requests, context) => {
        const some = async function* (): AsyncGenerator<UploadArtifactRequest> {
          for await (const request of requests) {
            yield request;
            stop.abort(new Error('SIGINT'));
          }
        };
        const done = uploadArtifact(some(), context);
        taken.push(done.catch(() => undefined));
        return done;
      },
    };
    const directory = await service(t);
    const first = await kept.center.run(['release', 'push', directory], { signal: stop.signal });
    assert.equal(first.status, 1);
    assert.match(first.io.complained(), /Stopped before it was pushed: the same command goes on/);
    await Promise.all(taken);
    const had = kept.bytes().length;
    assert.ok(had > 0);
    kept.center.handlers = { ...kept.center.handlers, uploadArtifact };
    // A copy of it is the same content: times and places do not matter.
    const copy = join(await temporaryDirectory(t), 'copy');
    await cp(directory, copy, { recursive: true });
    const second = await kept.center.run(['release', 'push', copy, '--json']);
    assert.equal(second.status, 0, second.io.complained());
    assert.deepEqual(kept.offsets, [0, had]);
    const answer = JSON.parse(second.io.written()) as { alreadyThere: boolean; uploadedBytes: number; release: object };
    assert.deepEqual([answer.alreadyThere, answer.uploadedBytes], [false, kept.bytes().length - had]);
  });

  it('shows its progress on a terminal, and leaves nothing of it behind', async (t) => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const kept = await keeping(t);
    const { getUpload } = kept.center.handlers;
    kept.center.handlers = {
      ...kept.center.handlers,
      putRelease: async () => {
        await gate;
        return Release.fromPartial({ service: 'orders', version: '1.4.2' });
      },
      getUpload: async (request, context) => {
        const state = await getUpload?.(request, context);
        assert.ok(state);
        return state;
      },
    };
    const { io, done } = kept.center.begin(['release', 'push', await service(t)], { terminal: true, columns: 60 });
    await waitFor('the progress', () => /\r[^\r]*(?:packing|uploading orders 1\.4\.2)/.test(io.written()));
    go();
    assert.equal(await done, 0, io.complained());
    assert.match(io.written(), /\r\u001b\[Korders 1\.4\.2 is pushed/);
  });

  it('leaves no archive in the directory for temporary files, nor what a killed one left there', async (t) => {
    const kept = await keeping(t);
    const room = join(tmpdir(), `muster-push-${endedPid()}-test`);
    await mkdir(room);
    await writeFile(join(room, 'archive.tar.gz'), 'half of one');
    assert.equal((await kept.center.run(['release', 'push', await service(t)])).status, 0);
    await assert.rejects(stat(room), { code: 'ENOENT' });
    const own = (await readdir(tmpdir())).filter((name) => name.startsWith(`muster-push-${process.pid}-`));
    assert.deepEqual(own, []);
  });

  it('stores nothing of a manifest that is wrong, and says where', async (t) => {
    const center = await ScriptedCenter.start(t);
    const directory = await service(t, 'name: orders\nversion: 1.4.2\ncommmand: [node]\n');
    const { status, io } = await center.run(['release', 'push', directory]);
    assert.equal(status, 1);
    assert.match(io.complained(), /orders\/muster\.yaml:3:1: .*command/);
  });

  it('wants a manifest at the root of a directory or archive that is there', async (t) => {
    const center = await ScriptedCenter.start(t);
    const empty = await temporaryDirectory(t);
    const { status, io } = await center.run(['release', 'push', empty]);
    assert.equal(status, 2);
    assert.match(io.complained(), /has no muster\.yaml at its root/);
    const nowhere = await center.run(['release', 'push', join(empty, 'none.tar.gz')]);
    assert.equal(nowhere.status, 2);
    assert.match(nowhere.io.complained(), /there is no such file or directory/);
    const text = join(empty, 'text.tar.gz');
    await writeFile(text, 'no archive at all');
    const broken = await center.run(['release', 'push', text]);
    assert.equal(broken.status, 1);
    assert.match(broken.io.complained(), /^muster: .+/);
  });

  it('refuses another archive under a version that is there, before it uploads', async (t) => {
    const kept = await keeping(t, {
      more: { getRelease: () => Promise.resolve(Release.fromPartial({ artifact: { digest: 'f'.repeat(64) } })) },
    });
    const { status, io } = await kept.center.run(['release', 'push', await service(t)]);
    assert.equal(status, 1);
    assert.match(
      io.complained(),
      /orders 1\.4\.2 was pushed before and is another archive .*Raise "version" in muster\.yaml/,
    );
    assert.deepEqual(kept.offsets, []);
  });

  it('says before the upload that a pinned module is not there', async (t) => {
    const kept = await keeping(t);
    const { status, io } = await kept.center.run([
      'release',
      'push',
      await service(t, `${MANIFEST}modules: { shared-lib: 2.3.1 }\n`),
    ]);
    assert.equal(status, 1);
    assert.match(io.complained(), /muster\.yaml pins shared-lib 2\.3\.1: .*"muster module push DIR"/);
    assert.deepEqual(kept.offsets, []);
  });

  it('says what to do with a key that was revoked, or is another operator’s', async (t) => {
    for (const [code, reason] of [
      ['precondition', 'KEY_REVOKED'],
      ['exists', 'KEY_TAKEN'],
    ] as const) {
      const kept = await keeping(t, {
        more: { enrollSigningKey: () => Promise.reject(new MusterError(code, 'not this key', { reason })) },
      });
      const { status, io } = await kept.center.run(['release', 'push', await service(t)]);
      assert.equal(status, 1);
      assert.match(io.complained(), /not this key\. The key is in .*signing-key\.pem: move that file away/);
      assert.deepEqual(kept.offsets, []);
    }
  });

  it('pushes a module the same way', async (t) => {
    const kept = await keeping(t);
    const directory = await temporaryDirectory(t);
    await writeFile(join(directory, 'module.yaml'), 'name: shared-lib\nversion: 2.3.1\n');
    await writeFile(join(directory, 'index.mjs'), 'export const shared = 1;\n');
    const { status, io } = await kept.center.run(['module', 'push', directory]);
    assert.equal(status, 0, io.complained());
    assert.match(io.written(), /^shared-lib 2\.3\.1 is pushed/);
    const [put] = kept.modules;
    const signature = {
      publicKey: put?.signature?.publicKey.toString('base64') ?? '',
      signature: put?.signature?.signature.toString('base64') ?? '',
    };
    assert.ok(isSignedBy('module', { name: 'shared-lib', version: '2.3.1', digest: put?.digest ?? '' }, signature));
  });

  it('reads no key that others may read as its own', async (t) => {
    const kept = await keeping(t);
    const directory = await service(t);
    assert.equal((await kept.center.run(['release', 'push', directory])).status, 0);
    kept.releases.length = 0;
    const key = join(kept.center.home, '.config', 'muster', 'signing-key.pem');
    await chmod(key, 0o644);
    const { status, io } = await kept.center.run(['release', 'push', directory]);
    assert.equal(status, 1);
    assert.match(io.complained(), /signing-key\.pem can be read by others: chmod 600/);
  });
});

describe('muster release and module', () => {
  it('list, show and remove', async (t) => {
    const release = Release.fromPartial({
      service: 'orders',
      version: '1.4.2',
      artifact: { digest: 'a'.repeat(64), sizeBytes: 4_200_000 },
      modules: [{ name: 'shared-lib', version: '2.3.1' }],
      manifest: MANIFEST,
      pushed: STARTED,
      pushedBy: 'operator ada',
      signedBy: 'ada',
      note: 'faster \u001b[2J',
      files: 312,
      unpackedBytes: 12_000_000,
      machines: 3,
      machinesHolding: 1,
    });
    const removed: string[] = [];
    const center = await ScriptedCenter.start(t, {
      listReleases: ({ service: name }) =>
        Promise.resolve({ releases: name === 'none' ? [] : [release], nextPageToken: '' }),
      getRelease: () => Promise.resolve(release),
      removeRelease: ({ version }) => {
        removed.push(version);
        return Promise.resolve({});
      },
      listModules: () => Promise.resolve({ modules: [], nextPageToken: '' }),
      getModule: () =>
        Promise.resolve(Module.fromPartial({ name: 'shared-lib', version: '2.3.1', pinnedBy: ['orders 1.4.2'] })),
      listSigningKeys: () =>
        Promise.resolve({
          keys: [SigningKey.fromPartial({ id: '0123456789abcdef', operator: 'ada', enrolled: STARTED })],
        }),
      revokeSigningKey: ({ id }) => Promise.resolve(SigningKey.fromPartial({ id, operator: 'ada' })),
    });
    const run = async (...argv: string[]): Promise<{ out: string; err: string }> => {
      const { status, io } = await center.run(argv);
      assert.equal(status, 0, io.complained());
      return { out: io.written(), err: io.complained() };
    };
    assert.match(
      (await run('release', 'ls')).out,
      /SERVICE +VERSION +SIZE +RUN +HELD .*\norders +1\.4\.2 +4\.2 MB +3 +1 .*shared-lib 2\.3\.1 +faster \\x1b\[2J/,
    );
    assert.match((await run('release', 'ls', 'none')).err, /"muster release ls" lists all/);
    const shown = (await run('release', 'show', 'orders', '1.4.2')).out;
    assert.match(shown, /sha256 +a{64}\nsize +4\.2 MB, 312 files, 12\.0 MB unpacked\n/);
    assert.match(shown, /machines +3 run from it, 1 hold it[^]*manifest\n {2}name: orders\n/);
    assert.equal((await run('release', 'show', 'orders', '1.4.2', '--manifest')).out, MANIFEST);
    assert.match((await run('release', 'rm', 'orders', '1.4.2')).out, /is removed/);
    assert.deepEqual(removed, ['1.4.2']);
    assert.match((await run('release', 'keys')).out, /0123456789abcdef +ada/);
    assert.match(
      (await run('release', 'keys', 'revoke', '0123456789abcdef')).out,
      /is revoked: nothing signed with it/,
    );
    assert.match((await run('module', 'show', 'shared-lib', '2.3.1')).out, /pinned by orders 1\.4\.2/);
    assert.match((await run('module', 'ls')).err, /"muster module push DIR"/);
    assert.equal(
      (JSON.parse((await run('release', 'ls', '--json')).out) as { releases: unknown[] }).releases.length,
      1,
    );
  });
});
