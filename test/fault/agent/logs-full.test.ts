import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import type { LoggedService } from '../../../src/agent/logs/files.js';
import { Logs, type LogsOptions } from '../../../src/agent/logs/logs.js';
import { isMark, parseRotated } from '../../../src/agent/logs/names.js';
import { systemClock } from '../../../src/kit/clock.js';
import { createLogger } from '../../../src/kit/logger.js';

const run = promisify(execFile);
const MIB = 1024 * 1024;

interface Bench {
  readonly data: string;
  readonly logged: LoggedService;
  readonly said: { readonly msg: string; readonly file?: string }[];
  readonly open: (more?: Partial<LogsOptions>) => Logs;
}

/** A service's logs on a file system of their own, of this size; undefined where none may be mounted. */
async function smallDisk(t: TestContext, bytes: number): Promise<Bench | undefined> {
  const data = await mkdtemp(join(tmpdir(), 'muster-full-'));
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'muster-test', data]);
  } catch {
    await rm(data, { recursive: true, force: true });
    t.skip('needs the right to mount a tmpfs');
    return undefined;
  }
  t.after(async () => {
    await run('umount', [data]);
    await rm(data, { recursive: true, force: true });
  });
  const root = join(data, 'logs', 'loud');
  await mkdir(root, { recursive: true });
  const said: Bench['said'][number][] = [];
  const logger = createLogger('warn', { write: (line) => void said.push(JSON.parse(line) as Bench['said'][number]) });
  const logged = { service: 'loud', root, logs: { files: [], maxSizeBytes: MIB, keep: 1000, maxAgeMs: 1e12 } };
  const open: Bench['open'] = (more = {}) =>
    new Logs({ dataDirectory: data, services: () => [logged], clock: systemClock, logger, ...more });
  return { data, logged, said, open };
}

const live = ({ logged }: Bench): string => join(logged.root, 'loud.log');

/** Numbered lines that hardly compress, about `bytes` of them. @returns the number of the next line */
async function write(b: Bench, from: number, bytes: number): Promise<number> {
  const lines: string[] = [];
  for (let left = bytes; left > 0; left -= 1000)
    lines.push(`${from + lines.length} ${randomBytes(740).toString('base64')}\n`);
  await appendFile(live(b), lines.join(''));
  return from + lines.length;
}

async function free(b: Bench): Promise<number> {
  const { bavail, bsize } = await statfs(b.data);
  return bavail * bsize;
}

async function ballast(b: Bench, leaveBytes: number): Promise<void> {
  await rm(join(b.data, 'ballast'), { force: true });
  await writeFile(join(b.data, 'ballast'), Buffer.alloc(Math.max(0, (await free(b)) - leaveBytes)));
}

async function rotated(b: Bench): Promise<string[]> {
  const found = (await readdir(b.logged.root)).flatMap((name) => parseRotated(name) ?? []);
  return found.sort((one, other) => one.number - other.number).map(({ name }) => name);
}

/** The numbers of all lines, in order. */
async function numbers(b: Bench): Promise<number[]> {
  const texts: string[] = [];
  for (const name of [...(await rotated(b)), 'loud.log']) {
    const bytes = await readFile(join(b.logged.root, name));
    texts.push((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'));
  }
  const lines = texts.join('').split('\n');
  return lines.filter((line) => line !== '' && !isMark(line)).map((line) => Number(line.split(' ')[0]));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const NO_FLOOR = { freeSpaceFloorBytes: 0 };

describe('logs on a disk that is full', () => {
  it('stay whole when there is no room to copy what is rotated, and are rotated once there is', async (t) => {
    const b = await smallDisk(t, 16 * MIB);
    if (!b) return;
    const next = await write(b, 0, 4 * MIB);
    await ballast(b, MIB / 2);
    const logs = b.open(NO_FLOOR);
    for (let look = 0; look < 3; look += 1) await logs.check();
    assert.deepEqual(await numbers(b), upTo(next));
    assert.deepEqual(await rotated(b), []);
    assert.equal(b.said.filter(({ msg }) => /could not be rotated/.test(msg)).length, 1, JSON.stringify(b.said));
    await rm(join(b.data, 'ballast'));
    await logs.check();
    assert.notDeepEqual(await rotated(b), []);
    assert.deepEqual(await numbers(b), upTo(next));
  });

  it('stay whole when the room ends between the copy and the cut, in the same agent and in the next', async (t) => {
    for (const sameAgent of [true, false]) {
      const b = await smallDisk(t, 16 * MIB);
      if (!b) return;
      const next = await write(b, 0, 5 * MIB);
      // The first 2 MiB can be copied, but not what is behind them.
      await ballast(b, 3 * MIB);
      const logs = b.open({ ...NO_FLOOR, collapse: false });
      await logs.check();
      assert.ok(
        b.said.some(({ msg }) => /could not be rotated/.test(msg)),
        JSON.stringify(b.said),
      );
      const last = await write(b, next, MIB / 8);
      await rm(join(b.data, 'ballast'));
      await (sameAgent ? logs : b.open({ ...NO_FLOOR, collapse: false })).check();
      assert.deepEqual(await numbers(b), upTo(last));
      assert.equal((await rotated(b)).length, 1);
    }
  });

  it('lose the oldest files first, each of which is said, and no more than is needed', async (t) => {
    const b = await smallDisk(t, 24 * MIB);
    if (!b) return;
    let next = 0;
    const settled = b.open(NO_FLOOR);
    for (let round = 0; round < 5; round += 1) {
      next = await write(b, next, 2 * MIB);
      await settled.check();
    }
    const before = await rotated(b);
    assert.equal(before.length, 5);
    await ballast(b, 3 * MIB);
    await b.open({ freeSpaceFloorBytes: 4 * MIB }).check();
    const after = await rotated(b);
    const gone = before.slice(0, before.length - after.length);
    assert.deepEqual([...gone, ...after], before, 'the oldest went');
    assert.ok(gone.length === 1, `${gone.length} files went`);
    assert.deepEqual(
      b.said.filter(({ msg }) => /an old log was removed/.test(msg)).map(({ file }) => file),
      gone,
    );
    const left = await numbers(b);
    assert.deepEqual(left, upTo(next).slice(-left.length), 'all that is younger is there');
    assert.ok((await free(b)) >= 4 * MIB);
  });

  it('lose the lines of the live file last, which is said in the agent log and to those who follow', async (t) => {
    const b = await smallDisk(t, 8 * MIB);
    if (!b) return;
    const next = await write(b, 0, 3 * MIB);
    await ballast(b, MIB);
    const logs = b.open({ freeSpaceFloorBytes: 2 * MIB });
    const stop = new AbortController();
    const tail = logs.tail('loud', { lines: 1, follow: true }, stop.signal);
    const first = await tail.next();
    assert.ok(!first.done && first.value.text.startsWith(`${next - 1} `));
    const calm = { ...b.logged, logs: { ...b.logged.logs, maxSizeBytes: 1e9 } };
    const roomy = b.open({ freeSpaceFloorBytes: 2 * MIB, services: () => [calm] });
    await roomy.check();
    assert.ok(b.said.some(({ msg }) => /a log was emptied|the older half of a log was dropped/.test(msg)));
    assert.ok((await free(b)) >= 2 * MIB);
    const said = await tail.next();
    assert.ok(!said.done && said.value.notice, 'who follows is told');
    stop.abort();
    await tail.return(undefined);
    const left = await numbers(b);
    assert.deepEqual(left, upTo(next).slice(next - left.length));
  });
});
