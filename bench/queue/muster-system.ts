import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { muster as run } from '../../test/support/site.js';
import { Daemon } from './daemon.js';
import { prepareMuster } from './muster-raw-client.js';
import { connectable, freePort } from './reach.js';
import { System, type SystemKind } from './system.js';

const ROOT = new URL('../../', import.meta.url);
const PROGRAM = fileURLToPath(new URL('bin/muster.js', ROOT));

/** Options of Node.js for the queue's process, for example for a profile. */
const FLAGS = (process.env['MUSTER_BENCH_NODE'] ?? '').split(' ').filter((flag) => flag !== '');

async function version(): Promise<string | undefined> {
  if (!existsSync(new URL('dist/src/queue/main.js', ROOT))) return undefined;
  const { version: named } = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as { version: string };
  return Promise.resolve(named);
}

function daemonOf(directory: string, args: readonly string[], ready: () => Promise<void>): Daemon {
  const log = join(directory, `${args[0] ?? ''}.log`);
  return new Daemon({ command: process.execPath, args: [...FLAGS, PROGRAM, ...args], log, ready });
}

/** Muster's queue by itself, reached by its unix socket. */
export const muster: SystemKind = {
  version,

  async make(directory): Promise<System> {
    const data = join(directory, 'data');
    await mkdir(data);
    const address = `unix:${join(data, 'queue.sock')}`;
    const args = ['queue', '--data', data, '--listen', `127.0.0.1:${await freePort()}`];
    const daemon = daemonOf(directory, args, () => prepareMuster(address, 'ready', []));
    return new System({ daemon, data, address });
  },
};

/** Muster's queue as a part of a site, reached by loopback with mutual TLS as between machines. */
export const musterOverTls: SystemKind = {
  version,

  async make(directory): Promise<System> {
    const [data, centerData] = [join(directory, 'data'), join(directory, 'center')];
    const [center, address] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const centerDaemon = daemonOf(directory, ['center', '--data', centerData, '--listen', center], () =>
      connectable(center),
    );
    const daemon = daemonOf(directory, ['queue', '--data', data, '--listen', address], () => connectable(address));
    // Joining needs the center; it stays, because the queue keeps in touch with it.
    centerDaemon.spawn();
    await centerDaemon.ready();
    const socket = join(centerData, 'admin.sock');
    const env = { XDG_CONFIG_HOME: directory };
    const cli = async (...args: readonly string[]): Promise<string> => {
      const { status, stdout, stderr } = await run(args, { env });
      if (status !== 0) throw new Error(`muster ${args.join(' ')}: ${stderr.trim()}`);
      return stdout;
    };
    const token = async (...kind: readonly string[]): Promise<string> => {
      const answer = JSON.parse(await cli('--socket', socket, 'token', 'create', ...kind, '--json')) as {
        token: string;
      };
      return answer.token;
    };
    await cli('queue', 'join', center, '--token', await token('--queue'), '--name', 'bench', '--data', data);
    await cli('login', center, '--token', await token('--operator', 'bench'));
    const credentials = join(directory, 'muster', 'contexts', 'default');
    return new System({ daemon, data, address, credentials, helpers: [centerDaemon] });
  },
};
