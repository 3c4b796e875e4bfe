import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { Archives, FETCHES_MAX, type ArchivesOptions } from '../../../../src/center/releases/archives.js';
import { ARCHIVES_FLOOR_BYTES, PARTS_MAX, UPLOADS_MAX } from '../../../../src/center/releases/archive-room.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { failureOf } from '../../../support/rpc.js';

const HOUR_MS = 3_600_000;

interface Place {
  readonly clock: ManualClock;
  readonly directory: string;
  readonly open: (options?: Partial<ArchivesOptions>) => Promise<Archives>;
}

async function place(t: TestContext): Promise<Place> {
  const root = await mkdtemp(join(tmpdir(), 'muster-archives-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const clock = new ManualClock(Date.now());
  const directory = join(root, 'artifacts');
  return {
    clock,
    directory,
    open: (options = {}) => Archives.open({ directory, clock, logger: silentLogger, ...options }),
  };
}

interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
}

function blob(size = 1000): Blob {
  const bytes = randomBytes(size);
  return { digest: createHash('sha256').update(bytes).digest('hex'), bytes };
}

async function* pieces(...all: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const piece of all) {
    await Promise.resolve();
    yield piece;
  }
}

function order({ digest, bytes }: Blob, offset = 0) {
  return { digest, sizeBytes: bytes.length, offset };
}

async function take(archives: Archives, one: Blob): Promise<void> {
  assert.equal((await archives.receive(order(one), pieces(one.bytes))).complete, true);
}

async function bytesOf(archives: Archives, digest: string, offset = 0): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of archives.read(digest, offset)) all.push(piece);
  return Buffer.concat(all);
}

/** Chunks that stand still behind the first until they are let go. */
function held(first: Uint8Array): { chunks: AsyncIterable<Uint8Array>; letGo: () => void } {
  let letGo = (): void => undefined;
  const gone = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const chunks = (async function* (): AsyncGenerator<Uint8Array> {
    yield first;
    await gone;
  })();
  return {
    chunks,
    letGo: () => {
      letGo();
    },
  };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('archives on the disk', () => {
  it('are each stored once, for the owner alone, and found again', async (t) => {
    const { directory, open } = await place(t);
    const archives = await open();
    const one = blob(200_000);
    await take(archives, one);
    assert.deepEqual(await archives.receive(order(one), pieces()), { offset: 200_000, complete: true });
    const path = join(directory, one.digest.slice(0, 2), `${one.digest}.tar.gz`);
    assert.deepEqual(await readFile(path), one.bytes);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const again = await open();
    assert.equal(again.sizeOf(one.digest), 200_000);
    assert.deepEqual(await bytesOf(again, one.digest, 150_000), one.bytes.subarray(150_000));
    assert.equal(
      again.problemWith({ digest: one.digest, sizeBytes: 200_000, signature: { publicKey: '', signature: '' } }),
      undefined,
    );
    await again.remove(one.digest);
    assert.equal((await failureOf(bytesOf(again, one.digest))).reason, 'ARTIFACT_MISSING');
    await again.remove(one.digest);
  });

  it('keep what came of an upload that failed', async (t) => {
    const { open } = await place(t);
    const archives = await open();
    const one = blob();
    const broken = (async function* () {
      yield one.bytes.subarray(0, 300);
      await Promise.resolve();
      throw new Error('cut');
    })();
    await assert.rejects(archives.receive(order(one), broken), /cut/);
    assert.deepEqual(archives.uploaded(one.digest), { offset: 300, complete: false });
    assert.deepEqual(await archives.receive(order(one, 200), pieces(one.bytes.subarray(200, 600))), {
      offset: 600,
      complete: false,
    });
    assert.equal((await (await open()).receive(order(one, 600), pieces(one.bytes.subarray(600)))).complete, true);
  });

  it('let one upload of an archive after the other write, and skip what is there', async (t) => {
    const { open } = await place(t);
    const archives = await open();
    const one = blob();
    const { chunks, letGo } = held(one.bytes.subarray(0, 400));
    const first = archives.receive(order(one), chunks);
    const second = archives.receive(order(one), pieces(one.bytes));
    await settled();
    letGo();
    assert.deepEqual(await first, { offset: 400, complete: false });
    assert.deepEqual(await second, { offset: 1000, complete: true });
    assert.deepEqual(await bytesOf(archives, one.digest), one.bytes);
  });

  it('that are longer than they may be begin again', async (t) => {
    const { directory, open } = await place(t);
    const one = blob();
    await take(await open(), one);
    const part = join(directory, one.digest.slice(0, 2), `${one.digest}.part`);
    await rm(join(directory, one.digest.slice(0, 2), `${one.digest}.tar.gz`));
    await writeFile(part, randomBytes(2000));
    const archives = await open();
    assert.deepEqual(archives.uploaded(one.digest), { offset: 2000, complete: false });
    await take(archives, one);
    assert.deepEqual(await readdir(join(directory, one.digest.slice(0, 2))), [`${one.digest}.tar.gz`]);
  });

  it('are refused where the disk has no room for them beside its floor', async (t) => {
    const { open } = await place(t);
    let free = ARCHIVES_FLOOR_BYTES + 1500;
    const archives = await open({ freeBytes: () => Promise.resolve(free) });
    const [one, other] = [blob(), blob()];
    const { chunks, letGo } = held(one.bytes);
    const first = archives.receive(order(one), chunks);
    await settled();
    // What the first is still to bring is not free for the other.
    const refusal = await failureOf(archives.receive(order(other), pieces(other.bytes)));
    assert.deepEqual([refusal.code, refusal.reason], ['exhausted', 'DISK_ALMOST_FULL']);
    letGo();
    await first;
    await take(archives, other);
    free = ARCHIVES_FLOOR_BYTES;
    assert.equal((await failureOf(archives.receive(order(blob()), pieces()))).reason, 'DISK_ALMOST_FULL');
  });

  it('are taken so many at once, and so many unfinished ones are kept', async (t) => {
    const { clock, open } = await place(t);
    const archives = await open();
    const blobs = Array.from({ length: PARTS_MAX + 1 }, () => blob());
    for (const one of blobs.slice(0, PARTS_MAX)) {
      await archives.receive(order(one), pieces(one.bytes.subarray(0, 10)));
      await clock.advance(1000);
    }
    const newest = blobs.at(-1) ?? blob();
    await archives.receive(order(newest), pieces(newest.bytes.subarray(0, 10)));
    const offsets = blobs.map(({ digest }) => archives.uploaded(digest).offset);
    assert.deepEqual(offsets, [0, ...Array.from({ length: PARTS_MAX }, () => 10)]);
    const open16 = blobs.slice(1, UPLOADS_MAX + 1).map((one) => {
      const { chunks, letGo } = held(one.bytes.subarray(0, 20));
      return { done: archives.receive(order(one), chunks), letGo };
    });
    await settled();
    assert.equal((await failureOf(archives.receive(order(newest), pieces()))).reason, 'UPLOADS_MAX');
    for (const { done, letGo } of open16) {
      letGo();
      assert.equal((await done).offset, 20);
    }
  });

  it('lose parts that nobody goes on with, also over a restart', async (t) => {
    const { clock, directory, open } = await place(t);
    const [one, other] = [blob(), blob()];
    const archives = await open();
    await archives.receive(order(one), pieces(one.bytes.subarray(0, 10)));
    await clock.advance(20 * HOUR_MS);
    await archives.receive(order(other), pieces(other.bytes.subarray(0, 10)));
    await clock.advance(5 * HOUR_MS);
    assert.equal(await archives.removeParts(24 * HOUR_MS), 1);
    assert.deepEqual([archives.uploaded(one.digest).offset, archives.uploaded(other.digest).offset], [0, 10]);
    const past = new Date(clock.now() - 30 * HOUR_MS);
    await utimes(join(directory, other.digest.slice(0, 2), `${other.digest}.part`), past, past);
    assert.equal(await (await open()).removeParts(24 * HOUR_MS), 1);
    assert.equal((await open()).uploaded(other.digest).offset, 0);
  });

  it('that were changed behind our back are not sent', async (t) => {
    const { directory, open } = await place(t);
    const archives = await open();
    const one = blob();
    await take(archives, one);
    assert.deepEqual(await bytesOf(archives, one.digest), one.bytes);
    const path = join(directory, one.digest.slice(0, 2), `${one.digest}.tar.gz`);
    await writeFile(path, randomBytes(1000));
    const answers = await Promise.all([0, 500].map((offset) => failureOf(bytesOf(archives, one.digest, offset))));
    assert.deepEqual(
      answers.map(({ reason }) => reason),
      ['ARTIFACT_DAMAGED', 'ARTIFACT_DAMAGED'],
    );
    assert.deepEqual(archives.uploaded(one.digest), { offset: 0, complete: false });
    await take(archives, one);
    assert.deepEqual(await bytesOf(archives, one.digest), one.bytes);
    await rm(path);
    assert.equal((await failureOf(bytesOf(archives, one.digest))).reason, 'ARTIFACT_MISSING');
  });

  it('are sent so many at once', async (t) => {
    const { open } = await place(t);
    const archives = await open();
    const one = blob(200_000);
    await take(archives, one);
    const fetches = Array.from({ length: FETCHES_MAX }, () => archives.read(one.digest, 0));
    for (const fetch of fetches) await fetch.next();
    assert.equal((await failureOf(bytesOf(archives, one.digest))).reason, 'FETCHES_MAX');
    for (const fetch of fetches) await fetch.return(undefined);
    assert.deepEqual(await bytesOf(archives, one.digest), one.bytes);
  });

  it('are not mistaken for other files', async (t) => {
    const { directory, open } = await place(t);
    const archives = await open();
    const one = blob();
    await take(archives, one);
    const folder = join(directory, one.digest.slice(0, 2));
    await writeFile(join(folder, 'notes.txt'), '');
    await writeFile(join(folder, `${'0'.repeat(64)}x.tar.gz`), '');
    await writeFile(join(directory, 'README'), '');
    assert.deepEqual((await open()).digests(), [one.digest]);
  });
});
