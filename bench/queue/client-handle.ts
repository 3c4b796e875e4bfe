import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/kit/clock.js';
import { endWithBench } from './daemon.js';
import type { Figures, Job, Order, Report } from './job.js';

const PROGRAM = fileURLToPath(new URL('./client-process.ts', import.meta.url));
const ANSWER_MS = 30_000;

type Kind = Report['kind'];

/** A client process, as the bench sees it. A failure of the client rejects what is waited for then, or next. */
export class ClientHandle {
  readonly #child: ChildProcess;
  readonly #reports: Report[] = [];
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (message: Report) => {
      if (message.kind === 'failed') this.#failure ??= new Error(message.message);
      else this.#reports.push(message);
      this.#wake();
    });
    child.on('exit', () => {
      this.#failure ??= new Error('a client process ended');
      this.#wake();
    });
  }

  /** Started, loaded and waiting for begin(). */
  static async start(job: Job): Promise<ClientHandle> {
    const child = fork(PROGRAM, [], { execArgv: ['--import', 'tsx'], serialization: 'advanced' });
    endWithBench(child);
    const handle = new ClientHandle(child);
    child.send(job);
    await handle.#report('ready');
    return handle;
  }

  async begin(timeoutMs = ANSWER_MS): Promise<void> {
    this.order('begin');
    await this.#report('begun', timeoutMs);
  }

  async read(): Promise<Figures> {
    this.order('read');
    const report = await this.#report('figures');
    return report.figures;
  }

  /** Waits until all that was sent is acknowledged. */
  async finished(timeoutMs = ANSWER_MS): Promise<Figures> {
    const report = await this.#report('finished', timeoutMs);
    return report.figures;
  }

  order(order: Order): void {
    if (this.#child.connected) this.#child.send(order);
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  async #report<K extends Kind>(kind: K, timeoutMs = ANSWER_MS): Promise<Extract<Report, { kind: K }>> {
    const untilMs = systemClock.monotonic() + timeoutMs;
    const timer = systemClock.after(timeoutMs + 1, () => {
      this.#wake();
    });
    try {
      for (;;) {
        const at = this.#reports.findIndex((report) => report.kind === kind);
        if (at >= 0) return this.#reports.splice(at, 1)[0] as Extract<Report, { kind: K }>;
        if (this.#failure) throw this.#failure;
        if (systemClock.monotonic() > untilMs) throw new Error(`a client was not ${kind} within ${timeoutMs / 1000} s`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      timer.cancel();
    }
  }
}
