import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { waitFor } from './waiting.js';

const SCRIPT = `set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journald.conf.d /run/systemd/journal
printf '[Journal]\\nStorage=volatile\\nRateLimitIntervalSec=0\\nRateLimitBurst=0\\nForwardToSyslog=no\\n' > /run/systemd/journald.conf.d/test.conf
exec env -i PATH="$PATH" /lib/systemd/systemd-journald
`;

/** systemd's journal alone, in a mount namespace with a /run of its own. Needs root, util-linux and systemd. */
export class Journald {
  /** How journalctl is called to read it. */
  readonly journalctl: readonly string[];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.journalctl = ['nsenter', '-t', String(child.pid), '-m', 'journalctl'];
  }

  static async start(): Promise<Journald> {
    const child = spawn('unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c', SCRIPT], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const journald = new Journald(child);
    const ready = 'test -S /run/systemd/journal/socket && journalctl --header';
    await waitFor('the journal', async () => (await journald.#inside(['/bin/sh', '-c', ready], '')) === 0);
    return journald;
  }

  /** Logs messages about a unit in order, as root may for a unit. */
  async log(unit: string, ...messages: string[]): Promise<void> {
    for (const message of messages) {
      const fields = message.split('\n').map((line) => `MESSAGE=${line}`);
      const text = [...fields, `OBJECT_SYSTEMD_UNIT=${unit}.service`, ''].join('\n');
      const code = await this.#inside(['logger', '--journald'], text);
      if (code !== 0) throw new Error('logger could not write to the journal');
    }
    await this.#inside(['journalctl', '--sync'], '');
  }

  /** Begins new files of the journal; keeps so many of the old ones. */
  async vacuum(files: number): Promise<void> {
    await this.#inside(['journalctl', '--rotate'], '');
    await this.#inside(['journalctl', `--vacuum-files=${files}`], '');
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }

  async #inside(command: readonly string[], stdin: string): Promise<number | null> {
    const child = spawn('nsenter', ['-t', String(this.#child.pid), '-m', ...command], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    const [code] = (await once(child, 'close')) as [number | null];
    return code;
  }
}
