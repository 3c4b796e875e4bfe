import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { verifyTree } from '../../../src/archive/tree.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freshSeed, seededRandom, type Random } from '../../../src/kit/random.js';
import type { Backup } from '../../../src/model/backup.js';
import { temporaryData } from '../../support/linked-agent.js';
import { programArgs } from '../../support/program.js';

const HOST = join(import.meta.dirname, '../../support/backups-host');
const KILLS = Number(process.env['MUSTER_BACKUP_KILLS'] ?? 2);
const PATHS = Array.from({ length: 40 }, (_, index) => `p${index}`);
const SECTIONS = `backup: { paths: [${PATHS.join(', ')}], keep: { last: 3 } }`;

/** Writes every file of the service with this content. */
async function fill(data: string, content: string): Promise<void> {
  for (const path of PATHS) {
    const directory = join(data, 'services/orders/shared', path);
    await mkdir(directory, { recursive: true });
    for (const name of ['a', 'b', 'c']) await writeFile(join(directory, name), content.repeat(2000));
  }
}

/** What the files of the service hold, each content once. */
async function contents(data: string): Promise<string[]> {
  const found = new Set<string>();
  for (const path of PATHS) {
    const directory = join(data, 'services/orders/shared', path);
    assert.deepEqual((await readdir(directory)).sort(), ['a', 'b', 'c']);
    for (const name of ['a', 'b', 'c']) {
      const text = await readFile(join(directory, name), 'utf8');
      assert.equal(text.length % 2000, 0, 'a file is not whole');
      found.add(text.slice(0, text.length / 2000));
    }
  }
  return [...found];
}

interface Ended {
  readonly left: readonly Backup[];
  readonly end: { readonly outcome?: string; readonly status?: string } | undefined;
}

/** Starts the host; kills it so long after it has said what was left, unless it ends before. */
async function host(data: string, what: 'look' | 'backup' | 'restore', killAfterMs = Infinity): Promise<Ended> {
  const child = spawn(process.execPath, programArgs(HOST, data, SECTIONS, what), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  const documents: unknown[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    documents.push(JSON.parse(line));
    if (documents.length === 1 && killAfterMs < Infinity) {
      void sleep(systemClock, killAfterMs).then(() => child.kill('SIGKILL'));
    }
  }
  await closed;
  const [left, end] = documents as [{ readonly list: readonly Backup[] } | undefined, Ended['end']];
  assert.ok(left, 'the host did not start');
  return { left: left.list, end };
}

/** Every backup that is said to be whole is, and there is nothing else. */
async function check(data: string, backups: readonly Backup[]): Promise<number> {
  const directory = join(data, 'backups/orders');
  const names = await readdir(directory).catch(() => []);
  const whole = backups.filter(({ status }) => status === 'OK');
  assert.deepEqual(names.sort(), whole.map(({ id }) => `${id}.tar.gz`).sort());
  for (const { id, digest, files } of whole) {
    const verified = await verifyTree(join(directory, `${id}.tar.gz`), { digest });
    assert.deepEqual(verified.problems, []);
    assert.equal(verified.files, files);
  }
  for (const { status, problems } of backups.filter((backup) => !whole.includes(backup))) {
    assert.equal(status, 'ERROR');
    assert.match(problems[0] ?? '', /the agent ended while it was made/);
  }
  return whole.length;
}

function seeded(t: TestContext): Random {
  const seed = Number(process.env['MUSTER_SEED'] ?? freshSeed());
  t.diagnostic(`seed ${seed}`);
  return seededRandom(seed);
}

describe('an agent that is killed', () => {
  it('counts no half backup, at any instant', async (t) => {
    const random = seeded(t);
    const data = await temporaryData(t);
    await fill(data, 'x');
    const startedMs = systemClock.monotonic();
    assert.equal((await host(data, 'backup')).end?.status, 'OK');
    const longestMs = Math.min(systemClock.monotonic() - startedMs, 1500);
    for (let kill = 0; kill < KILLS; kill += 1) {
      await host(data, 'backup', random.next() * longestMs);
      const { left } = await host(data, 'look');
      assert.ok((await check(data, left)) >= 1);
    }
  });

  it('leaves the old or the restored files, never some of both, at any instant', async (t) => {
    const random = seeded(t);
    const data = await temporaryData(t);
    await fill(data, 'restored');
    assert.equal((await host(data, 'backup')).end?.status, 'OK');
    await fill(data, 'before');
    const startedMs = systemClock.monotonic();
    assert.equal((await host(data, 'restore')).end?.outcome, 'SUCCEEDED');
    const longestMs = Math.min(systemClock.monotonic() - startedMs, 2000);
    const seen = new Set<string>();
    for (let kill = 0; kill < KILLS; kill += 1) {
      await fill(data, 'before');
      await host(data, 'restore', random.next() * longestMs);
      await host(data, 'look');
      const found = await contents(data);
      assert.equal(found.length, 1, `some of both: ${found.join(', ')}`);
      seen.add(found[0] ?? '');
      const rest = (await readdir(join(data, 'services/orders'))).filter((name) => name.startsWith('.restore'));
      assert.deepEqual(rest, []);
    }
    t.diagnostic(`seen: ${[...seen].join(', ')}`);
  });
});
