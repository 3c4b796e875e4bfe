import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:net';

/** What the tests with real programs need of the machine they run on, and the small things they all do with it. */

/** Programs of the system are found where Debian keeps them, whatever the PATH of the user who runs the tests. */
export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const NEEDS = {
  root: () => process.getuid?.() === 0,
  ip: () => canRun('ip', '-V'),
  unshare: () => canRun('unshare', '--version'),
  nsenter: () => canRun('nsenter', '--version'),
  curl: () => canRun('curl', '--version'),
  nginx: () => existsSync('/etc/init.d/nginx') && existsSync('/usr/sbin/nginx'),
  journald: () => existsSync('/lib/systemd/systemd-journald') && canRun('journalctl', '--version'),
  'redis-server': () => canRun('redis-server', '--version'),
  systemd: () => existsSync('/lib/systemd/systemd') && existsSync('/sys/fs/cgroup/systemd/cgroup.procs'),
} as const satisfies Record<string, () => boolean>;

export type Need = keyof typeof NEEDS;

function canRun(program: string, ...args: string[]): boolean {
  return spawnSync(program, args, { env: { PATH: SYSTEM_PATH }, stdio: 'ignore' }).status === 0;
}

/** The `skip` of a test: false when all is there, else what is missing by name. */
export function unless(...needs: Need[]): string | false {
  const missing = needs.filter((need) => !NEEDS[need]());
  return missing.length === 0 ? false : `needs ${missing.join(', ')}`;
}

export interface Ran {
  /** Null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of the system to its end; what it answers is for the caller to judge. @throws when it cannot be run */
export async function system(...command: string[]): Promise<Ran> {
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    env: { ...process.env, PATH: SYSTEM_PATH },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk: Buffer) => {
      said[name] += chunk.toString('utf8');
    });
  }
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ...said };
}

/** Runs a program that must succeed. @throws with what it said */
export async function must(...command: string[]): Promise<string> {
  const ran = await system(...command);
  if (ran.status !== 0)
    throw new Error(`${command.join(' ')} ended with ${String(ran.status)}: ${ran.stderr}${ran.stdout}`);
  return ran.stdout;
}

/** A port nobody listens on now. */
export function freePort(host = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, host, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => {
        resolve(port);
      });
    });
  });
}

/** A configuration of nginx that touches nothing of the system's own: logs and temporary files in `directory`. */
export function nginxConfiguration(options: {
  readonly directory: string;
  readonly port: number;
  readonly pidFile: string;
}): string {
  const { directory, port, pidFile } = options;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `  ${name}_temp_path ${directory}/${name};`,
  );
  return [
    'user www-data;',
    'worker_processes 1;',
    `pid ${pidFile};`,
    `error_log ${directory}/error.log;`,
    'events { worker_connections 64; }',
    'http {',
    `  access_log ${directory}/access.log;`,
    ...temporary,
    `  server { listen 127.0.0.1:${port}; location / { return 200 "well\\n"; } }`,
    '}',
    '',
  ].join('\n');
}
