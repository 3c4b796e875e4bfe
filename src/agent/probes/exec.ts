import { spawn, type ChildProcess } from 'node:child_process';
import type { Clock } from '../../kit/clock.js';
import { errnoOf, messageOf } from '../../kit/errors.js';
import { CHECK_OUTPUT_BYTES_MAX } from '../../model/instance.js';
import { cutStart, type Answer, type Probe, type Verdict } from './answer.js';

/** Output may still be in the pipes when a program has ended; whoever inherited them may hold them open for ever. */
const DRAIN_MS = 250;

export interface ExecTarget {
  /** Program and arguments. */
  readonly command: readonly string[];
  /** Absolute. */
  readonly directory: string;
  /** All of the program's environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * Runs a program in a process group of its own: exit code 0 passes, 1 warns, anything else fails, as plugins of Nagios do.
 * When it has ended or run out of time, what is left of its group is killed.
 */
export function execProbe(target: ExecTarget, clock: Clock): Probe {
  return (signal) =>
    new Promise<Answer>((resolve, reject) => {
      signal.throwIfAborted();
      const { child, failure } = launch(target);
      if (!child) {
        resolve({ verdict: 'fail', output: launchFailure(failure, target) });
        return;
      }
      const output = new Tail();
      child.stdout?.on('data', output.take);
      child.stderr?.on('data', output.take);
      const onAbort = (): void => {
        killGroup(child);
        closePipes(child);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      child.on('exit', () => {
        killGroup(child);
        const timer = clock.after(DRAIN_MS, () => {
          closePipes(child);
        });
        child.on('close', () => {
          timer.cancel();
        });
      });
      child.on('error', (error) => {
        signal.removeEventListener('abort', onAbort);
        resolve({ verdict: 'fail', output: launchFailure(error, target) });
      });
      child.on('close', (code, killedBy) => {
        signal.removeEventListener('abort', onAbort);
        if (signal.aborted) reject(signal.reason as Error);
        else resolve(judge({ code, killedBy }, output.text()));
      });
    });
}

function launch(target: ExecTarget): { child?: ChildProcess; failure?: unknown } {
  const [program = '', ...args] = target.command;
  try {
    const child = spawn(program, args, {
      cwd: target.directory,
      env: { ...target.environment },
      ...(target.uid === undefined ? {} : { uid: target.uid }),
      ...(target.gid === undefined ? {} : { gid: target.gid }),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      shell: false,
    });
    return { child };
  } catch (failure) {
    return { failure };
  }
}

function launchFailure(error: unknown, { command, directory }: ExecTarget): string {
  const program = command[0] ?? '';
  switch (errnoOf(error) ?? '') {
    case 'ENOENT':
      return `cannot run ${program}: there is no such program, or no directory ${directory}`;
    case 'EACCES':
      return `cannot run ${program}: the service's user may not execute it, or may not enter ${directory}`;
    case 'EPERM':
      return `cannot run ${program} as the service's user: the agent may not change its user`;
    default:
      return `cannot run ${program}: ${messageOf(error)}`;
  }
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ESRCH: the group is empty. EPERM: what is left of it has made itself another user's.
  }
}

function closePipes(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
}

function judge({ code, killedBy }: { code: number | null; killedBy: string | null }, text: string): Answer {
  if (code === null) return { verdict: 'fail', output: withNote(text, `ended by ${killedBy ?? 'a signal'}`) };
  const verdict: Verdict = code === 0 ? 'pass' : code === 1 ? 'warn' : 'fail';
  return { verdict, output: text === '' ? `exit code ${code}` : text };
}

function withNote(text: string, note: string): string {
  return text === '' ? note : `${note}\n${text}`;
}

/** The last CHECK_OUTPUT_BYTES_MAX bytes of what a program wrote; what comes before is dropped as it comes. */
export class Tail {
  #bytes: Buffer = Buffer.alloc(0);

  readonly take = (chunk: Buffer): void => {
    this.#bytes = cutStart(Buffer.concat([this.#bytes, chunk]), CHECK_OUTPUT_BYTES_MAX);
  };

  text(): string {
    return this.#bytes.toString().trim();
  }
}
