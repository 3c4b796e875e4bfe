import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { begun, dueOf, ended, reviewed } from '../../../../src/agent/backups/due.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { backupHost, TREES, type BackupHost } from '../../../support/backups.js';
import { waitFor } from '../../../support/waiting.js';

const HOURLY = 'backup: { paths: [data], schedule: "0 * * * *", verify: "30 12 * * *", keep: { last: 50 } }';
const START = Date.parse('2026-10-24T20:30:00Z');
const HOUR_MS = 3_600_000;

async function scheduled(
  t: TestContext,
  more: Parameters<typeof backupHost>[1] = {},
): Promise<BackupHost & { clock: ManualClock }> {
  const clock = new ManualClock(START);
  const host = await backupHost(t, { clock, ...more });
  host.services.declare('orders', HOURLY);
  await mkdir(join(host.shared, 'data'));
  await writeFile(join(host.shared, 'data/a'), 'a');
  return { ...host, clock };
}

function made(host: BackupHost): number {
  return host.backups.list().filter(({ status }) => status === 'OK').length;
}

/** Time passes, and what it set off is done. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 15_000) {
    await clock.advance(Math.min(left, 15_000));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('schedules', () => {
  it('make backups when they are due, without a center, and say when the next one is', async (t) => {
    const host = await scheduled(t);
    host.run();
    assert.deepEqual(host.backups.plans(), [
      { service: 'orders', schedule: '0 * * * *', timeZone: 'UTC', nextDueMs: START + HOUR_MS / 2 },
    ]);
    await pass(host.clock, HOUR_MS / 2 - 30_000);
    assert.equal(host.backups.list().length, 0);
    await pass(host.clock, 60_000);
    await waitFor('backups', () => made(host) === 1);
    assert.equal(host.backups.list()[0]?.trigger, 'SCHEDULE');
    await waitFor('backups', () => host.backups.plans()[0]?.nextDueMs === START + 1.5 * HOUR_MS);
  });

  it('make up once for what was missed while the agent was down, and for nothing twice', async (t) => {
    const host = await scheduled(t);
    host.run();
    await pass(host.clock, HOUR_MS);
    await waitFor('backups', () => made(host) === 1);
    await host.stop();
    host.clock.jumpWallClock(5 * HOUR_MS);
    const next = await host.again();
    const end = new AbortController();
    const running = next.run(Promise.resolve(), end.signal);
    t.after(async () => {
      end.abort();
      await running;
    });
    await waitFor('backups', () => next.list().filter(({ status }) => status === 'OK').length === 2);
    await pass(host.clock, 60_000);
    assert.equal(next.list().length, 2);
    assert.ok((next.plans()[0]?.nextDueMs ?? 0) > host.clock.now());
  });

  it('make up for a backup that the end of the agent cut off, but not for ever', async (t) => {
    const hang: typeof TREES = {
      ...TREES,
      writeTree: (_source, _out, options) =>
        new Promise((_, reject) => {
          const signal = options?.signal;
          signal?.addEventListener('abort', () => {
            reject(signal.reason as Error);
          });
        }),
    };
    const host = await scheduled(t, { trees: hang });
    host.run();
    await pass(host.clock, HOUR_MS);
    await waitFor('backups', () => host.backups.list().length === 1);
    // Each process is gone as a killed one is: nothing of it runs any more that could end its backup.
    for (const [tries, expected] of [
      [hang, 2],
      [hang, 2],
    ] as const) {
      const next = await host.again({ trees: tries });
      const end = new AbortController();
      const running = next.run(Promise.resolve(), end.signal);
      t.after(async () => {
        end.abort();
        await running;
      });
      await pass(host.clock, 60_000);
      assert.equal(next.list().length, expected);
      assert.ok(
        next
          .list()
          .slice(1)
          .every(({ status }) => status === 'ERROR'),
      );
    }
  });

  it('read the latest backup back by itself', async (t) => {
    let verified = 0;
    const trees: typeof TREES = {
      ...TREES,
      verifyTree: (...args) => {
        verified += 1;
        return TREES.verifyTree(...args);
      },
    };
    const host = await scheduled(t, { trees });
    host.services.declare('orders', HOURLY.replace('schedule: "0 * * * *", ', ''));
    await host.backups.now('orders');
    assert.equal(verified, 1);
    host.run();
    await host.clock.advance(0);
    host.clock.jumpWallClock(16 * HOUR_MS + 60_000);
    await pass(host.clock, 60_000);
    await waitFor('backups', () => verified === 2);
  });

  it('do not run more than two backups at once', async (t) => {
    let [now, most] = [0, 0];
    const trees: typeof TREES = {
      ...TREES,
      writeTree: async (...args) => {
        now += 1;
        most = Math.max(most, now);
        const tree = await TREES.writeTree(...args);
        now -= 1;
        return tree;
      },
    };
    const host = await scheduled(t, { trees });
    for (const service of ['a', 'b', 'c', 'd', 'e']) {
      host.services.declare(service, HOURLY);
      const shared = host.options.sharedDirectory(service);
      await mkdir(join(shared, 'data'), { recursive: true });
    }
    host.run();
    await pass(host.clock, HOUR_MS);
    await waitFor('backups', () => made(host) === 6);
    assert.equal(most, 2);
  });
});

describe('what is due', () => {
  const timetable = { schedule: '0 3 * * *', timeZone: 'Europe/Berlin' };

  it('is nothing of the time before the timetable was there, or was changed', () => {
    const fresh = reviewed(undefined, timetable, START);
    assert.equal(dueOf(fresh), Date.parse('2026-10-25T02:00:00Z'));
    const changed = reviewed(
      { ...fresh, handledMs: START - 90 * HOUR_MS },
      { ...timetable, schedule: '0 4 * * *' },
      START,
    );
    assert.equal(changed.handledMs, START);
  });

  it('stays due until it has ended, and is left after two tries', () => {
    const known = { ...timetable, handledMs: START - 24 * HOUR_MS, tries: 0 };
    const once = begun(known);
    assert.equal(dueOf(reviewed(once, timetable, START)), dueOf(known));
    assert.equal(reviewed(begun(once), timetable, START).handledMs, START);
    assert.ok((dueOf(ended(once, START)) ?? 0) > START);
  });

  it('is not done twice when the clock is set back a little, and goes on when it is set back far', () => {
    const done = { ...timetable, handledMs: START, tries: 0 };
    assert.equal(reviewed(done, timetable, START - 5000), done);
    assert.equal(reviewed(done, timetable, START - 48 * HOUR_MS).handledMs, START - 48 * HOUR_MS);
  });
});
