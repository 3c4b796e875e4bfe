import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { AgentBackups } from '../../../src/agent/backups/backups.js';
import { CommandJournal, type CommandStatus } from '../../../src/agent/commands/journal.js';
import { CommandRunner } from '../../../src/agent/commands/runner.js';
import { verifyTree } from '../../../src/archive/tree.js';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freshSeed, seededRandom, type Random } from '../../../src/kit/random.js';
import { Slots } from '../../../src/kit/slots.js';
import type { Backup } from '../../../src/model/backup.js';
import { Documents } from '../../../src/store/documents.js';
import { openMemoryStore } from '../../../src/store/memory.js';
import type { Store } from '../../../src/store/port.js';
import { backupHost, PlayedServices } from '../../support/backups.js';
import { KilledStore } from '../../support/killed-store.js';
import { temporaryData } from '../../support/linked-agent.js';
import { programArgs } from '../../support/program.js';
import { waitFor } from '../../support/waiting.js';

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

  it('says how a restore ended, whichever of its writes it was killed at, and so does the one that goes on with it', async (t) => {
    const random = seeded(t);
    const seen = new Set<string>();
    let killed = true;
    for (let writes = 1; killed; writes += 1) {
      const world = await restorable(t);
      killed = await world.killedAt({ writes, random });
      // Killed again while it goes on, and whatever it has done then.
      await world.killedAt({ writes: 1 + Math.trunc(random.next() * 3), random, goesOn: true });
      const label = `killed at write ${writes}`;
      const { status, found } = await world.after();
      if (status === undefined) assert.equal(found, 'before', label);
      else assert.equal(found, status.outcome === 'SUCCEEDED' ? 'restored' : 'before', `${label}: ${status.message}`);
      assert.ok(['SUCCEEDED', 'FAILED', undefined].includes(status?.outcome), `${label}: ${status?.message ?? ''}`);
      seen.add(status?.outcome ?? 'not begun');
    }
    assert.ok(seen.has('FAILED') && seen.has('SUCCEEDED'), [...seen].join(', '));
  });

  it('says that it was restored, killed while the service is started again, and keeps no entry of it for ever', async (t) => {
    const random = seeded(t);
    const world = await restorable(t);
    assert.ok(await world.killedAt({ atStart: true, random }));
    const { status, found } = await world.after();
    assert.deepEqual([status?.outcome, found], ['SUCCEEDED', 'restored'], status?.message);
    assert.match(status?.message ?? '', /120 files restored to p0, /);
    assert.equal(await world.entries(), 1, 'until the command has its outcome on the disk');
    await world.acknowledge();
    await world.after();
    assert.equal(await world.entries(), 0);
  });
});

interface Kill {
  readonly writes?: number;
  /** When the service is started. */
  readonly atStart?: boolean;
  readonly random: Random;
  /** Nothing is ordered: it goes on with what was. */
  readonly goesOn?: boolean;
}

interface Restorable {
  /** Runs a process of the agent that is killed so; false: it ended before. */
  readonly killedAt: (kill: Kill) => Promise<boolean>;
  /** Runs another to its end: how the command ended, and which files are there. */
  readonly after: () => Promise<{ readonly status: CommandStatus | undefined; readonly found: string }>;
  readonly acknowledge: () => Promise<void>;
  /** Of the journal of restores. */
  readonly entries: () => Promise<number>;
}

const COMMAND = 'c-1';

/** A service with a backup, and other files now. */
async function restorable(t: TestContext): Promise<Restorable> {
  const disk = await openMemoryStore();
  const { data, services, options, backups } = await backupHost(t, { store: disk });
  services.declare('orders', SECTIONS);
  await fill(data, 'restored');
  assert.equal((await backups.now('orders')).status, 'OK');
  await fill(data, 'before');
  /** The agent's work on commands, as its composition root makes it. */
  const run = async (store: Store, holding: PlayedServices): Promise<CommandRunner> => {
    const agent = await AgentBackups.open({ ...options, store, holding });
    const { performers } = agent;
    const goesOn = ({ command }: CommandStatus): boolean => performers.RESTORE.holds(command);
    const journal = await CommandJournal.open(store, 0, goesOn);
    const searches = { run: () => Promise.reject(new Error('not played')) };
    const parts = { journal, performers, searches, searchSlots: new Slots(1), control: holding };
    const runner = new CommandRunner({ ...options, ...parts });
    runner.resume();
    await agent.forgetOthers(new Set(runner.pending().map(({ command }) => command)));
    return runner;
  };
  const ended = (runner: CommandRunner, isKilled = (): boolean => false): Promise<unknown> =>
    waitFor('the end', () => {
      const isOver = runner.pending().every(({ outcome }) => outcome !== 'STARTED' && outcome !== 'DELIVERED');
      return isOver || isKilled();
    });
  const played = (): PlayedServices => {
    const found = new PlayedServices();
    found.declare('orders', SECTIONS);
    return found;
  };
  return {
    killedAt: async ({ writes = Infinity, atStart = false, random, goesOn = false }) => {
      const holding = played();
      let killed = false;
      return new Promise<boolean>((resolve, reject) => {
        const onKill = (): void => {
          killed = true;
          // A write that reaches the disk does so before the next process.
          setImmediate(() => {
            resolve(true);
          });
        };
        const store = new KilledStore(disk, { writes, random, onKill });
        if (atStart) {
          holding.start = () => {
            store.kill();
            return new Promise(() => undefined);
          };
        }
        const work = async (): Promise<void> => {
          const runner = await run(store, holding);
          const backup = () => ({ backup: '', paths: [], aside: false, stop: true });
          if (!goesOn) {
            runner.offer({ command: COMMAND, action: 'RESTORE', service: 'orders', backup, expiresInMs: 60_000 });
          }
          await ended(runner, () => killed);
          if (!killed) resolve(false);
        };
        work().catch(reject);
      });
    },
    after: async () => {
      const runner = await run(disk, played());
      await ended(runner);
      const [found = '', ...others] = await contents(data);
      assert.deepEqual(others, []);
      return { status: runner.pending().find(({ command }) => command === COMMAND), found };
    },
    acknowledge: async () => {
      await (await CommandJournal.open(disk, 0, () => true)).acknowledge(COMMAND);
    },
    entries: async () => (await new Documents(disk, 'restore/').all()).length,
  };
}
