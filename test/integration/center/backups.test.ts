import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  ListBackupsRequest,
  ReportBackupsRequest,
  type CenterService,
  type UploadBackupRequest,
} from '../../../generated/muster/v1/center.js';
import { Backup } from '../../../generated/muster/v1/types.js';
import { isCode } from '../../../src/kit/errors.js';
import { newId } from '../../../src/kit/ids.js';
import type { Client } from '../../../src/rpc/types.js';
import { toWireBackup } from '../../../src/wire/backup.js';
import { backupHost } from '../../support/backups.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs } from '../../support/fake-agent.js';
import { makeTree } from '../../support/trees.js';
import { waitFor } from '../../support/waiting.js';

const CONTENT = randomBytes(500_000);
const DIGEST = createHash('sha256').update(CONTENT).digest('hex');
const PLAN = {
  service: 'orders',
  schedule: '0 3 * * *',
  timeZone: 'Europe/Berlin',
  nextDue: new Date(2_000_000_000_000),
};

async function agentOf(t: TestContext, center: TestCenter, name: string, labels = {}): Promise<FakeAgent> {
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  const identified = await joinAs(center.address, { token: await center.token(), name, labels, caPem });
  return new FakeAgent(t, center.address, name, identified);
}

function backup(id: string, fields: Partial<Backup> = {}): Backup {
  return Backup.fromPartial({
    id,
    service: 'orders',
    version: '1.0.0',
    trigger: 'BACKUP_TRIGGER_SCHEDULE',
    status: 'BACKUP_STATUS_OK',
    started: new Date(Date.UTC(2026, 10, 23, 3)),
    took: { seconds: 5, nanos: 0 },
    bytes: CONTENT.length,
    files: 3,
    digest: DIGEST,
    ...fields,
  });
}

const report = (told: Parameters<typeof ReportBackupsRequest.fromPartial>[0]): ReportBackupsRequest =>
  ReportBackupsRequest.fromPartial(told);
const list = (wish: Parameters<typeof ListBackupsRequest.fromPartial>[0] = {}): ListBackupsRequest =>
  ListBackupsRequest.fromPartial(wish);

async function* upload(id: string, content = CONTENT, digest = DIGEST): AsyncGenerator<UploadBackupRequest> {
  const nothing = { service: '', backup: '', digest: '', sizeBytes: 0 };
  await Promise.resolve();
  yield { service: 'orders', backup: id, digest, sizeBytes: content.length, data: Buffer.alloc(0) };
  for (let at = 0; at < content.length; at += 100_000) yield { ...nothing, data: content.subarray(at, at + 100_000) };
}

async function fetched(client: Client<typeof CenterService>, id: string, offset = 0): Promise<Buffer> {
  const found: Uint8Array[] = [];
  for await (const { sizeBytes, data } of client.fetchBackup({ service: 'orders', backup: id, offset })) {
    assert.equal(sizeBytes, CONTENT.length);
    found.push(data);
  }
  return Buffer.concat(found);
}

describe('backups at the center', () => {
  it('are known of all machines, also after a restart', async (t) => {
    const center = await TestCenter.start(t);
    const one = await agentOf(t, center, 'web-1', { role: 'web' });
    const two = await agentOf(t, center, 'db-1');
    const later = backup('b', {
      started: new Date(Date.UTC(2026, 10, 24, 3)),
      problems: ['x changed'],
      status: 'BACKUP_STATUS_WARNING',
    });
    await one.client.reportBackups(report({ full: true, backups: [backup('a'), later], plans: [PLAN] }));
    await two.client.reportBackups(
      report({ full: true, backups: [backup('a', { machine: one.machine, service: 'billing' })] }),
    );
    const names = async (wish = {}): Promise<string[]> =>
      (await center.operator.listBackups(list(wish))).backups.map(
        (found) => `${found.machineName} ${found.service} ${found.id}`,
      );
    const all = ['web-1 orders b', 'web-1 orders a', 'db-1 billing a'];
    assert.deepEqual((await names()).sort(), [...all].sort());
    assert.equal((await names())[0], all[0], 'newest first');
    assert.deepEqual(await names({ service: 'orders' }), all.slice(0, 2));
    assert.deepEqual(await names({ selector: 'machine=db-*' }), all.slice(2));
    await assert.rejects(
      center.operator.listBackups(list({ service: 'order' })),
      (error: unknown) => isCode(error, 'not_found') && /orders/.test(error.message),
    );
    const first = await center.operator.listBackups(list({ pageSize: 2 }));
    const rest = await center.operator.listBackups(list({ pageSize: 2, pageToken: first.nextPageToken }));
    assert.deepEqual([first.backups.length, rest.backups.length, rest.nextPageToken], [2, 1, '']);
    await center.stop();
    await center.start();
    const found = await center.operator.getBackup({ machine: 'web-1', backup: 'b' });
    assert.deepEqual({ ...found, machine: '', machineName: '' }, later);
    assert.equal(found.machine, one.machine);
    await assert.rejects(center.operator.getBackup({ machine: 'db-1', backup: 'b' }), (error: unknown) =>
      isCode(error, 'not_found'),
    );
    const { plans } = await center.operator.listBackupPlans({});
    assert.equal(plans.length, 1);
    const [plan] = plans;
    assert.deepEqual(
      { ...plan, machine: '' },
      { ...PLAN, machine: '', machineName: 'web-1', lastGood: later.started, lateSince: undefined },
    );
  });

  it('that failed or are damaged are alerts', async (t) => {
    const center = await TestCenter.start(t);
    const agent = await agentOf(t, center, 'web-1');
    const stream = await agent.connect();
    await stream.endFullReport();
    const kinds = async (): Promise<string[]> =>
      (await center.operator.listAlerts({ pageSize: 0, pageToken: '', includeCleared: false })).alerts
        .map(({ kind }) => kind)
        .sort();
    const failed = backup('b', {
      status: 'BACKUP_STATUS_ERROR',
      started: new Date(),
      digest: '',
      problems: ['no space left'],
    });
    await agent.client.reportBackups(
      report({ full: true, backups: [backup('a', { verifyProblem: 'cut off' }), failed], plans: [PLAN] }),
    );
    await waitFor('both alerts', async () =>
      (await kinds()).join() === 'backup_failed,backup_unverified' ? true : undefined,
    );
    await agent.client.reportBackups(report({ removed: ['a'], backups: [{ ...failed, status: 'BACKUP_STATUS_OK' }] }));
    await waitFor('no alert', async () => ((await kinds()).length === 0 ? true : undefined));
  });

  it('are alerts as an agent tells them: what is damaged is not what failed, and each says why', async (t) => {
    const host = await backupHost(t);
    host.services.declare('orders', 'backup: { paths: [data], keep: { last: 5 } }');
    await makeTree(host.shared, { 'data/orders.db': 'all orders' });
    const center = await TestCenter.start(t);
    const agent = await agentOf(t, center, 'web-1');
    const stream = await agent.connect();
    await stream.endFullReport();
    const alerts = async (): Promise<string[]> => {
      const backups = host.backups.list().map(toWireBackup);
      await agent.client.reportBackups(report({ full: true, backups, plans: [PLAN] }));
      const found = await center.operator.listAlerts({ pageSize: 0, pageToken: '', includeCleared: false });
      // An agent that is played may be found away.
      const ours = found.alerts.filter(({ kind }) => kind.startsWith('backup_'));
      return ours.map(({ kind, severity, message }) => `${kind} ${severity}: ${message}`).sort();
    };
    const archive = (id: string): string => join(host.data, 'backups/orders', `${id}.tar.gz`);
    const verify = (id: string): Promise<unknown> =>
      host.backups.performers.VERIFY_BACKUP.perform(
        {
          command: newId('c'),
          action: 'VERIFY_BACKUP',
          service: 'orders',
          backup: () => ({ backup: id, paths: [], aside: false }),
          expiresInMs: 1000,
        },
        () => undefined,
      );
    const first = await host.backups.now('orders');
    const second = await host.backups.now('orders');
    assert.deepEqual(await alerts(), []);
    const whole = await readFile(archive(second.id));
    await writeFile(archive(second.id), whole.subarray(0, whole.length - 30));
    await verify(second.id);
    const damaged = async (): Promise<string | undefined> => {
      const found = await alerts();
      assert.ok(found.every((one) => !one.startsWith('backup_failed')) && found.length <= 1, found.join('\n'));
      return found[0];
    };
    const latest = await waitFor('the alert of the latest', damaged);
    assert.match(
      latest,
      new RegExp(`^backup_unverified SEVERITY_CRITICAL: backup ${second.id} of service orders on web-1`),
    );
    assert.match(latest, /is damaged: .+\. Make another with "muster backup now orders --on machine=web-1"/);
    const third = await host.backups.now('orders');
    assert.equal(await damaged(), latest, 'one that is not the latest is damaged as well');
    await writeFile(archive(first.id), 'nothing');
    await verify(first.id);
    const both = new RegExp(`backup ${second.id} .* is damaged: .*; so is ${first.id}\\. Make`);
    await waitFor('both', async () => both.test((await damaged()) ?? '') || undefined);
    await rm(join(host.shared, 'data'), { recursive: true });
    const failed = await host.backups.now('orders');
    const why = new RegExp(`backup_failed .*: backup ${failed.id} of service orders on web-1 failed: .*data`);
    await waitFor('the failure', async () => (await alerts()).some((one) => why.test(one)) || undefined);
    assert.equal(third.status, 'OK');
    await makeTree(host.shared, { 'data/orders.db': 'all orders' });
    await host.backups.now('orders');
    for (const { id } of [first, second]) await rm(archive(id));
    await writeFile(archive(second.id), whole);
    await verify(second.id);
    await waitFor(
      'the end of the second',
      async () =>
        new RegExp(`backup ${first.id} of service orders on web-1 is damaged: [^;]*$`).test((await damaged()) ?? '') ||
        undefined,
    );
  });

  it('are kept as copies for the machine that they are of, and for no other', async (t) => {
    const center = await TestCenter.start(t);
    const agent = await agentOf(t, center, 'web-1');
    const other = await agentOf(t, center, 'web-2');
    await agent.client.reportBackups(report({ full: true, backups: [backup('a')], plans: [PLAN] }));
    await agent.client.uploadBackup(upload('a'));
    assert.deepEqual(await fetched(agent.client, 'a'), CONTENT);
    assert.deepEqual(await fetched(agent.client, 'a', 400_000), CONTENT.subarray(400_000));
    await assert.rejects(fetched(other.client, 'a'), (error: unknown) => isCode(error, 'not_found'));
    const evil = createHash('sha256').update('evil').digest('hex');
    await assert.rejects(agent.client.uploadBackup(upload('a', Buffer.from('evil'), evil)), (error: unknown) =>
      isCode(error, 'conflict'),
    );
    await assert.rejects(agent.client.uploadBackup(upload('b', CONTENT, evil)), (error: unknown) =>
      isCode(error, 'data_loss'),
    );
    for (const id of ['../a', 'x/y', '', '.hidden']) {
      await assert.rejects(agent.client.uploadBackup(upload(id)), (error: unknown) => isCode(error, 'invalid'));
      await assert.rejects(fetched(agent.client, id), (error: unknown) => isCode(error, 'invalid'));
    }
    assert.deepEqual(await readdir(join(center.data, 'backups', agent.machine)), ['a.tar.gz']);
    await agent.client.reportBackups(report({ removed: ['a'] }));
    await waitFor('the copy to go', async () =>
      (await readdir(join(center.data, 'backups', agent.machine))).length === 0 ? true : undefined,
    );
  });

  it('are told by agents alone, and go with their machine', async (t) => {
    const center = await TestCenter.start(t);
    const agent = await agentOf(t, center, 'web-1');
    await assert.rejects(center.operator.reportBackups(report({ full: true })), (error: unknown) =>
      isCode(error, 'denied'),
    );
    await assert.rejects(center.operator.uploadBackup(upload('a')), (error: unknown) => isCode(error, 'denied'));
    await assert.rejects(agent.client.listBackups(list()), (error: unknown) => isCode(error, 'denied'));
    await agent.client.reportBackups(report({ full: true, backups: [backup('a')], plans: [PLAN] }));
    await agent.client.uploadBackup(upload('a'));
    await center.operator.removeMachine({ machine: 'web-1' });
    assert.deepEqual((await center.operator.listBackups(list())).backups, []);
    assert.deepEqual((await center.operator.listBackupPlans({})).plans, []);
    assert.deepEqual(await readdir(join(center.data, 'backups/removed', agent.machine)), ['a.tar.gz']);
    await assert.rejects(agent.client.reportBackups(report({ full: true })));
  });
});
