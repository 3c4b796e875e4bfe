import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { LoggedService } from '../../../src/agent/logs/files.js';
import { Logs, type LogsOptions } from '../../../src/agent/logs/logs.js';
import { parseRotated } from '../../../src/agent/logs/names.js';
import type { LogText } from '../../../src/agent/logs/batches.js';
import type { TailOptions } from '../../../src/agent/logs/tail.js';
import { systemClock } from '../../../src/kit/clock.js';
import { isCode } from '../../../src/kit/errors.js';
import { createLogger } from '../../../src/kit/logger.js';
import { freshSeed, randomBetween, seededRandom } from '../../../src/kit/random.js';
import { waitFor } from '../../support/waiting.js';
import { programArgs } from '../../support/program.js';

const LOGS_HOST = join(import.meta.dirname, '../../support/logs-host');
const KIB = 1024;
const ROUNDS = Number(process.env['TAIL_ROUNDS'] ?? 12);

const lineOf = (number: number): string => `${number} ${'x'.repeat((number * 7919) % 190)}`;

/** A service's log directory that the test writes to. */
class Bench {
  readonly data: string;
  readonly root: string;
  readonly logged: LoggedService;
  readonly more: Partial<LogsOptions>;
  written = 0;

  constructor(data: string, keep: number, more: Partial<LogsOptions>) {
    this.data = data;
    this.root = join(data, 'logs', 'loud');
    this.more = more;
    const logs = { files: ['*.log', 'sub/*.log'], maxSizeBytes: 64 * KIB, keep, maxAgeMs: 1e12 };
    this.logged = { service: 'loud', root: this.root, logs };
  }

  static async make(t: TestContext, keep = 1000, more: Partial<LogsOptions> = {}): Promise<Bench> {
    const data = await mkdtemp(join(tmpdir(), 'muster-tail-'));
    t.after(() => rm(data, { recursive: true, force: true }));
    const bench = new Bench(data, keep, more);
    await mkdir(bench.root, { recursive: true });
    return bench;
  }

  get live(): string {
    return join(this.root, 'loud.log');
  }

  /** The logs as another agent would open them. */
  open(): Logs {
    const { data, logged, more } = this;
    const logger = createLogger('silent');
    return new Logs({ dataDirectory: data, services: () => [logged], clock: systemClock, logger, ...more });
  }

  async write(count: number): Promise<void> {
    const lines = Array.from({ length: count }, (_, index) => `${lineOf(this.written + index)}\n`);
    await appendFile(this.live, lines.join(''));
    this.written += count;
  }

  async rotated(): Promise<string[]> {
    return (await readdir(this.root)).filter((name) => parseRotated(name)).sort();
  }
}

/** Reads so many lines, or to the end without `count`. */
async function read(logs: Logs, options: Partial<TailOptions>, count = Infinity): Promise<LogText[]> {
  const found: LogText[] = [];
  const how = { lines: 10, follow: Number.isFinite(count), ...options };
  for await (const text of logs.tail('loud', how, new AbortController().signal)) {
    found.push(text);
    if (found.length === count) break;
  }
  return found;
}

const numbersOf = (texts: readonly LogText[]): number[] =>
  texts.filter(({ notice }) => !notice).map(({ text }) => Number(text.split(' ')[0]));
const noticesOf = (texts: readonly LogText[]): string[] => texts.filter(({ notice }) => notice).map(({ text }) => text);
const upTo = (from: number, until: number): number[] =>
  Array.from({ length: until - from }, (_, index) => from + index);
const last = (texts: readonly LogText[]): string => texts.findLast(({ position }) => position !== '')?.position ?? '';

describe('a position', () => {
  for (const collapse of [true, false]) {
    const way = collapse ? 'cut from the front' : 'copied and truncated';
    it(`goes on in the next agent behind its line, whatever was rotated and compressed since: ${way}`, async (t) => {
      const seed = freshSeed();
      t.diagnostic(`seed ${seed}`);
      const random = seededRandom(seed);
      const bench = await Bench.make(t, 1000, { collapse });
      await bench.write(20);
      let position = last(await read(bench.open(), { lines: 20 }));
      let next = 20;
      for (let round = 0; round < ROUNDS; round += 1) {
        const logs = bench.open();
        for (let look = randomBetween(random, 0, 4); look > 0; look -= 1) {
          await bench.write(randomBetween(random, 0, 1500));
          await logs.check();
        }
        await bench.write(randomBetween(random, 0, 30));
        const wanted = randomBetween(random, 0, bench.written - next + 1);
        const texts = wanted === 0 ? [] : await read(bench.open(), { position }, wanted);
        assert.deepEqual(
          texts.map(({ text }) => text),
          upTo(next, next + wanted).map(lineOf),
          `round ${round}`,
        );
        position = last(texts) || position;
        next += wanted;
      }
      const rest = await read(bench.open(), { position });
      assert.deepEqual(numbersOf(rest), upTo(next, bench.written));
      assert.deepEqual(noticesOf(rest), []);
      assert.ok((await bench.rotated()).length > 3);
      assert.deepEqual(await read(bench.open(), { position: last(rest) || position }), []);
    });
  }

  it('goes on when the agent was killed at any moment of a rotation', { timeout: 120_000 }, async (t) => {
    const seed = freshSeed();
    t.diagnostic(`seed ${seed}`);
    const random = seededRandom(seed);
    const bench = await Bench.make(t);
    await bench.write(10);
    let position = last(await read(bench.open(), {}));
    let next = 10;
    for (let round = 0; round < ROUNDS; round += 1) {
      const host = spawn(process.execPath, programArgs(LOGS_HOST, bench.data, String(64 * KIB)), {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      t.after(() => host.kill('SIGKILL'));
      const before = (await bench.rotated()).length;
      await waitFor('a rotation', async () => {
        await bench.write(400);
        return (await bench.rotated()).length > before;
      });
      for (let writes = randomBetween(random, 0, 12); writes > 0; writes -= 1) await bench.write(400);
      host.kill('SIGKILL');
      await once(host, 'close');
      const texts = await read(bench.open(), { position });
      assert.deepEqual(noticesOf(texts), []);
      assert.deepEqual(numbersOf(texts), upTo(next, bench.written), `round ${round}`);
      next = bench.written;
      position = last(texts);
    }
  });

  it('says which rotated files cannot be had any more, and goes on with the oldest there is', async (t) => {
    const bench = await Bench.make(t, 2);
    await bench.write(10);
    const logs = bench.open();
    const position = last(await read(logs, {}));
    for (let round = 0; round < 6; round += 1) {
      await bench.write(900);
      await logs.check();
    }
    const texts = await read(bench.open(), { position });
    const [notice, ...others] = noticesOf(texts);
    assert.match(
      notice ?? '',
      /^lines were left out here: loud\.log\.000001 to loud\.log\.00000\d \(\d+ bytes\) cannot be had any more$/,
    );
    assert.deepEqual(others, []);
    assert.equal(texts[0]?.notice, true);
    const [first = 0] = numbersOf(texts);
    assert.ok(first > 1000);
    assert.deepEqual(numbersOf(texts), upTo(first, bench.written));
    assert.equal((await bench.rotated()).length, 2);
  });

  it('knows that all rotated files were removed, and numbers go on', async (t) => {
    const bench = await Bench.make(t);
    await bench.write(900);
    const logs = bench.open();
    await logs.check();
    const position = last(await read(logs, {}));
    await bench.write(900);
    await logs.check();
    for (const name of await bench.rotated()) await rm(join(bench.root, name));
    await bench.write(900);
    await bench.open().check();
    assert.deepEqual(await bench.rotated(), ['loud.log.000003']);
    const texts = await read(bench.open(), { position });
    assert.match(texts[0]?.text ?? '', /loud\.log\.000002 \(\d+ bytes\)/);
    assert.deepEqual(numbersOf(texts), upTo(numbersOf(texts)[0] ?? 0, 2700));
  });

  it('in a log that was emptied, or refilled, or replaced meanwhile is told so, and no line is left out or repeated', async (t) => {
    const bench = await Bench.make(t);
    await bench.write(500);
    let position = last(await read(bench.open(), {}));
    await truncate(bench.live, 0);
    await bench.write(100);
    let texts = await read(bench.open(), { position });
    assert.match(noticesOf(texts).join(), /the log was emptied here/);
    assert.deepEqual(numbersOf(texts), upTo(500, 600));
    position = last(texts);
    // Longer than before: only what is before the place tells.
    await truncate(bench.live, 0);
    await bench.write(1000);
    texts = await read(bench.open(), { position });
    assert.match(noticesOf(texts).join(), /the log was emptied here/);
    assert.deepEqual(numbersOf(texts), upTo(600, 1600));
    position = last(texts);
    // Replaced, and the earlier one is there under another name.
    await bench.write(10);
    await rename(bench.live, join(bench.root, 'loud.log.1'));
    await bench.write(10);
    texts = await read(bench.open(), { position });
    assert.deepEqual(noticesOf(texts), []);
    assert.deepEqual(numbersOf(texts), upTo(1600, 1620));
    position = last(texts);
    // Replaced, and the earlier one is gone.
    await bench.write(10);
    await rename(bench.live, join(bench.data, 'gone'));
    await bench.write(10);
    texts = await read(bench.open(), { position });
    assert.match(noticesOf(texts).join(), /the log was replaced here/);
    assert.deepEqual(numbersOf(texts), upTo(1630, 1640));
  });

  it('that is none, or of another log, is refused', async (t) => {
    const bench = await Bench.make(t);
    await bench.write(10);
    await writeFile(join(bench.root, 'other.log'), 'a line\n');
    const position = last(await read(bench.open(), {}));
    for (const wrong of [
      'x',
      'f1:',
      `${position}0000000000000000000`,
      position.replace('f1', 'f2'),
      'j1:s=1',
      '\u202e',
    ])
      await assert.rejects(read(bench.open(), { position: wrong }), (error) => isCode(error, 'invalid'), wrong);
    await assert.rejects(read(bench.open(), { position, file: 'other.log' }), (error) => isCode(error, 'invalid'));
  });
});

describe('a log by its name', () => {
  it('is one that the manifest declares, a plain file inside the directory', async (t) => {
    const bench = await Bench.make(t);
    await bench.write(1);
    await mkdir(join(bench.root, 'sub'));
    await writeFile(join(bench.root, 'sub', 'a.log'), 'below\n');
    await writeFile(join(bench.data, 'secret.log'), 'secret\n');
    await symlink(join(bench.data, 'secret.log'), join(bench.root, 'soft.log'));
    await symlink(bench.data, join(bench.root, 'door'));
    assert.deepEqual(
      (await read(bench.open(), { file: 'sub/a.log' })).map(({ text }) => text),
      ['below'],
    );
    for (const file of [
      '../../secret.log',
      '/etc/passwd',
      'data.db',
      'loud.log.000001',
      'door/secret.log',
      'sub/../../x.log',
    ])
      await assert.rejects(
        read(bench.open(), { file }),
        (error) => isCode(error, 'not_found', 'invalid', 'denied'),
        file,
      );
    await assert.rejects(read(bench.open(), { file: 'soft.log' }), (error) => isCode(error, 'denied'));
    const wide = { ...bench.logged, logs: { ...bench.logged.logs, files: ['*/*.log', '*/*/*.log'] } };
    const logs = new Logs({
      dataDirectory: bench.data,
      services: () => [wide],
      clock: systemClock,
      logger: createLogger('silent'),
    });
    for (const file of ['../../secret.log', 'door/secret.log'])
      await assert.rejects(
        read(logs, { file }),
        (error) => error instanceof Error && !/secret$/.test(error.message),
        file,
      );
  });

  it('that becomes a link while it is followed is not followed there', async (t) => {
    const bench = await Bench.make(t);
    await bench.write(3);
    await writeFile(join(bench.data, 'secret'), 'secret\n');
    const stop = new AbortController();
    const seen: string[] = [];
    const following = (async () => {
      for await (const { text } of bench.open().tail('loud', { lines: 3, follow: true }, stop.signal)) seen.push(text);
    })();
    await waitFor('its lines', () => seen.length === 3);
    await rm(bench.live);
    await symlink(join(bench.data, 'secret'), bench.live);
    await assert.rejects(following, (error) => isCode(error, 'denied'));
    assert.equal(seen.length, 3);
  });
});

describe('a follower', () => {
  it('reads on in a file that replaces the log, also when the service writes its last lines to the old one', async (t) => {
    const bench = await Bench.make(t);
    await bench.write(5);
    const stop = new AbortController();
    const seen: LogText[] = [];
    const following = (async () => {
      for await (const text of bench.open().tail('loud', { lines: 5, follow: true }, stop.signal)) seen.push(text);
    })();
    await waitFor('its lines', () => seen.length === 5);
    const old = join(bench.root, 'loud.log.old');
    await rename(bench.live, old);
    await writeFile(bench.live, '');
    await appendFile(old, `${lineOf(5)}\nnot ended`);
    await waitFor('the line of the old one', () => seen.length === 6);
    bench.written = 6;
    await bench.write(2);
    await waitFor('the lines of the new one', () => seen.length === 9);
    stop.abort();
    await following;
    assert.deepEqual(noticesOf(seen), []);
    assert.equal(seen[6]?.text, 'not ended');
    assert.deepEqual(numbersOf([...seen.slice(0, 6), ...seen.slice(7)]), upTo(0, 8));
  });

  it('that never reads holds up no rotation, no compression and no removal, and holds no removed file', async (t) => {
    const bench = await Bench.make(t, 3);
    await bench.write(700);
    const logs = bench.open();
    const stop = new AbortController();
    const tails = Array.from({ length: 4 }, () => logs.tail('loud', { lines: 1, follow: true }, stop.signal));
    for (const tail of tails) assert.equal((await tail.next()).done, false);
    const before = await openFiles();
    for (let round = 0; round < 25; round += 1) {
      await bench.write(900);
      await logs.check();
      const names = await bench.rotated();
      assert.ok(names.length <= 3, names.join());
      assert.equal(names.filter((name) => !name.endsWith('.gz')).length, 1, names.join());
      assert.ok((await stat(bench.live)).size <= 64 * KIB + 4 * KIB);
      // Half-way one of them begins a compressed file, and then rests.
      if (round === 12) for (let line = 0; line < 300; line += 1) await tails[0]?.next();
    }
    const held = await openFiles();
    assert.deepEqual(
      held.filter((path) => /deleted/.test(path)),
      [],
    );
    assert.ok(held.length <= before.length + 1, held.join());
    for (const tail of tails) await readsOn(tail, bench.written);
    stop.abort();
    for (const tail of tails) await tail.return(undefined);
    assert.equal((await readFile(bench.live)).length > 0, true);
  });
});

/** Up to the last line there is; behind what is said to be gone all lines come. */
async function readsOn(tail: AsyncGenerator<LogText>, until: number): Promise<void> {
  const texts: LogText[] = [];
  while (numbersOf(texts.slice(-1))[0] !== until - 1) {
    const next = await tail.next();
    if (next.done) assert.fail('it ended');
    texts.push(next.value);
  }
  const gap = texts.findLastIndex(({ notice }) => notice);
  assert.match(texts[gap]?.text ?? '', /cannot be had any more/);
  const rest = numbersOf(texts.slice(gap));
  assert.deepEqual(rest, upTo(rest[0] ?? 0, until), 'all that is younger');
  assert.ok(rest.length > 2000);
}

/** Files of the test's directories that this process holds open. */
async function openFiles(): Promise<string[]> {
  const links = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return links.filter((path) => path.includes('muster-tail-'));
}
