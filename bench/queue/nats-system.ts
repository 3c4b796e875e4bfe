import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Daemon } from './daemon.js';
import { connectable, freePort } from './reach.js';
import { output, System, type SystemKind } from './system.js';

/** First version whose file store can be told to sync each write. */
const SYNC_ALWAYS_SINCE = [2, 10];

async function versionOf(): Promise<string | undefined> {
  return /v(\d+\.\d+\.\S+)/.exec((await output('nats-server', ['--version'])) ?? '')?.[1];
}

function knowsSyncAlways(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [sinceMajor = 0, sinceMinor = 0] = SYNC_ALWAYS_SINCE;
  return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
}

/**
 * Makes every write below the directory synchronous: the attribute S is handed down to new files. What an older server, which syncs every two
 * minutes, needs to be as durable as the others.
 */
async function syncWrites(directory: string): Promise<void> {
  try {
    await output('chattr', ['+S', directory]);
  } catch (error) {
    throw new Error(
      'this file system knows no synchronous directories (chattr +S), and this nats-server cannot sync by itself',
      {
        cause: error,
      },
    );
  }
}

export const nats: SystemKind = {
  version: versionOf,

  async make(directory): Promise<System> {
    const port = await freePort();
    const data = join(directory, 'data');
    await mkdir(data);
    const always = knowsSyncAlways((await versionOf()) ?? '');
    if (!always) await syncWrites(data);
    const config = join(directory, 'nats.conf');
    await writeFile(
      config,
      `listen: 127.0.0.1:${port}
jetstream { store_dir: ${JSON.stringify(data)}, max_file_store: 100GB${always ? ', sync_interval: always' : ''} }
`,
    );
    const daemon = new Daemon({
      command: 'nats-server',
      args: ['-c', config],
      log: join(directory, 'nats.log'),
      ready: () => connectable(`127.0.0.1:${port}`),
    });
    return new System({ daemon, data, address: `127.0.0.1:${port}` });
  },
};
