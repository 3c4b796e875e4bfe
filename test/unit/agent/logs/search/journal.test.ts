import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { searchBench, type SearchBench } from '../../../../support/searching.js';

const NOON = Date.UTC(2026, 4, 23, 12);

/** A journalctl that prints these entries, one second after the other, and complains where it is told to. */
async function systemd(t: TestContext, messages: readonly unknown[], complaint = ''): Promise<SearchBench> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-journal-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const entries = messages.map((MESSAGE, index) =>
    JSON.stringify({
      __CURSOR: `s=${index.toString(16)}`,
      __REALTIME_TIMESTAMP: String((NOON + index * 1000) * 1000),
      MESSAGE,
    }),
  );
  await writeFile(join(directory, 'entries'), entries.map((entry) => `${entry}\n`).join(''));
  const program = join(directory, 'journalctl');
  const end = complaint === '' ? '' : `echo '${complaint}' >&2; exit 1`;
  await writeFile(program, `#!/bin/sh\necho "$@" > ${directory}/arguments\ncat ${directory}/entries\n${end}\n`);
  await chmod(program, 0o755);
  return searchBench(t, { unit: 'app', elsewhere: 'systemd keeps what it prints' }, [program]);
}

describe('a search in the journal of systemd', () => {
  it('finds what a unit printed, and when', async (t) => {
    const b = await systemd(t, ['one', 'x two', 'three\nx three, more', 'x four']);
    const { hits, report } = await b.find({});
    assert.deepEqual(
      hits.map(({ file, line, timeMs, text, release }) => [file, line, (timeMs ?? 0) - NOON, text, release]),
      [
        ['journal', 0, 1000, 'x two', '1.0.0'],
        ['journal', 0, 2000, 'x three, more', '1.0.0'],
        ['journal', 0, 3000, 'x four', '1.0.0'],
      ],
    );
    assert.deepEqual([report.files, report.filesTotal, report.limits], [1, 1, []]);
    assert.deepEqual([report.firstMs, report.lastMs], [NOON + 1000, NOON + 3000]);
  });

  it('comes behind the files of the service, and alone where it is named', async (t) => {
    const b = await systemd(t, ['x journal']);
    await b.write('app.log', 'x file\n');
    assert.deepEqual(
      (await b.find({})).hits.map(({ file }) => file),
      ['app.log', 'journal'],
    );
    assert.deepEqual(
      (await b.find({ file: 'journal' })).hits.map(({ file }) => file),
      ['journal'],
    );
    assert.deepEqual(
      (await b.find({ file: 'app.log' })).hits.map(({ file }) => file),
      ['app.log'],
    );
  });

  it('keeps the times of many entries, read slowly', async (t) => {
    const messages = Array.from({ length: 30_000 }, (_, index) => `${index % 3 === 0 ? 'x' : '-'} ${index}`);
    const b = await systemd(t, messages);
    const { hits } = await b.find({ linesMax: 20_000 });
    assert.equal(hits.length, 10_000);
    for (const { text, timeMs } of hits) assert.equal(timeMs, NOON + Number(text.slice(2)) * 1000);
  });

  it('ends at its limits, and says what went wrong', async (t) => {
    const many = await systemd(
      t,
      Array.from({ length: 5000 }, () => 'x'),
    );
    assert.deepEqual((await many.find({ linesMax: 10 })).report.limits, ['LINES']);
    assert.deepEqual((await many.find({ bytesMax: 100 })).report.limits, ['BYTES']);
    const broken = await systemd(t, ['x'], 'No journal files were opened due to insufficient permissions.');
    const { report } = await broken.find({});
    assert.deepEqual([report.files, report.filesTotal, report.limits], [0, 1, ['PROBLEM']]);
    assert.match(report.problems.join(), /the journal was not searched: .*insufficient permissions/);
  });
});
