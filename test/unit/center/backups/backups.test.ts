import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { judgeBackups } from '../../../../src/center/alerts/backup-rules.js';
import { Backups, FULL_REPORT_MS } from '../../../../src/center/backups/backups.js';
import type { BackupNews } from '../../../../src/model/backup.js';
import { BackupCopies } from '../../../../src/center/backups/copies.js';
import { LATE_GRACE_MS, RETURN_MS, RUNNING_MAX_MS } from '../../../../src/center/backups/lateness.js';
import { openTables } from '../../../../src/center/tables.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Backup, BackupPlan } from '../../../../src/model/backup.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { waitFor } from '../../../support/waiting.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MIDNIGHT_MS = Date.UTC(2026, 10, 23);
const NIGHTLY: BackupPlan = { service: 'orders', schedule: '0 3 * * *', timeZone: 'UTC', nextDueMs: undefined };

function backup(id: string, fields: Partial<Backup> = {}): Backup {
  return {
    id,
    service: 'orders',
    version: '1.0.0',
    trigger: 'SCHEDULE',
    status: 'OK',
    startedMs: MIDNIGHT_MS,
    tookMs: 1000,
    bytes: 100,
    contentBytes: 1000,
    files: 3,
    digest: 'a'.repeat(64),
    problems: [],
    verifiedMs: undefined,
    verifyProblem: '',
    copies: [],
    copyProblem: '',
    command: '',
    ...fields,
  };
}

const news = (told: Partial<BackupNews>): BackupNews => ({
  full: false,
  backups: [],
  removed: [],
  plans: [],
  removedPlans: [],
  ...told,
});

interface World {
  readonly clock: ManualClock;
  readonly backups: Backups;
  readonly copies: BackupCopies;
  /** Copies of machine m1 that were put aside. */
  readonly aside: () => Promise<string[]>;
  /** As after a restart of the center. */
  readonly reopened: () => Promise<Backups>;
  /** Kinds of what is wrong, those that nobody can say with a `?`. */
  readonly said: (backups?: Backups) => string[];
}

async function world(t: TestContext): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-copies-'));
  const ending = new AbortController();
  const clock = new ManualClock(MIDNIGHT_MS);
  const store = await openMemoryStore();
  const logger = silentLogger;
  const copies = await BackupCopies.open({ directory, clock, logger, freeBytes: () => Promise.resolve(1e12) });
  const open = async (): Promise<Backups> =>
    new Backups({ ...(await openTables(store, clock, logger)), copies, clock, logger });
  const backups = await open();
  const running = backups.run(ending.signal).catch(() => undefined);
  t.after(async () => {
    ending.abort();
    await running;
    await rm(directory, { recursive: true });
  });
  const said = (of = backups): string[] =>
    judgeBackups({ machine: 'm1', name: 'web-1', online: true, backups: of.judge('m1') }).map((verdict) => {
      if (verdict.is === 'wrong') return verdict.finding.kind;
      return verdict.is === 'unsure' ? `?${verdict.key.kind}` : verdict.is;
    });
  const aside = (): Promise<string[]> => readdir(join(directory, 'removed/m1')).catch(() => []);
  return { clock, backups, copies, said, aside, reopened: open };
}

describe('the inventory of backups', () => {
  it('is what each machine told last', async (t) => {
    const { backups, reopened } = await world(t);
    await backups.report('m1', news({ full: true, backups: [backup('a'), backup('b')], plans: [NIGHTLY] }));
    await backups.report('m2', news({ full: true, backups: [backup('a', { files: 7 })] }));
    await backups.report('m1', news({ backups: [backup('a', { verifiedMs: 5 })], removed: ['b'] }));
    const told = (of: Backups): unknown =>
      of.list().map((one) => [one.machine, one.backup.id, one.backup.files, one.backup.verifiedMs]);
    const expected = [
      ['m1', 'a', 3, 5],
      ['m2', 'a', 7, undefined],
    ];
    assert.deepEqual(told(backups), expected);
    await backups.flushed();
    const again = await reopened();
    assert.deepEqual(told(again), expected);
    assert.deepEqual(
      again.plans().map(({ machine, plan }) => [machine, plan.service]),
      [['m1', 'orders']],
    );
  });

  it('has what a command made or read back when that ends, before the agent has reported it', async (t) => {
    const { backups, clock } = await world(t);
    await backups.report('m1', news({ full: true, backups: [backup('a', { copies: ['center'] })] }));
    await clock.advance(FULL_REPORT_MS * 2);
    const told = (): unknown => backups.list().map(({ backup: one }) => [one.id, one.verifiedMs, one.copies]);
    backups.learned('m1', backup('b', { verifiedMs: 4 }));
    backups.learned('m1', backup('a', { verifiedMs: 5 }));
    assert.deepEqual(told(), [
      ['a', 5, ['center']],
      ['b', 4, []],
    ]);
    await backups.report('m1', news({ backups: [backup('b', { verifiedMs: 4, copies: ['s3'] })] }));
    backups.learned('m1', backup('b', { verifiedMs: 4 }));
    backups.learned('m1', backup('../../c'));
    assert.deepEqual(told(), [
      ['a', 5, ['center']],
      ['b', 4, ['s3']],
    ]);
  });

  it('does not keep what only an old command tells of', async (t) => {
    const { backups, clock } = await world(t);
    await backups.report('m1', news({ full: true, backups: [backup('a')] }));
    backups.learned('m1', backup('gone'));
    backups.learned('m1', backup('new'));
    await backups.report('m1', news({ backups: [backup('new')] }));
    await clock.advance(FULL_REPORT_MS * 2);
    assert.deepEqual(
      backups.list().map((one) => one.backup.id),
      ['a', 'new'],
    );
  });

  it('forgets what a full report, in as many calls as it takes, does not tell', async (t) => {
    const { backups, clock } = await world(t);
    const plans = [NIGHTLY, { ...NIGHTLY, service: 'billing' }];
    await backups.report('m1', news({ full: true, backups: [backup('a'), backup('b'), backup('c')], plans }));
    await clock.advance(FULL_REPORT_MS * 2);
    const ids = (): string[] => backups.list().map((one) => one.backup.id);
    assert.deepEqual(ids(), ['a', 'b', 'c']);
    await backups.report('m1', news({ full: true, backups: [backup('a')] }));
    assert.deepEqual(ids(), ['a', 'b', 'c'], 'the rest of the report may be on its way');
    await backups.report('m1', news({ backups: [backup('c')], plans: [NIGHTLY] }));
    await clock.advance(FULL_REPORT_MS * 2);
    assert.deepEqual(ids(), ['a', 'c']);
    assert.deepEqual(
      backups.plans().map(({ plan }) => plan.service),
      ['orders'],
    );
  });

  it('keeps the copies of what an agent has only lost track of, and not of what it removed', async (t) => {
    const { backups, copies, clock, aside } = await world(t);
    const content = Buffer.from('content');
    const digest = createHash('sha256').update(content).digest('hex');
    for (const id of ['lost', 'removed']) {
      const pieces = Readable.from([content]) as AsyncIterable<Uint8Array>;
      await copies.receive({ machine: 'm1', backup: id, digest, sizeBytes: content.length }, pieces);
    }
    await backups.report('m1', news({ full: true, backups: [backup('lost'), backup('removed')] }));
    await backups.report('m1', news({ removed: ['removed'] }));
    await backups.report('m1', news({ full: true }));
    await clock.advance(FULL_REPORT_MS * 2);
    await waitFor('the inventory to forget', () => (backups.list().length === 0 ? true : undefined));
    await waitFor('the copy to be put aside', async () => ((await aside()).length > 0 ? true : undefined));
    assert.deepEqual(await aside(), ['lost.tar.gz']);
    await assert.rejects(copies.read('m1', 'removed', 0).next(), (error: unknown) => isCode(error, 'not_found'));
  });

  it('takes nothing of a report that cannot be', async (t) => {
    const { backups } = await world(t);
    for (const wrong of [
      news({ backups: [backup('fine'), backup('../evil')] }),
      news({ backups: [backup('')] }),
      news({ backups: [backup('a', { service: 'no/service' })] }),
      news({ backups: [backup('fine')], removed: ['a/b'] }),
      news({ backups: [backup('fine')], removedPlans: ['..'] }),
    ]) {
      await assert.rejects(backups.report('m1', wrong), (error: unknown) => isCode(error, 'invalid'));
    }
    assert.deepEqual(backups.list(), []);
  });

  it('goes with its machine', async (t) => {
    const { backups } = await world(t);
    await backups.report('m1', news({ backups: [backup('a')], plans: [NIGHTLY] }));
    await backups.report('m2', news({ backups: [backup('a')], plans: [NIGHTLY] }));
    await backups.machineRemoved('m1');
    assert.deepEqual(
      backups.list().map(({ machine }) => machine),
      ['m2'],
    );
    assert.deepEqual(
      backups.plans().map(({ machine }) => machine),
      ['m2'],
    );
    assert.deepEqual(backups.judge('m1'), []);
  });
});

describe('a backup that is late', () => {
  it('is an alarm half an hour after it was due, and no more when it is there', async (t) => {
    const { backups, clock, said } = await world(t);
    await backups.report('m1', news({ full: true, plans: [NIGHTLY] }));
    await clock.advance(3 * HOUR_MS + LATE_GRACE_MS - 1);
    assert.deepEqual(said(), []);
    assert.deepEqual(backups.ripening(), []);
    await clock.advance(1);
    assert.deepEqual(backups.ripening(), ['m1'], 'nobody would look');
    assert.deepEqual(said(), ['backup_late']);
    await backups.report('m1', news({ backups: [backup('a', { startedMs: clock.now() })] }));
    assert.deepEqual(said(), []);
    await clock.advance(DAY_MS);
    assert.deepEqual(said(), ['backup_late']);
    const [verdict] = judgeBackups({ machine: 'm1', name: 'web-1', online: false, backups: backups.judge('m1') });
    const message = verdict?.is === 'wrong' ? verdict.finding.message : '';
    assert.match(
      message,
      /due at 2026-11-24 03:00 UTC is missing; the last one is of 2026-11-23 03:30 UTC\. The machine is not connected/,
    );
  });

  it('is one of its schedule, in its time zone, and only since that is known', async (t) => {
    const { backups, clock, said } = await world(t);
    await clock.advance(10 * HOUR_MS);
    const tokyo = { ...NIGHTLY, timeZone: 'Asia/Tokyo' };
    await backups.report('m1', news({ plans: [tokyo] }));
    assert.deepEqual(said(), [], 'the one of this night was before anybody knew');
    await clock.advance(8 * HOUR_MS + LATE_GRACE_MS);
    assert.deepEqual(said(), ['backup_late'], 'three in the morning there is 18:00 here');
    await backups.report('m1', news({ plans: [{ ...tokyo, schedule: '0 4 * * *' }] }));
    assert.deepEqual(said(), [], 'a new schedule begins anew');
    for (const schedule of ['', 'garbage', '0 0 31 2 *']) {
      await backups.report('m1', news({ plans: [{ ...tokyo, schedule }] }));
      await clock.advance(3 * DAY_MS);
      assert.deepEqual(said(), []);
    }
  });

  it('is not one that is being made, unless it takes for ever', async (t) => {
    const { backups, clock, said } = await world(t);
    await backups.report('m1', news({ plans: [NIGHTLY] }));
    await clock.advance(3 * HOUR_MS);
    await backups.report('m1', news({ backups: [backup('a', { status: 'RUNNING', startedMs: clock.now() })] }));
    await clock.advance(LATE_GRACE_MS * 2);
    assert.deepEqual(said(), ['?backup_late']);
    await clock.advance(RUNNING_MAX_MS);
    assert.deepEqual(said(), ['backup_late']);
  });

  it('is not known after a start until agents can have told, and is an alarm also of a machine that stays silent', async (t) => {
    const { backups, clock, said, reopened } = await world(t);
    await backups.report('m1', news({ plans: [NIGHTLY], backups: [backup('a')] }));
    await backups.flushed();
    await clock.advance(2 * DAY_MS);
    const again = await reopened();
    assert.deepEqual(said(again), ['?backup_late']);
    await clock.advance(RETURN_MS);
    assert.deepEqual(again.ripening(), ['m1']);
    assert.deepEqual(said(again), ['backup_late']);
    const heard = await reopened();
    await heard.report('m1', news({ full: true, plans: [NIGHTLY], backups: [backup('a')] }));
    assert.deepEqual(said(heard), ['backup_late']);
  });
});

describe('a backup that failed', () => {
  it('is an alarm until one works', async (t) => {
    const { backups, said } = await world(t);
    const failed = backup('b', { status: 'ERROR', startedMs: MIDNIGHT_MS + 1, problems: ['the disk is full'] });
    await backups.report('m1', news({ plans: [NIGHTLY], backups: [backup('a'), failed] }));
    assert.deepEqual(said(), ['backup_failed']);
    await backups.report('m1', news({ backups: [backup('c', { status: 'RUNNING', startedMs: MIDNIGHT_MS + 2 })] }));
    assert.deepEqual(said(), ['backup_failed']);
    await backups.report('m1', news({ backups: [backup('c', { status: 'WARNING', startedMs: MIDNIGHT_MS + 2 })] }));
    assert.deepEqual(said(), []);
  });

  it('in its verify is an alarm until that archive is whole or gone', async (t) => {
    const { backups, said } = await world(t);
    await backups.report(
      'm1',
      news({ plans: [NIGHTLY], backups: [backup('a', { verifyProblem: '"x" is not what its manifest says' })] }),
    );
    assert.deepEqual(said(), ['backup_unverified']);
    await backups.report('m1', news({ backups: [backup('a', { verifyProblem: '', verifiedMs: MIDNIGHT_MS })] }));
    assert.deepEqual(said(), []);
    await backups.report('m1', news({ backups: [backup('b', { verifyProblem: 'cut off' })] }));
    assert.deepEqual(said(), ['backup_unverified']);
    await backups.report('m1', news({ removed: ['b'] }));
    assert.deepEqual(said(), []);
  });

  it('is an alarm also where its service has no plan any more', async (t) => {
    const { backups, said } = await world(t);
    await backups.report('m1', news({ backups: [backup('a', { status: 'ERROR', verifyProblem: 'cut off' })] }));
    assert.deepEqual(said(), ['backup_unverified']);
  });

  it('does not make up for the one that is due, and is whole again with the end of the verify that says so', async (t) => {
    const { clock, backups, said } = await world(t);
    const threeMs = MIDNIGHT_MS + 3 * HOUR_MS;
    const made = backup('a', { startedMs: threeMs });
    await backups.report('m1', news({ full: true, plans: [NIGHTLY], backups: [made] }));
    await clock.advance(4 * HOUR_MS);
    assert.deepEqual(said(), []);
    await backups.report('m1', news({ backups: [{ ...made, status: 'ERROR', verifyProblem: 'cut off' }] }));
    assert.deepEqual(said(), ['backup_late', 'backup_unverified']);
    assert.equal(backups.judge('m1')[0]?.lastGood, undefined);
    backups.learned('m1', { ...made, verifiedMs: threeMs + 1 });
    assert.deepEqual(said(), []);
  });
});
