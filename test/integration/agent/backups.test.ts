import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  CenterService,
  type FetchBackupRequest,
  type ReportBackupsRequest,
  type UploadBackupRequest,
} from '../../../generated/muster/v1/center.js';
import type { CenterAccess } from '../../../src/agent/ports.js';
import { systemClock } from '../../../src/kit/clock.js';
import { MusterError } from '../../../src/kit/errors.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { openChannel } from '../../../src/rpc/client.js';
import { implement, RpcServer } from '../../../src/rpc/server.js';
import type { Handlers } from '../../../src/rpc/types.js';
import { backupHost, type BackupHost } from '../../support/backups.js';
import { temporaryData } from '../../support/linked-agent.js';
import { waitFor } from '../../support/waiting.js';

/** A center that keeps copies in memory, over a unix socket. */
class PlayedCenter implements CenterAccess {
  readonly reports: ReportBackupsRequest[] = [];
  readonly copies = new Map<string, Buffer>();
  readonly offsets: number[] = [];
  /** Downloads break off after so many bytes, once. */
  breakAfter = Infinity;
  failing = false;
  connected = false;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly channel: CenterAccess['channel'];

  private constructor(channel: CenterAccess['channel']) {
    this.channel = channel;
  }

  static async start(t: TestContext): Promise<PlayedCenter> {
    const path = join(await temporaryData(t), 'center.sock');
    const channel = openChannel({ address: `unix:${path}` });
    t.after(() => {
      channel.close();
    });
    const center = new PlayedCenter(() => channel);
    const refuse = (): Promise<never> => Promise.reject(new MusterError('unimplemented', 'not played'));
    const handlers: Partial<Record<string, unknown>> = {};
    for (const name of Object.keys(CenterService)) handlers[name] = refuse;
    const server = new RpcServer({
      services: [implement(CenterService, { ...handlers, ...center.#handlers() } as Handlers<typeof CenterService>)],
      authorize: () => undefined,
      logger: silentLogger,
    });
    await server.listen({ kind: 'unix', path, mode: 0o600, principal: { kind: 'agent', machine: 'm-1' } });
    t.after(() => server.drain(0));
    return center;
  }

  #handlers(): Pick<Handlers<typeof CenterService>, 'reportBackups' | 'uploadBackup' | 'fetchBackup'> {
    return {
      reportBackups: (request) => {
        if (this.failing) return Promise.reject(new MusterError('unavailable', 'the disk is full'));
        this.reports.push(request);
        return Promise.resolve({});
      },
      uploadBackup: async (requests: AsyncIterable<UploadBackupRequest>) => {
        if (this.failing) throw new MusterError('exhausted', 'the center has no room for copies');
        const pieces: Buffer[] = [];
        let first: UploadBackupRequest | undefined;
        for await (const request of requests) {
          first ??= request;
          pieces.push(Buffer.from(request.data));
        }
        const whole = Buffer.concat(pieces);
        assert.ok(first);
        assert.equal(createHash('sha256').update(whole).digest('hex'), first.digest);
        assert.equal(whole.length, first.sizeBytes);
        this.copies.set(first.backup, whole);
        return {};
      },
      fetchBackup: (request) => this.#fetch(request),
    };
  }

  async *#fetch({ backup, offset }: FetchBackupRequest) {
    this.offsets.push(offset);
    const whole = this.copies.get(backup);
    if (!whole) throw new MusterError('not_found', 'no such copy');
    for (let at = offset; at < whole.length; at += 100_000) {
      yield { sizeBytes: whole.length, data: whole.subarray(at, at + 100_000) };
      await Promise.resolve();
      if (at - offset > this.breakAfter) {
        this.breakAfter = Infinity;
        throw new MusterError('unavailable', 'the center is restarting');
      }
    }
  }

  onConnection(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  connect(connected = true): void {
    this.connected = connected;
    for (const listener of [...this.#listeners]) listener(connected);
  }
}

async function linked(t: TestContext): Promise<{ host: BackupHost; center: PlayedCenter }> {
  const center = await PlayedCenter.start(t);
  const host = await backupHost(t, { center, clock: systemClock });
  host.services.declare('orders', 'backup: { paths: [data], keep: { last: 1 }, copy: [center] }');
  await mkdir(join(host.shared, 'data'));
  await writeFile(join(host.shared, 'data/orders.db'), randomBytes(900_000));
  return { host, center };
}

describe('backups and the center', () => {
  it('hears of all of them when a session begins, then of what changes, also when a call failed', async (t) => {
    const { host, center } = await linked(t);
    host.services.declare('orders', 'backup: { paths: [data], keep: { last: 1 }, schedule: "0 3 1 1 *" }');
    host.run();
    const first = await host.backups.now('orders');
    assert.equal(center.reports.length, 0);
    center.failing = true;
    center.connect();
    center.failing = false;
    await waitFor('the first report', () => center.reports.length > 0);
    const [full] = center.reports;
    assert.equal(full?.full, true);
    assert.deepEqual(
      full.backups.map(({ id, status }) => [id, status]),
      [[first.id, 'BACKUP_STATUS_OK']],
    );
    assert.deepEqual(
      full.plans.map(({ service, schedule }) => [service, schedule]),
      [['orders', '0 3 1 1 *']],
    );
    assert.ok((full.plans[0]?.nextDue?.getTime() ?? 0) > Date.parse('2026-01-01'));
    const second = await host.backups.now('orders');
    await waitFor('the end of the first', () => center.reports.some(({ removed }) => removed.includes(first.id)));
    assert.ok(center.reports.slice(1).every((report) => !report.full));
    const last = center.reports.flatMap(({ backups }) => backups).filter(({ id }) => id === second.id);
    assert.equal(last.at(-1)?.status, 'BACKUP_STATUS_OK');
    host.services.remove('orders');
    await waitFor('the end of the plan', () => center.reports.some((report) => report.removedPlans.includes('orders')));
    center.connect(false);
    center.connect();
    await waitFor('another full report', () => center.reports.filter(({ full: all }) => all).length === 2);
  });

  it('keeps copies, and gives them back where the archive is gone, from where a download broke off', async (t) => {
    const { host, center } = await linked(t);
    center.failing = true;
    host.run();
    const { id } = await host.backups.now('orders');
    await waitFor('the problem', () => host.backups.list()[0]?.copyProblem.includes('no room for copies'));
    assert.equal(host.backups.list()[0]?.status, 'WARNING');
    center.failing = false;
    center.connect();
    await waitFor('the copy', () => host.backups.list()[0]?.copies.join() === 'center');
    assert.equal(host.backups.list()[0]?.status, 'OK');
    const archive = join(host.data, 'backups/orders', `${id}.tar.gz`);
    const bytes = await readFile(archive);
    assert.ok(center.copies.get(id)?.equals(bytes));
    // Damaged rather than gone: restoring finds out, and takes the copy.
    const damaged = Buffer.from(bytes);
    damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 1;
    await writeFile(archive, damaged);
    await rm(join(host.shared, 'data'), { recursive: true });
    center.breakAfter = 300_000;
    const end = await host.backups.performers.RESTORE.perform(
      {
        command: 'c-1',
        action: 'RESTORE',
        service: 'orders',
        backup: () => ({ backup: id, paths: [], aside: false, stop: true }),
        expiresInMs: 1000,
      },
      () => undefined,
    );
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.equal((await readFile(join(host.shared, 'data/orders.db'))).length, 900_000);
    assert.equal(center.offsets.length, 2);
    assert.ok((center.offsets[1] ?? 0) > 0);
    assert.ok((await readFile(archive)).equals(bytes));
  });
});
