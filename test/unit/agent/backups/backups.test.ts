import assert from 'node:assert/strict';
import { appendFile, mkdir, readdir, readFile, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readManifestOf } from '../../../support/backup-reading.js';
import { backupHost, TREES } from '../../../support/backups.js';

describe('backing up', () => {
  it('keeps what the policy names, and says what it is: read back, with its size and digest', async (t) => {
    const { backups, shared, data, services } = await backupHost(t);
    services.declare('orders', 'backup: { paths: [data], exclude: ["*.tmp"], keep: { last: 3 } }');
    await mkdir(join(shared, 'data/deep'), { recursive: true });
    await writeFile(join(shared, 'data/orders.db'), 'all orders');
    await writeFile(join(shared, 'data/deep/x.tmp'), 'left out');
    await writeFile(join(shared, 'other'), 'not named');
    const backup = await backups.now('orders');
    assert.deepEqual(backup.problems, []);
    assert.equal(backup.status, 'OK');
    assert.equal(backup.trigger, 'MANUAL');
    assert.equal(backup.files, 1);
    assert.equal(backup.contentBytes, 10);
    assert.match(backup.id, /^\d{8}T\d{6}Z-[0-9a-z]{6}$/);
    assert.ok((backup.verifiedMs ?? 0) >= backup.startedMs);
    const archive = join(data, 'backups/orders', `${backup.id}.tar.gz`);
    assert.equal((await stat(archive)).size, backup.bytes);
    assert.deepEqual(await readdir(join(data, 'backups/orders')), [`${backup.id}.tar.gz`]);
    assert.equal((await stat(join(data, 'backups/orders'))).mode & 0o777, 0o700);
    assert.deepEqual(await readManifestOf(archive), ['data/orders.db']);
    assert.deepEqual(backups.list('orders'), [backup]);
  });

  it('says that a file changed while it was read', async (t) => {
    const host = await backupHost(t, {
      trees: {
        ...TREES,
        writeTree: async (source, out, options) => {
          const writing = TREES.writeTree(source, out, options);
          const state = { done: false };
          void writing.finally(() => (state.done = true));
          // Grows for as long as it is read.
          while (!state.done) {
            await appendFile(join(source.root, 'data/growing'), Buffer.alloc(65_536, 'x'));
            await new Promise((resolve) => setImmediate(resolve));
          }
          return writing;
        },
      },
    });
    await mkdir(join(host.shared, 'data'));
    await writeFile(join(host.shared, 'data/growing'), Buffer.alloc(30_000_000, 'a'));
    const backup = await host.backups.now('orders');
    assert.equal(backup.status, 'WARNING');
    assert.match(backup.problems.join(), /growing.*changed/);
  });

  it('never follows a link out of the shared directory', async (t) => {
    const { backups, shared, data } = await backupHost(t);
    await mkdir(join(data, 'secret'));
    await writeFile(join(data, 'secret/key'), 'secret');
    await symlink(join(data, 'secret'), join(shared, 'data'));
    const backup = await backups.now('orders');
    assert.equal(backup.files, 0);
    const within = await readManifestOf(join(data, 'backups/orders', `${backup.id}.tar.gz`)).catch(() => []);
    assert.ok(!within.some((path) => path.includes('key')), within.join());
  });

  it('fails where none of its paths is there, where the disk is too full, and keeps the good ones', async (t) => {
    let free = 1e12;
    const { backups, shared, data } = await backupHost(t, { freeBytes: () => Promise.resolve(free) });
    const missing = await backups.now('orders');
    assert.equal(missing.status, 'ERROR');
    assert.match(missing.problems[0] ?? '', /none of its paths is there: data below/);
    await mkdir(join(shared, 'data'));
    await writeFile(join(shared, 'data/a'), 'a');
    const good = await backups.now('orders');
    free = 1000;
    const full = await backups.now('orders');
    assert.equal(full.status, 'ERROR');
    assert.match(full.problems[0] ?? '', /are free for .* are needed: make room/);
    assert.deepEqual(await readdir(join(data, 'backups/orders')), [`${good.id}.tar.gz`]);
  });

  it('stops when the disk gets full meanwhile, and leaves nothing', async (t) => {
    let free = 1e12;
    const { backups, shared, data } = await backupHost(t, {
      freeBytes: () => Promise.resolve(free),
      trees: {
        ...TREES,
        writeTree: (_source, out, options) =>
          new Promise((_, reject) => {
            free = 0;
            void writeFile(out, 'half');
            options?.signal?.addEventListener('abort', () => {
              reject(options.signal?.reason as Error);
            });
          }),
      },
    });
    await mkdir(join(shared, 'data'));
    const backup = await backups.now('orders');
    assert.match(backup.problems[0] ?? '', /no space left/);
    assert.deepEqual(await readdir(join(data, 'backups/orders')), []);
  });

  it('is refused without a policy, and for a service that is not there', async (t) => {
    const { backups, services } = await backupHost(t);
    services.declare('web', '');
    await assert.rejects(backups.now('web'), /does not say what to back up: give it a backup section/);
    await assert.rejects(backups.now('nobody'), /there is no service "nobody"/);
    assert.equal(await backups.backupBefore('web', 'c-1'), undefined);
    assert.equal(await backups.backupBefore('nobody', 'c-1'), undefined);
  });

  it('keeps as many as the policy says, and what a release that is still held needs', async (t) => {
    const { backups, shared, services, run, data } = await backupHost(t);
    services.declare('orders', 'backup: { paths: [data], keep: { last: 2 } }');
    await mkdir(join(shared, 'data'));
    const before = await backups.backupBefore('orders', 'c-1');
    // Asked again, as a deploy that goes on does.
    assert.deepEqual(await backups.backupBefore('orders', 'c-1'), before);
    const release = { service: 'orders', version: '1.0.0', digest: '', modules: [], configRevision: 0 };
    services.set('orders', { version: '2.0.0', heldReleases: [release] });
    run();
    const made = [];
    for (let count = 0; count < 4; count += 1) made.push((await backups.now('orders')).id);
    const left = backups.list('orders').map(({ id }) => id);
    assert.deepEqual(left.sort(), [before?.backup ?? '', ...made.slice(2)].sort());
    await rm(join(data, 'nothing'), { force: true });
  });

  it('is not made before a deploy of a service without data yet, and fails the deploy where there was some', async (t) => {
    const { backups, shared } = await backupHost(t);
    assert.equal(await backups.backupBefore('orders', 'c-0'), undefined);
    await mkdir(join(shared, 'data'));
    await writeFile(join(shared, 'data/a'), 'a');
    await backups.now('orders');
    await rm(join(shared, 'data'), { recursive: true });
    await assert.rejects(
      backups.backupBefore('orders', 'c-1'),
      /the backup before the deploy failed, as what runs now asks for it: none of its paths/,
    );
  });
});

describe('what an earlier process of the agent left', () => {
  it('is no backup: half an archive is removed, and its record says why', async (t) => {
    const { backups, shared, data, again } = await backupHost(t, {
      trees: { ...TREES, verifyTree: () => new Promise(() => undefined) },
    });
    await mkdir(join(shared, 'data'));
    await writeFile(join(shared, 'data/a'), 'a');
    void backups.now('orders');
    const directory = join(data, 'backups/orders');
    while (!(await readdir(directory).catch(() => [])).some((name) => name.endsWith('.new'))) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    await writeFile(join(directory, 'other.tar.gz'), 'of somebody else');
    const next = await again({ trees: TREES });
    assert.deepEqual(await readdir(directory), ['other.tar.gz']);
    const [backup] = next.list();
    assert.equal(backup?.status, 'ERROR');
    assert.match(backup.problems[0] ?? '', /the agent ended while it was made/);
  });

  it('is found missing', async (t) => {
    const { backups, shared, data, again } = await backupHost(t);
    await mkdir(join(shared, 'data'));
    await writeFile(join(shared, 'data/a'), 'a');
    const { id } = await backups.now('orders');
    await rm(join(data, 'backups/orders', `${id}.tar.gz`));
    const [backup] = (await again()).list();
    assert.equal(backup?.status, 'ERROR');
    assert.match(backup.verifyProblem, /is gone from this machine/);
  });
});

describe('verifying', () => {
  it('finds every kind of damage, and says so of the backup', async (t) => {
    const { backups, shared, data } = await backupHost(t);
    await mkdir(join(shared, 'data'));
    await writeFile(join(shared, 'data/a'), Buffer.alloc(100_000, 'a'));
    const { id } = await backups.now('orders');
    const archive = join(data, 'backups/orders', `${id}.tar.gz`);
    const bytes = await readFile(archive);
    const verify = () =>
      backups.performers.VERIFY_BACKUP.perform(
        {
          command: `c-${bytes.length}`,
          action: 'VERIFY_BACKUP',
          service: 'orders',
          backup: () => ({ backup: id, paths: [], aside: false }),
          expiresInMs: 1000,
        },
        () => undefined,
      );
    assert.match((await verify()).message, /was read back: 1 file as its manifest says/);
    const flipped = Buffer.from(bytes);
    flipped[bytes.length >> 1] = (flipped[bytes.length >> 1] ?? 0) ^ 1;
    await writeFile(archive, flipped);
    const damaged = await verify();
    assert.equal(damaged.outcome, 'FAILED');
    assert.match(damaged.message, /is damaged/);
    assert.equal(backups.list('orders')[0]?.status, 'ERROR');
    await writeFile(archive, bytes);
    assert.equal((await verify()).outcome, 'SUCCEEDED');
    assert.equal(backups.list('orders')[0]?.status, 'OK');
    await truncate(archive, bytes.length - 20);
    assert.equal((await verify()).outcome, 'FAILED');
    await utimes(archive, 0, 0);
  });
});
