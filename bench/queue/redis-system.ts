import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Daemon } from './daemon.js';
import { RedisClient } from './redis-client.js';
import { output, System, type SystemKind } from './system.js';

/**
 * Redis with an append-only file that is synced before each answer. No snapshots beside it; it rewrites its file when it is told to. Reached by a
 * unix socket, as Muster is: that is faster than loopback.
 */
export const redis: SystemKind = {
  async version() {
    return / v=(\S+)/.exec((await output('redis-server', ['--version'])) ?? '')?.[1];
  },

  async make(directory): Promise<System> {
    const socket = join(directory, 'redis.sock');
    const data = join(directory, 'data');
    await mkdir(data);
    const endpoint = { client: 'redis', address: `unix:${socket}`, variant: '', credentials: '' } as const;
    const daemon = new Daemon({
      command: 'redis-server',
      args: [
        ...['--port', '0', '--unixsocket', socket, '--dir', data, '--daemonize', 'no'],
        ...['--appendonly', 'yes', '--appendfsync', 'always', '--no-appendfsync-on-rewrite', 'no', '--save', ''],
        ...['--auto-aof-rewrite-percentage', '0', '--loglevel', 'warning'],
      ],
      log: join(directory, 'redis.log'),
      // It listens while it still loads, and refuses until then.
      ready: async () => {
        await new RedisClient(endpoint).call('PING');
      },
    });
    return new System({ daemon, data, address: endpoint.address });
  },
};
