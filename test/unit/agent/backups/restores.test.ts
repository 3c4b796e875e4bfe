import assert from 'node:assert/strict';
import { chmod, lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { CommandEnd } from '../../../../src/agent/commands/lifecycle.js';
import type { AgentBackups } from '../../../../src/agent/backups/backups.js';
import type { BackupOrder } from '../../../../src/model/backup.js';
import { Documents } from '../../../../src/store/documents.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { backupHost, type BackupHost } from '../../../support/backups.js';
import { must, unless } from '../../../support/debian.js';
import { describeTree, makeTree } from '../../../support/trees.js';

const POLICY = 'backup: { paths: [data, conf/app.conf], keep: { last: 5 } }';

function restore(backups: AgentBackups, order: Partial<BackupOrder> = {}, command = 'c-1'): Promise<CommandEnd> {
  return Promise.resolve(
    backups.performers.RESTORE.perform(
      {
        command,
        action: 'RESTORE',
        service: 'orders',
        backup: () => ({ backup: '', paths: [], aside: false, ...order }),
        expiresInMs: 1000,
      },
      () => undefined,
    ),
  );
}

async function filled(host: BackupHost): Promise<void> {
  host.services.declare('orders', POLICY);
  await makeTree(host.shared, {
    'data/orders.db': 'all orders',
    'data/deep/er': Buffer.alloc(70_000, 'x'),
    'data/run': { run: '#!/bin/sh\n' },
    'data/link': { link: 'orders.db' },
    'data/empty': undefined,
    'conf/app.conf': 'color: blue',
    'other/mine': 'not backed up',
  });
  await chmod(join(host.shared, 'data/deep'), 0o750);
  await chmod(join(host.shared, 'data/orders.db'), 0o600);
}

async function destroy({ shared }: BackupHost): Promise<void> {
  await rm(join(shared, 'data/deep'), { recursive: true });
  await writeFile(join(shared, 'data/orders.db'), 'garbage');
  await rm(join(shared, 'conf'), { recursive: true });
}

async function nothingLeft({ data }: BackupHost): Promise<void> {
  const names = await readdir(join(data, 'services/orders'));
  assert.deepEqual(
    names.filter((name) => name.startsWith('.restore')),
    [],
  );
}

describe('restoring to its place', () => {
  it('puts everything back byte for byte, with its modes, and keeps what was there before', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    const before = await describeTree(host.shared);
    await host.backups.now('orders');
    await destroy(host);
    const end = await restore(host.backups, { stop: true });
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.match(
      end.message,
      /4 files restored to data, conf\/app.conf; what was there before is in .*\.replaced until/,
    );
    assert.deepEqual(await describeTree(host.shared), before);
    assert.equal(await readFile(join(host.data, 'services/orders/.replaced/0/orders.db'), 'utf8'), 'garbage');
    assert.deepEqual(
      host.services.calls.filter((call) => !call.includes('get')),
      ['hold orders: backup is being restored', 'stop orders', 'start orders', 'let go orders'],
    );
    await nothingLeft(host);
    // Another restore replaces what the one before had kept.
    assert.equal((await restore(host.backups, { stop: true }, 'c-2')).outcome, 'SUCCEEDED');
    assert.equal(await readFile(join(host.data, 'services/orders/.replaced/0/orders.db'), 'utf8'), 'all orders');
  });

  it('takes some paths, and leaves the others as they are', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    await host.backups.now('orders');
    await destroy(host);
    host.services.set('orders', { state: 'STOPPED', wanted: false });
    const end = await restore(host.backups, { paths: ['data/deep', 'conf/app.conf'] });
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.equal(await readFile(join(host.shared, 'data/orders.db'), 'utf8'), 'garbage');
    assert.equal((await readFile(join(host.shared, 'data/deep/er'))).length, 70_000);
    assert.equal((await lstat(join(host.shared, 'data/deep'))).mode & 0o777, 0o750);
    assert.equal(await readFile(join(host.shared, 'conf/app.conf'), 'utf8'), 'color: blue');
    const none = await restore(host.backups, { paths: ['data/none'] }, 'c-2');
    assert.equal(none.outcome, 'FAILED');
    assert.match(none.message, /data\/none/);
    await nothingLeft(host);
  });

  it('is refused while the service runs, unless it may be stopped', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    await host.backups.now('orders');
    await destroy(host);
    const end = await restore(host.backups);
    assert.equal(end.outcome, 'FAILED');
    assert.match(end.message, /orders is RUNNING, and its files would be changed below it: stop it first/);
    assert.equal(await readFile(join(host.shared, 'data/orders.db'), 'utf8'), 'garbage');
  });

  it('says that the service does not start again, with its files restored', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    await host.backups.now('orders');
    await destroy(host);
    host.services.startProblem = 'it does not like them';
    const end = await restore(host.backups, { stop: true });
    assert.equal(end.outcome, 'FAILED');
    assert.match(end.message, /the backup was restored, but the service does not start: it does not like them/);
    assert.equal(await readFile(join(host.shared, 'data/orders.db'), 'utf8'), 'all orders');
    await nothingLeft(host);
  });

  it('changes nothing where the archive is damaged', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    const { id } = await host.backups.now('orders');
    const archive = join(host.data, 'backups/orders', `${id}.tar.gz`);
    const bytes = await readFile(archive);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 0x10;
    await writeFile(archive, bytes);
    await destroy(host);
    const before = await describeTree(host.shared);
    const end = await restore(host.backups, { stop: true });
    assert.equal(end.outcome, 'FAILED');
    assert.deepEqual(await describeTree(host.shared), before);
    assert.ok(!host.services.calls.includes('stop orders'));
    await nothingLeft(host);
  });

  it('is refused where the shared directory is a file system of its own', { skip: unless('root') }, async (t) => {
    const host = await backupHost(t);
    await must('mount', '-t', 'tmpfs', 'tmpfs', host.shared);
    try {
      await filled(host);
      await host.backups.now('orders');
      await rm(join(host.shared, 'data'), { recursive: true });
      const { outcome, message } = await restore(host.backups, { stop: true });
      assert.equal(outcome, 'FAILED');
      assert.match(message, /is a file system of its own. Restore it aside, and copy/);
      assert.equal((await restore(host.backups, { aside: true }, 'c-2')).outcome, 'SUCCEEDED');
      await nothingLeft(host);
    } finally {
      await must('umount', host.shared);
    }
  });

  it('never follows a link that the service put on the way', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    await host.backups.now('orders');
    const outside = join(host.data, 'outside');
    await makeTree(outside, { 'app.conf': 'of somebody else' });
    await rm(join(host.shared, 'conf'), { recursive: true });
    await symlink(outside, join(host.shared, 'conf'));
    const end = await restore(host.backups, { stop: true });
    assert.equal(end.outcome, 'FAILED');
    assert.equal(await readFile(join(outside, 'app.conf'), 'utf8'), 'of somebody else');
    await nothingLeft(host);
  });
});

describe('restoring aside', () => {
  it('makes a new directory, and touches nothing else, also while the service runs', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    const { id } = await host.backups.now('orders');
    const before = await describeTree(join(host.shared, 'data'));
    await destroy(host);
    const damaged = await describeTree(host.shared);
    const end = await restore(host.backups, { aside: true, backup: id });
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    const into = /restored into (.*)$/.exec(end.message)?.[1] ?? '';
    assert.ok(into.startsWith(join(host.data, `services/orders/restored-${id}-`)), into);
    assert.deepEqual(await describeTree(join(into, 'data')), before);
    assert.deepEqual(await describeTree(host.shared), damaged);
    await nothingLeft(host);
  });

  it('needs a backup', async (t) => {
    const host = await backupHost(t);
    await assert.rejects(restore(host.backups), /orders has no whole backup on this machine/);
    await assert.rejects(restore(host.backups, { backup: 'b' }), /there is no backup "b" of orders/);
  });
});

describe('a restore that was cut off', () => {
  /** The state after each rename of a switch, as the agent may leave it. */
  async function cutOff(host: BackupHost, renames: number): Promise<void> {
    const staging = join(host.data, 'services/orders/.restore-r-1');
    await mkdir(join(staging, 'old'), { recursive: true });
    const paths = ['data', 'conf/app.conf'];
    await makeTree(join(staging, 'new'), { 'data/orders.db': 'restored', 'conf/app.conf': 'restored' });
    const steps = [
      () => rename(join(host.shared, 'data'), join(staging, 'old/0')),
      () => rename(join(staging, 'new/data'), join(host.shared, 'data')),
      () => rename(join(host.shared, 'conf/app.conf'), join(staging, 'old/1')),
      () => rename(join(staging, 'new/conf/app.conf'), join(host.shared, 'conf/app.conf')),
    ];
    for (const step of steps.slice(0, renames)) await step();
    await new Documents(host.options.store, 'restore/').put('r-1', {
      service: 'orders',
      backup: '20261123T000000Z-aaaaaa',
      command: 'c-9',
      phase: 'switching',
      paths,
      place: { shared: host.shared, staging, replaced: join(host.data, 'services/orders/.replaced') },
      message: '2 files restored',
    });
  }

  for (const renames of [0, 1, 2, 3, 4]) {
    it(`is completed by the next process, after ${renames} of 4 renames`, async (t) => {
      const host = await backupHost(t);
      await filled(host);
      await cutOff(host, renames);
      const next = await host.again();
      assert.equal(await readFile(join(host.shared, 'data/orders.db'), 'utf8'), 'restored');
      assert.equal(await readFile(join(host.shared, 'conf/app.conf'), 'utf8'), 'restored');
      assert.equal(await readFile(join(host.data, 'services/orders/.replaced/0/orders.db'), 'utf8'), 'all orders');
      assert.equal(await readFile(join(host.data, 'services/orders/.replaced/1'), 'utf8'), 'color: blue');
      assert.ok(next.performers.RESTORE.holds('c-9'));
      const end = await next.performers.RESTORE.resume('c-9', () => undefined);
      assert.equal(end.outcome, 'SUCCEEDED');
      assert.match(end.message, /completed it when it was started again/);
      await nothingLeft(host);
    });
  }

  for (const phase of ['switching', 'switched'] as const) {
    it(`is as its journal says, where the agent ends when "${phase}" is to be written`, async (t) => {
      const inner = await openMemoryStore();
      const state = { failing: true };
      const store = new Proxy(inner, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name, target);
          if (name !== 'write') return typeof value === 'function' ? (value.bind(target) as unknown) : value;
          return (mutations: Parameters<Store['write']>[0]) => {
            const hit = mutations.some((one) => one.kind === 'put' && Buffer.from(one.value).includes(`"${phase}"`));
            return hit && state.failing ? Promise.reject(new Error('the agent ends')) : target.write(mutations);
          };
        },
      });
      const host = await backupHost(t, { store });
      await filled(host);
      const whole = await describeTree(host.shared);
      await host.backups.now('orders');
      await destroy(host);
      const destroyed = await describeTree(host.shared);
      await assert.rejects(restore(host.backups, { stop: true }), /the agent ends/);
      // Nothing is switched before it is written that it will be.
      assert.deepEqual(await describeTree(host.shared), phase === 'switching' ? destroyed : whole);
      state.failing = false;
      const next = await host.again();
      assert.deepEqual(await describeTree(host.shared), phase === 'switching' ? destroyed : whole);
      const end = await next.performers.RESTORE.resume('c-1', () => undefined);
      assert.equal(end.outcome, phase === 'switching' ? 'FAILED' : 'SUCCEEDED', end.message);
      await nothingLeft(host);
    });
  }

  it('is forgotten where nothing was switched', async (t) => {
    const host = await backupHost(t);
    await filled(host);
    const before = await describeTree(host.shared);
    await cutOff(host, 0);
    const documents = new Documents<{ phase: string }>(host.options.store, 'restore/');
    await documents.update('r-1', (journal) => journal && { ...journal, phase: 'staging' });
    const next = await host.again();
    assert.deepEqual(await describeTree(host.shared), before);
    const end = await next.performers.RESTORE.resume('c-9', () => undefined);
    assert.equal(end.outcome, 'FAILED');
    assert.match(end.message, /nothing of the service was changed: order it again/);
    await nothingLeft(host);
  });
});
