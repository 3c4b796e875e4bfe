import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFile, link, readdir, readFile, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { isCode } from '../../../../../src/kit/errors.js';
import { HIT_BYTES_MAX, type LogHit, type LogSearch } from '../../../../../src/model/log-search.js';
import { ANY_SEARCH, searchBench } from '../../../../support/searching.js';

const shown = ({ file, line, text }: LogHit): string => `${file}:${line}:${text}`;

describe('what a search finds', () => {
  it('is in all logs and rotated files, compressed ones too, the oldest lines of each first', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log.000001', 'a x 1\nb\n');
    execFileSync('gzip', [join(b.root, 'app.log.000001')]);
    await b.write('app.log.000002', 'c\nd x 2\n');
    await b.write('app.log', '[muster: earlier lines are in app.log.000002]   \ne x 3\nf\ng x 4');
    await b.write('other.log', 'h x 5\n');
    await b.write('sub/deep.log', 'i x 6\n');
    await b.write('secret.txt', 'j x 7\n');
    const { hits, report } = await b.find({});
    assert.deepEqual(hits.map(shown), [
      'app.log.000001.gz:1:a x 1',
      'app.log.000002:2:d x 2',
      'app.log:2:e x 3',
      'app.log:4:g x 4',
      'other.log:1:h x 5',
      'sub/deep.log:1:i x 6',
    ]);
    assert.deepEqual([report.files, report.filesTotal, report.hits], [5, 5, 6]);
    assert.deepEqual([report.limits, report.problems], [[], []]);
    assert.equal(report.bytes, 8 + 8 + 13 + 6 + 6);
    const one = await b.find({ file: 'other.log' });
    assert.deepEqual(one.hits.map(shown), ['other.log:1:h x 5']);
  });

  it('ends when there is enough, though the search of the next file has already ended', async (t) => {
    const b = await searchBench(t);
    for (const number of [1, 2, 3]) {
      await b.write(`app.log.00000${number}`, 'x\n'.repeat(3000));
      execFileSync('gzip', [join(b.root, `app.log.00000${number}`)]);
    }
    for (let round = 0; round < 5; round += 1) {
      const { hits, report } = await b.find({ linesMax: 3 });
      assert.equal(hits.length, 3);
      assert.deepEqual(report.limits, ['LINES']);
    }
  });

  it('does not include the line that only says where earlier lines are', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', '[muster: earlier lines are in app.log.000001]\nmuster x\n');
    assert.deepEqual((await b.find({ pattern: 'muster' })).hits.map(shown), ['app.log:2:muster x']);
  });

  it('is literal by default, and follows case and regular expressions where asked to', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', 'a.c\nabc\nÄRGER\n-e -v\n$(touch /tmp/x) `id`\n');
    const texts = async (search: Partial<LogSearch>): Promise<string[]> =>
      (await b.find(search)).hits.map(({ text }) => text);
    assert.deepEqual(await texts({ pattern: 'a.c' }), ['a.c']);
    assert.deepEqual(await texts({ pattern: 'a.c', regex: true }), ['a.c', 'abc']);
    assert.deepEqual(await texts({ pattern: '^ab?c|\\.c$', regex: true }), ['a.c', 'abc']);
    assert.deepEqual(await texts({ pattern: 'ABC', ignoreCase: true }), ['abc']);
    assert.deepEqual(await texts({ pattern: 'ärger', ignoreCase: true }), ['ÄRGER']);
    assert.deepEqual(await texts({ pattern: '.RGER', regex: true }), ['ÄRGER']);
    assert.deepEqual(await texts({ pattern: '-e -v' }), ['-e -v']);
    assert.deepEqual(await texts({ pattern: '$(touch /tmp/x) `id`' }), ['$(touch /tmp/x) `id`']);
  });

  it('comes with the lines around it, and says where lines are left out', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', ['1', '2', 'x3', '4', '5', 'x6', '7', '8', '9', '10', 'x11'].join('\n'));
    const { hits, report } = await b.find({ before: 1, after: 1 });
    const marked = hits.map(({ text, context, separate }) => `${separate ? '-- ' : ''}${text}${context ? '' : '!'}`);
    assert.deepEqual(marked, ['-- 2', 'x3!', '4', '5', 'x6!', '7', '-- 10', 'x11!']);
    assert.equal(report.hits, 3);
  });

  it('is cut to so much of a line, and passes control characters through', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', `x${'é'.repeat(HIT_BYTES_MAX)}\nx\u001b[31m\u202e\u0000end\n`);
    await appendFile(join(b.root, 'app.log'), Buffer.from([0x78, 0xff, 0x0a]));
    const [long, control, invalid] = (await b.find({})).hits;
    assert.ok(long?.truncated);
    assert.equal(Buffer.byteLength(long.text), HIT_BYTES_MAX - 1);
    assert.ok(!long.text.includes('\ufffd'));
    assert.deepEqual([control?.text, control?.truncated], ['x\u001b[31m\u202e\u0000end', false]);
    assert.equal(invalid?.text, 'x\ufffd');
  });

  it('says when lines were written, and by which version', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', '2026-11-23T11:00:00Z x\nx no time\n2026-11-23T13:00:00Z x\n');
    const { hits, report } = await b.find({});
    const [early, none, late] = hits;
    assert.deepEqual([early?.timeMs, early?.release], [Date.UTC(2026, 10, 23, 11), '1.0.0']);
    assert.deepEqual([none?.timeMs, none?.release], [undefined, '']);
    assert.deepEqual([late?.timeMs, late?.release], [Date.UTC(2026, 10, 23, 13), '2.0.0']);
    assert.deepEqual([report.firstMs, report.lastMs], [early?.timeMs, late?.timeMs]);
  });
});

describe('the limits of a search', () => {
  it('end it at the number of lines, and only where there are more', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', 'x 1\nx 2\nx 3\ntail\n');
    const cut = await b.find({ linesMax: 2, after: 1 });
    assert.deepEqual([cut.hits.map(({ text }) => text), cut.report.limits], [['x 1', 'x 2'], ['LINES']]);
    const whole = await b.find({ linesMax: 3, after: 1 });
    assert.deepEqual([whole.hits.length, whole.report.limits, whole.report.hits], [4, [], 3]);
  });

  it('prefer the newest bytes, and say what was left out', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log.000001', 'x oldest\n'.repeat(10), 1_000_000);
    await b.write(
      'app.log.000002',
      Array.from({ length: 10 }, (_, index) => `x middle ${index}\n`).join(''),
      2_000_000,
    );
    await b.write('app.log', 'x newest\n', 3_000_000);
    const { hits, report } = await b.find({ bytesMax: 9 + 30 });
    assert.deepEqual(hits.map(shown), [
      'app.log.000002:9:x middle 8',
      'app.log.000002:10:x middle 9',
      'app.log:1:x newest',
    ]);
    assert.deepEqual(report.limits, ['BYTES']);
    assert.match(report.problems.join(), /older lines, in app\.log\.000001, app\.log\.000002, were left out/);
    assert.deepEqual([report.files, report.filesTotal], [1, 3]);
  });

  it('hold a pattern that never ends in its processor time', async (t) => {
    const b = await searchBench(t);
    let state = 1;
    const bit = (): string => ((state = (state * 48_271) % 2_147_483_647) & 8192 ? 'a' : 'b');
    await b.write('app.log', `${Array.from({ length: 20_000 }, bit).join('')}\n`.repeat(2000));
    const startedMs = performance.now();
    const { report } = await b.find({ pattern: '(a|b)*a(a|b){200}(c|(a|b){200}d)', regex: true, cpuMs: 1000 });
    assert.deepEqual(report.limits, ['CPU'], JSON.stringify(report));
    assert.match(report.problems.join(), /stopped after 1s of processor time, in app\.log/);
    assert.ok(performance.now() - startedMs < 20_000);
    assert.equal(report.files, 0);
  });

  it('refuse a pattern before anything is searched, in the words of grep', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', 'x\n');
    const refused = (pattern: string, text: RegExp): Promise<void> =>
      assert.rejects(b.find({ pattern, regex: true }), (error) => isCode(error, 'invalid') && text.test(error.message));
    await refused('a(b', /cannot be searched for: grep: Unmatched \( or \\\(/);
    await refused('[z-a]', /Invalid range end/);
    await refused('(((a{1,200}){1,200}){1,200})', /takes more memory than a search may use/);
  });

  it('end a search in a line without an end, and go on with the next file', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', '');
    await truncate(join(b.root, 'app.log'), 400 * 1024 * 1024);
    await b.write('other.log', 'x\n');
    const { hits, report } = await b.find({});
    assert.deepEqual(hits.map(shown), ['other.log:1:x']);
    assert.deepEqual(report.limits, ['PROBLEM']);
    assert.match(report.problems.join(), /app\.log was searched in part only: 256 MiB of memory were not enough/);
  });
});

describe('the files of a search', () => {
  it('are only plain files in the log directory', async (t) => {
    const b = await searchBench(t);
    await writeFile(join(b.root, '..', 'outside'), 'x outside\n');
    await symlink(join(b.root, '..', 'outside'), join(b.root, 'link.log'));
    await link(join(b.root, '..', 'outside'), join(b.root, 'hard.log'));
    execFileSync('sh', ['-c', 'mkfifo "$1"', 'sh', join(b.root, 'fifo.log')]);
    await b.write('app.log', 'x inside\n');
    const { hits, report } = await b.find({});
    assert.deepEqual(hits.map(shown), ['app.log:1:x inside']);
    assert.match(report.problems.join(), /hard\.log was not searched: .*has more than one name/);
    for (const file of ['../outside', '/etc/passwd', 'sub/../app.log', 'link.log/../app.log', 'secret.txt'])
      await assert.rejects(b.find({ file }), (error) => isCode(error, 'not_found', 'invalid'), file);
    for (const file of ['link.log', 'fifo.log', 'hard.log']) {
      const refused = await b.find({ file });
      assert.deepEqual([refused.hits, refused.report.limits], [[], ['PROBLEM']], file);
    }
  });

  it('that are damaged are searched as far as they can be', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log.000001', 'x\n'.repeat(100));
    execFileSync('gzip', [join(b.root, 'app.log.000001')]);
    const whole = await readFile(join(b.root, 'app.log.000001.gz'));
    await writeFile(join(b.root, 'app.log.000001.gz'), whole.subarray(0, whole.length - 9));
    await b.write('app.log', 'x live\n');
    const { hits, report } = await b.find({});
    assert.equal(hits.at(-1)?.text, 'x live');
    assert.deepEqual(report.limits, ['PROBLEM']);
    assert.match(report.problems.join(), /app\.log\.000001\.gz was searched in part only: it is damaged: /);
  });

  it('that are compressed are opened whatever they say of their length', async (t) => {
    const b = await searchBench(t);
    const packed = (text: string): Buffer => gzipSync(Buffer.from(text));
    const put = (name: string, ...parts: Buffer[]): Promise<void> =>
      writeFile(join(b.root, name), Buffer.concat(parts));
    const lines = Array.from({ length: 1000 }, (_, index) => `2026-05-01T12:00:00Z x ${index}\n`).join('');
    const zeros = Buffer.alloc(4);
    await put('a.log.000001.gz', packed(lines), zeros);
    await put('b.log.000001.gz', packed('2026-05-01T12:00:00Z x one\n'), packed('y\n'), packed(''));
    await put('c.log.000001.gz', packed(lines).subarray(0, -4), zeros);
    await put('d.log.000001.gz');
    await put('e.log.000001.gz', packed(''));
    const all = await b.find({ linesMax: 100_000 });
    assert.equal(all.hits.length, 2001);
    const damaged = [
      /^c\.log\.000001\.gz was searched in part only: it is damaged/,
      /^d\.log\.000001\.gz was searched in/,
    ];
    assert.deepEqual([all.report.files, all.report.filesTotal, all.report.limits], [3, 5, ['PROBLEM']]);
    assert.equal(all.report.problems.length, damaged.length);
    for (const [index, problem] of damaged.entries()) assert.match(all.report.problems[index] ?? '', problem);
    const span = await b.find({ linesMax: 100_000, sinceMs: Date.UTC(2026, 4, 1, 11, 59) });
    assert.equal(span.hits.length, 1001);
    assert.match(span.report.problems.join(), /c\.log\.000001\.gz was not searched: it cannot be decompressed/);
    assert.match(span.report.problems.join(), /d\.log\.000001\.gz was not searched: it cannot be decompressed/);
  });

  it('that are emptied while they are searched are not taken for searched ones', async (t) => {
    const b = await searchBench(t);
    await b.write('a.log', 'x first\n');
    await b.write('b.log.000001', 'x rotated\n'.repeat(1000));
    await b.write('b.log', 'x live\n'.repeat(1000));
    // With an expression no grep starts before its turn.
    const running = await b.logs.search('app', { ...ANY_SEARCH, regex: true });
    const hits: LogHit[] = [];
    for await (const batch of running.hits(new AbortController().signal)) {
      if (hits.length === 0) {
        await truncate(join(b.root, 'b.log.000001'));
        await truncate(join(b.root, 'b.log'));
        await appendFile(join(b.root, 'b.log'), 'x new\n');
      }
      hits.push(...batch);
    }
    const { files, filesTotal, limits, problems, bytes } = running.report();
    assert.equal(hits[0]?.text, 'x first');
    assert.deepEqual([files, filesTotal, limits], [1, 3, ['PROBLEM']]);
    assert.deepEqual(problems, [
      'b.log.000001 was emptied while it was searched',
      'b.log was emptied while it was searched',
    ]);
    assert.ok(bytes < 100, `${bytes} bytes are said to have been read`);
  });

  it('that are emptied before a part of them is searched do not end the search', async (t) => {
    const b = await searchBench(t);
    await b.write('a.log', 'x first\n', Date.UTC(2030, 0, 1));
    await b.write('b.log', 'x live\n'.repeat(1000), Date.UTC(2029, 0, 1));
    const running = await b.logs.search('app', { ...ANY_SEARCH, regex: true, bytesMax: 1000 });
    let hits = 0;
    for await (const batch of running.hits(new AbortController().signal)) {
      if (hits === 0) await truncate(join(b.root, 'b.log'));
      hits += batch.length;
    }
    const { files, limits, problems } = running.report();
    assert.deepEqual([hits, files, limits], [1, 1, ['BYTES', 'PROBLEM']]);
    assert.match(problems.join(), /b\.log was not searched: b\.log was emptied while it was being read/);
  });

  it('may be none', async (t) => {
    const b = await searchBench(t);
    assert.deepEqual((await b.find({})).report.filesTotal, 0);
    const elsewhere = await searchBench(t, { elsewhere: 'its init script app decides where it prints to' });
    await assert.rejects(
      elsewhere.find({}),
      (error) => isCode(error, 'not_found') && /has no log files here/.test(error.message),
    );
  });
});

describe('who leaves a search', () => {
  it('ends its processes and closes its files', async (t) => {
    const b = await searchBench(t);
    await b.write('app.log', 'x\n'.repeat(500_000));
    const before = (await readdir('/proc/self/fd')).length;
    for (const leave of ['abort', 'return'] as const) {
      const controller = new AbortController();
      const running = await b.logs.search('app', { ...ANY_SEARCH, linesMax: 100_000 });
      for await (const batch of running.hits(controller.signal)) {
        assert.ok(batch.length > 0);
        if (leave === 'return') break;
        controller.abort();
      }
      assert.deepEqual(running.report().limits, ['CANCELLED'], leave);
    }
    assert.equal((await readdir('/proc/self/fd')).length, before);
    assert.deepEqual(childrenOf(process.pid), []);
  });
});

function childrenOf(pid: number): string[] {
  try {
    return execFileSync('pgrep', ['-P', String(pid), '-a', 'nice|sh|grep'], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line !== '' && !line.includes('pgrep'));
  } catch {
    return [];
  }
}
