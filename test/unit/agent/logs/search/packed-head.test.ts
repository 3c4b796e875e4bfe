import assert from 'node:assert/strict';
import { mkdtemp, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { firstTimeOf, HEAD_BYTES_MAX } from '../../../../../src/agent/logs/search/packed-head.js';
import { partsOf, type LogGuard } from '../../../../../src/agent/logs/search/part.js';
import { ANY_SEARCH, searchBench } from '../../../../support/searching.js';

const LINE = '2026-05-01T12:00:00Z x\n';
const LINE_MS = Date.UTC(2026, 4, 1, 12);

async function firstOf(t: TestContext, packed: Buffer): Promise<number | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-head-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, 'x.gz'), packed);
  const file = await open(join(directory, 'x.gz'));
  try {
    return await firstTimeOf(file, LINE_MS);
  } finally {
    await file.close();
  }
}

const packed = (text: string): Buffer => gzipSync(Buffer.from(text));

describe('the first time of a compressed log', () => {
  it('is that of its first line with one', async (t) => {
    assert.equal(await firstOf(t, packed(LINE)), LINE_MS);
    assert.equal(await firstOf(t, packed(`\n\nno time\n${LINE}2027-01-01T00:00:00Z\n`)), LINE_MS);
    assert.equal(await firstOf(t, packed(LINE.trim())), LINE_MS);
    assert.equal(await firstOf(t, packed('\n'.repeat(HEAD_BYTES_MAX - LINE.length) + LINE)), LINE_MS);
    for (const none of [packed(''), packed('no time'), Buffer.alloc(0), Buffer.from('not gzip'), Buffer.alloc(100)])
      assert.equal(await firstOf(t, none), undefined);
  });

  it('is found in front of damage', async (t) => {
    const random = Array.from({ length: 5000 }, (_, index) => `${LINE}${Math.sin(index)}\n`).join('');
    const damaged = packed(random);
    damaged.fill(0xff, 4000, 5000);
    assert.equal(await firstOf(t, damaged), LINE_MS);
  });

  it('is looked for in its beginning alone, however much a few bytes unpack to', async (t) => {
    const bomb = packed('\n'.repeat(HEAD_BYTES_MAX) + LINE);
    assert.ok(bomb.length < 8 * 1024);
    assert.equal(await firstOf(t, bomb), undefined);
  });
});

describe('planning a search that is cancelled', () => {
  it('opens no more files, and closes those it has', async (t) => {
    const b = await searchBench(t);
    for (let number = 1; number <= 5; number += 1)
      await writeFile(join(b.root, `app.log.00000${number}.gz`), packed(LINE));
    await b.write('app.log', LINE);
    const controller = new AbortController();
    const guard = (signal: { aborts: boolean }): LogGuard => ({
      exclusive: (work) => work(),
      wanted: () => false,
      follow: () => () => undefined,
      copied: () => {
        if (signal.aborts) controller.abort();
        return undefined;
      },
    });
    const options = { room: 64, signal: controller.signal };
    const all = await partsOf({ root: b.root }, 'app.log', guard({ aborts: false }), options);
    assert.deepEqual([all.length, all.filter(({ late }) => late).length], [6, 0]);
    for (const slot of all) await (await slot.open())?.close();
    const none = await partsOf({ root: b.root }, 'app.log', guard({ aborts: true }), options);
    assert.deepEqual([none.length, none.filter(({ late }) => late).length], [5, 5]);
  });

  it('leaves nothing open wherever it was cancelled', async (t) => {
    const b = await searchBench(t);
    for (let number = 1; number <= 70; number += 1)
      await writeFile(join(b.root, `app.log.${String(number).padStart(6, '0')}.gz`), packed(LINE));
    await b.write('app.log', LINE);
    const before = (await readdir('/proc/self/fd')).length;
    for (let looks = 1; looks < 300; looks += 59) {
      const controller = new AbortController();
      let asked = 0;
      // A signal that aborts while it is looked at for the nth time.
      Object.defineProperty(controller.signal, 'aborted', {
        get: () => {
          asked += 1;
          return asked > looks;
        },
      });
      const running = await b.logs.search('app', { ...ANY_SEARCH, sinceMs: LINE_MS - 1000 });
      for await (const batch of running.hits(controller.signal)) assert.ok(batch.length > 0);
      assert.equal((await readdir('/proc/self/fd')).length, before, `after ${looks}`);
    }
  });
});
