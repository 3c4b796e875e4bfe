import { spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { hasVariable, listPids } from '../../src/agent/services/proc.js';
import { readProcess } from '../../src/kit/proc.js';
import { waitFor } from './waiting.js';
import { programArgs } from './program.js';

const HOST = join(import.meta.dirname, 'services-host');

interface Said {
  readonly ready?: boolean;
  readonly services?: readonly { service: string; pid: number }[];
  /** Versions of releases, by service; empty for one that is run from none. */
  readonly deployed?: Readonly<Record<string, string>>;
  /** A line that was told, done, or failed with why. */
  readonly done?: string;
  readonly failed?: string;
  readonly why?: string;
  readonly service?: string;
  readonly state?: string;
  readonly pid?: number;
}

/** Supervision in a process of its own (services-host.ts), to be killed. */
export class ServicesHost {
  readonly said: Said[] = [];
  readonly #process: ChildProcess;

  constructor(data: string, slowMs = 0) {
    this.#process = spawn(process.execPath, programArgs(HOST, data, String(slowMs)), {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (this.#process.stdout) {
      createInterface({ input: this.#process.stdout }).on('line', (line) => this.said.push(JSON.parse(line) as Said));
    }
  }

  tell(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  async ready(): Promise<readonly { service: string; pid: number }[]> {
    return waitFor('the host', () => this.said.find((one) => one.ready)?.services);
  }

  /** Tells it and waits for the answer: why it failed, undefined where it did not. */
  async does(line: string): Promise<string | undefined> {
    const from = this.said.length;
    this.tell(line);
    const answer = await waitFor(`the end of "${line}"`, () =>
      this.said.slice(from).find(({ done, failed }) => done === line || failed === line),
    );
    return answer.why;
  }

  async runs(service: string): Promise<number> {
    return waitFor(`${service} to run`, () => {
      const last = this.said.filter((one) => one.service === service).at(-1);
      return last?.state === 'RUNNING' ? last.pid : undefined;
    });
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((done) => this.#process.once('exit', done));
    this.#process.kill('SIGKILL');
    await ended;
  }
}

/** Pids of the processes that carry this variable. */
export async function carriers(name: string, value: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await listPids()) if (await hasVariable(pid, name, value)) found.push(pid);
  return found;
}

/** Ends all processes of a test run, which carry it as TEST_RUN. */
export async function endAll(value: string): Promise<void> {
  for (const pid of await carriers('TEST_RUN', value)) {
    if (await readProcess(pid)) process.kill(pid, 'SIGKILL');
  }
}

/** Whether a signal waits for the process (proc_pid_status(5), SigPnd and ShdPnd), or it is on its way out. */
export async function isSignalled(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return status === '' || /^(?:SigPnd|ShdPnd):\s*0*[1-9a-f]/m.test(status) || /^State:\s*[XZ]/m.test(status);
}
