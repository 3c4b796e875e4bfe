import { mkdir, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Daemon } from './daemon.js';
import { connectable, freePort } from './reach.js';
import { output, System, type SystemKind } from './system.js';

/** The scripts of Debian's package beside those on PATH: these run as whoever starts them, without `su`. */
const PROGRAM = '/usr/lib/rabbitmq/bin/rabbitmq-server';

/**
 * RabbitMQ as one node, with a port mapper (epmd) of its own. Persistent messages are synced before they are confirmed; the log of quorum queues
 * always is.
 */
export const rabbit: SystemKind = {
  async version() {
    const status = await output('dpkg-query', ['-W', '-f', '${db:Status-Status} ${Version}', 'rabbitmq-server']).catch(
      () => '',
    );
    const [state, version] = (status ?? '').split(' ');
    return state === 'installed' ? version?.split('-')[0] : undefined;
  },

  async make(directory): Promise<System> {
    const [port, distribution, mapper] = [await freePort(), await freePort(), await freePort()];
    const data = join(directory, 'data');
    await mkdir(data);
    const config = join(directory, 'rabbitmq.conf');
    await writeFile(config, `listeners.tcp.1 = 127.0.0.1:${port}\n`);
    await writeFile(join(directory, 'enabled_plugins'), '[].\n');
    const env = {
      HOME: directory,
      ERL_EPMD_PORT: String(mapper),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `bench-${port}@${hostname().split('.')[0] ?? 'localhost'}`,
      RABBITMQ_DIST_PORT: String(distribution),
      RABBITMQ_MNESIA_BASE: data,
      RABBITMQ_LOG_BASE: directory,
      RABBITMQ_CONFIG_FILE: config,
      RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      RABBITMQ_PID_FILE: join(directory, 'pid'),
      // The script becomes the server instead of waiting beside it.
      RUNNING_UNDER_SYSTEMD: 'true',
    };
    const names = new Daemon({
      command: 'epmd',
      args: ['-port', String(mapper), '-address', '127.0.0.1'],
      log: join(directory, 'epmd.log'),
      ready: () => connectable(`127.0.0.1:${mapper}`),
    });
    const daemon = new Daemon({
      command: PROGRAM,
      args: [],
      env,
      log: join(directory, 'rabbitmq.log'),
      ready: () => connectable(`127.0.0.1:${port}`),
    });
    return new System({ daemon, data, address: `127.0.0.1:${port}`, helpers: [names] });
  },
};
