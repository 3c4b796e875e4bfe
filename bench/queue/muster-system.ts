import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectClient } from './clients.js';
import { Daemon } from './daemon.js';
import { freePort } from './reach.js';
import type { System, SystemKind } from './system.js';

const ROOT = new URL('../../', import.meta.url);
const PROGRAM = fileURLToPath(new URL('bin/muster.js', ROOT));

/** The compiled program, run as anyone runs it, and reached by its unix socket. `MUSTER_BENCH_NODE` gives Node.js options, for example for a profile. */
export const muster: SystemKind = {
  version() {
    if (!existsSync(new URL('dist/src/queue/main.js', ROOT))) return Promise.resolve(undefined);
    const { version } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as { version: string };
    return Promise.resolve(version);
  },

  async make(directory): Promise<System> {
    const data = join(directory, 'data');
    await mkdir(data);
    const address = `unix:${join(data, 'queue.sock')}`;
    const flags = (process.env['MUSTER_BENCH_NODE'] ?? '').split(' ').filter((flag) => flag !== '');
    const daemon = new Daemon({
      command: process.execPath,
      args: [...flags, PROGRAM, 'queue', '--data', data, '--listen', `127.0.0.1:${await freePort()}`],
      log: join(directory, 'muster.log'),
      ready: () => answering(address),
    });
    return {
      data,
      get pid() {
        return daemon.pid;
      },
      start: () => {
        daemon.spawn();
        return daemon.ready();
      },
      spawnAgain: () => {
        daemon.spawn();
        return Promise.resolve();
      },
      stop: () => daemon.end('SIGTERM'),
      // A profile is written by a process that ends in good order.
      kill: () => daemon.end(flags.length > 0 ? 'SIGTERM' : 'SIGKILL'),
      endpoint: (client, variant) => ({ client, address, variant }),
    };
  },
};

async function answering(address: string): Promise<void> {
  const client = await connectClient({ client: 'muster-raw', address, variant: '' });
  try {
    await client.prepare('ready', []);
  } finally {
    await client.close();
  }
}
