import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { readS3Settings } from '../../../../src/agent/backups/s3-settings.js';
import { silentLogger, type Logger } from '../../../../src/kit/logger.js';
import { backupHost, type BackupHost } from '../../../support/backups.js';
import { temporaryData } from '../../../support/linked-agent.js';
import { s3Server, s3Yaml, type S3Server } from '../../../support/s3-server.js';
import { waitFor } from '../../../support/waiting.js';

const POLICY = 'backup: { paths: [data], keep: { last: 1 }, copy: [s3] }';

/** Keeps everything that is logged, so that a test can look for keys in it. */
function listeningLogger(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = [];
  const note = (...said: unknown[]): void => {
    lines.push(inspect(said, { depth: 10 }));
  };
  return { lines, logger: { ...silentLogger, debug: note, info: note, warn: note, error: note } };
}

async function copying(
  t: TestContext,
  content: Buffer,
): Promise<{ host: BackupHost; server: S3Server; lines: string[] }> {
  const server = await s3Server(t);
  const { logger, lines } = listeningLogger();
  const host = await backupHost(t, { logger });
  host.services.declare('orders', POLICY);
  await mkdir(join(host.shared, 'data'));
  await writeFile(join(host.shared, 'data/orders.db'), content);
  return { host, server, lines };
}

async function writeSettings({ data }: BackupHost, text: string, mode = 0o600): Promise<void> {
  await writeFile(join(data, 's3.yaml'), text, { mode });
}

describe('copies in an S3 bucket', () => {
  it('are put, fetched when the archive is gone, and removed with their backup', async (t) => {
    const { host, server } = await copying(t, randomBytes(1000));
    await writeSettings(host, s3Yaml(server, server.secretKey));
    host.run();
    const { id } = await host.backups.now('orders');
    await waitFor('the copy', () => host.backups.list()[0]?.copies.length === 1);
    const key = `backups/muster/m-1/orders/${id}.tar.gz`;
    assert.deepEqual(host.backups.list()[0]?.copies, [`s3:${key}`]);
    assert.equal(host.backups.list()[0]?.status, 'OK');
    const archive = join(host.data, 'backups/orders', `${id}.tar.gz`);
    const bytes = await readFile(archive);
    assert.ok(server.objects.get(key)?.equals(bytes));
    assert.deepEqual(server.refused, []);
    await rm(archive);
    const end = await host.backups.performers.VERIFY_BACKUP.perform(
      {
        command: 'c-1',
        action: 'VERIFY_BACKUP',
        service: 'orders',
        backup: () => ({ backup: id, paths: [], aside: false }),
        expiresInMs: 1,
      },
      () => undefined,
    );
    assert.equal(end.outcome, 'SUCCEEDED', end.message);
    assert.ok((await readFile(archive)).equals(bytes));
    await host.backups.now('orders');
    await waitFor('the first copy to go', () => !server.objects.has(key) && server.objects.size === 1);
  });

  it('go in parts where the archive is large', async (t) => {
    const { host, server } = await copying(t, randomBytes(20 * 1_048_576));
    await writeSettings(host, s3Yaml(server, server.secretKey));
    host.run();
    const { id, bytes } = await host.backups.now('orders');
    assert.ok(bytes > 20 * 1_048_576);
    await waitFor('the copy', () => host.backups.list()[0]?.copies.length === 1);
    const archive = await readFile(join(host.data, 'backups/orders', `${id}.tar.gz`));
    assert.ok([...server.objects.values()][0]?.equals(archive));
    assert.equal(server.uploads.size, 0);
  });

  it('that fail make the backup a warning with why, are tried again, and tell nobody the keys', async (t) => {
    const { host, server, lines } = await copying(t, randomBytes(1000));
    await writeSettings(host, s3Yaml(server, 'wrong-secret-key'));
    host.run();
    await host.backups.now('orders');
    await waitFor('the problem', () => host.backups.list()[0]?.copyProblem !== '');
    const [backup] = host.backups.list();
    assert.equal(backup?.status, 'WARNING');
    assert.match(backup.copyProblem, /^s3: bucket backups at http:.*403/);
    assert.ok(server.refused.some((line) => line.includes('wrong signature')));
    await writeSettings(host, s3Yaml(server, server.secretKey));
    await waitFor('the copy', () => host.backups.list()[0]?.copies.length === 1);
    assert.equal(host.backups.list()[0]?.copyProblem, '');
    assert.equal(host.backups.list()[0]?.status, 'OK');
    const said = `${lines.join('\n')}${inspect(backup)}`;
    assert.ok(!said.includes('wrong-secret-key') && !said.includes(server.secretKey) && !said.includes('AKIDTEST'));
  });
});

describe('s3.yaml', () => {
  it('is refused when others can read it, is missing, or is wrong, without saying what is in it', async (t) => {
    const file = join(await temporaryData(t), 's3.yaml');
    const refused = async (expected: RegExp): Promise<void> => {
      await assert.rejects(readS3Settings(file), (error: Error) => {
        assert.match(error.message, expected);
        assert.ok(!error.message.includes('hush'), error.message);
        return true;
      });
      await rm(file, { force: true });
    };
    await refused(/s3.yaml is missing: write endpoint, bucket/);
    await writeFile(file, 'secret_key: hush', { mode: 0o644 });
    await refused(/others can read the keys in .*: chmod 600 it/);
    await writeFile(file, 'bucket: [hush', { mode: 0o600 });
    await refused(/is not YAML/);
    await writeFile(file, 'endpoint: hush\nbucket: backups\naccess_key: a\nsecret_key: hush\nhush: 1', { mode: 0o600 });
    await refused(/endpoint: expected a URL/);
    await writeFile(file, 'endpoint: https://s3\nbucket: backups\naccess_key: a\nsecret_key: hush', { mode: 0o600 });
    const settings = await readS3Settings(file);
    assert.equal(settings.prefix, 'muster/');
    assert.ok(!inspect(settings).includes('hush'));
  });
});
