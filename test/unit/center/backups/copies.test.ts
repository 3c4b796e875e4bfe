import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  BackupCopies,
  COPIES_FLOOR_BYTES,
  COPY_BYTES_MAX,
  COPY_UPLOADS_MAX,
  ASIDE_KEPT_MS,
  type CopyOrder,
} from '../../../../src/center/backups/copies.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode, type Code } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';

const CONTENT = randomBytes(200_000);
const ORDER: CopyOrder = {
  machine: 'm1',
  backup: 'b1',
  digest: createHash('sha256').update(CONTENT).digest('hex'),
  sizeBytes: CONTENT.length,
};

async function* pieces(content = CONTENT): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += 30_000) {
    await Promise.resolve();
    yield content.subarray(at, at + 30_000);
  }
}

interface World {
  readonly directory: string;
  readonly clock: ManualClock;
  readonly copies: BackupCopies;
  readonly open: () => Promise<BackupCopies>;
  readonly files: () => Promise<string[]>;
}

async function world(t: TestContext, free = 1e12): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-copies-'));
  t.after(() => rm(directory, { recursive: true }));
  const clock = new ManualClock(Date.now());
  const open = (): Promise<BackupCopies> =>
    BackupCopies.open({ directory, clock, logger: silentLogger, freeBytes: () => Promise.resolve(free) });
  const files = async (): Promise<string[]> =>
    (await readdir(directory, { recursive: true })).filter((name) => /\.(tar\.gz|part)$/.test(name)).sort();
  return { directory, clock, copies: await open(), open, files };
}

async function read(copies: BackupCopies, offset = 0): Promise<Buffer> {
  const found: Buffer[] = [];
  for await (const { sizeBytes, data } of copies.read('m1', 'b1', offset)) {
    assert.equal(sizeBytes, CONTENT.length);
    found.push(data);
  }
  return Buffer.concat(found);
}

const is = (code: Code) => (error: unknown) => isCode(error, code);

describe('copies of backups', () => {
  it('are given back as they were taken, also from the middle and after a start', async (t) => {
    const { copies, open, files } = await world(t);
    await copies.receive(ORDER, pieces());
    assert.deepEqual(await files(), ['m1/b1.tar.gz']);
    assert.deepEqual(await read(copies), CONTENT);
    assert.deepEqual(await read(await open(), 150_000), CONTENT.subarray(150_000));
    assert.equal((await read(copies, CONTENT.length)).length, 0);
    await assert.rejects(read(copies, CONTENT.length + 1), is('invalid'));
    await assert.rejects(copies.read('m2', 'b1', 0).next(), is('not_found'));
    await copies.remove('m1', 'b1');
    await copies.remove('m1', 'b1');
    assert.deepEqual(await files(), []);
  });

  it('are kept only where they are what was announced', async (t) => {
    const { copies, files } = await world(t);
    const other = Buffer.from(CONTENT);
    other[100_000] = (other[100_000] ?? 0) + 1;
    await assert.rejects(copies.receive(ORDER, pieces(other)), is('data_loss'));
    await assert.rejects(copies.receive(ORDER, pieces(CONTENT.subarray(1))), is('invalid'));
    await assert.rejects(copies.receive(ORDER, pieces(Buffer.concat([CONTENT, CONTENT]))), is('invalid'));
    for (const sizeBytes of [0, -1, Number.NaN]) {
      await assert.rejects(copies.receive({ ...ORDER, sizeBytes }, pieces()), is('invalid'));
    }
    await assert.rejects(copies.receive({ ...ORDER, sizeBytes: COPY_BYTES_MAX + 1 }, pieces()), is('exhausted'));
    const broken = async function* (): AsyncGenerator<Uint8Array> {
      yield* pieces(CONTENT.subarray(0, 60_000));
      throw new Error('gone');
    };
    await assert.rejects(copies.receive(ORDER, broken()), /gone/);
    assert.deepEqual(await files(), []);
    await copies.receive(ORDER, pieces());
    await assert.rejects(copies.receive(ORDER, pieces(other)), is('data_loss'));
    assert.deepEqual(await read(copies), CONTENT, 'the one that was whole is lost');
  });

  it('are refused where the disk has no room for them, or too many come at once', async (t) => {
    const full = await world(t, COPIES_FLOOR_BYTES + CONTENT.length - 1);
    await assert.rejects(full.copies.receive(ORDER, pieces()), is('exhausted'));
    const { copies } = await world(t);
    const ending = new AbortController();
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      yield CONTENT.subarray(0, 10);
      ending.signal.throwIfAborted();
      await new Promise((_resolve, reject) => {
        ending.signal.addEventListener('abort', () => {
          reject(new Error('ended'));
        });
      });
    };
    const under = Array.from({ length: COPY_UPLOADS_MAX }, (_, at) =>
      copies.receive({ ...ORDER, backup: `s${at}` }, slow()),
    );
    const ended = Promise.allSettled(under);
    await assert.rejects(copies.receive(ORDER, pieces()), is('exhausted'));
    ending.abort();
    await ended;
    await copies.receive(ORDER, pieces());
  });

  it('that were on their way when the center ended are gone', async (t) => {
    const { copies, directory, open, files } = await world(t);
    await copies.receive(ORDER, pieces());
    await writeFile(join(directory, 'm1/b2.part'), 'half');
    await open();
    assert.deepEqual(await files(), ['m1/b1.tar.gz']);
  });

  it('of backups that nobody knows are put aside, when that was so twice', async (t) => {
    const { copies, files } = await world(t);
    await copies.receive(ORDER, pieces());
    await copies.collect(() => false);
    await copies.collect(() => true);
    await copies.collect(() => false);
    assert.deepEqual(await files(), ['m1/b1.tar.gz']);
    await copies.collect(() => false);
    assert.deepEqual(await files(), ['removed/m1/b1.tar.gz']);
    await copies.setAside('m1', 'b1');
  });

  it('of a machine that was removed are kept aside for thirty days', async (t) => {
    const { copies, clock, directory, files } = await world(t);
    await copies.receive(ORDER, pieces());
    await copies.machineRemoved('m1');
    await copies.machineRemoved('m1');
    assert.deepEqual(await readFile(join(directory, 'removed/m1/b1.tar.gz')), CONTENT);
    await clock.advance(ASIDE_KEPT_MS - 60_000);
    await copies.collect(() => false);
    assert.deepEqual(await files(), ['removed/m1/b1.tar.gz']);
    await clock.advance(120_000);
    await copies.collect(() => false);
    assert.deepEqual(await files(), []);
  });
});
