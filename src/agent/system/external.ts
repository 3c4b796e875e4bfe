import { spawn } from 'node:child_process';
import type { Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';

/** Programs the agent calls: a list of arguments, never a shell; their own process group; a time limit. */

export interface External {
  readonly command: readonly string[];
  readonly timeoutMs: number;
  /** Descriptors it gets. Output that has none is collected: not for a program whose daemons may inherit it. */
  readonly stdin?: number;
  readonly stdout?: number;
  readonly stderr?: number;
  /** Its descriptor 3. */
  readonly extra?: number;
  readonly environment?: Readonly<Record<string, string>>;
}

export interface ExternalResult {
  /** Undefined when it could not be run, was killed or ran out of time. */
  readonly code: number | undefined;
  /** At most OUTPUT_BYTES_MAX bytes of what it printed, or why it could not be run. */
  readonly output: string;
  readonly timedOut: boolean;
}

const OUTPUT_BYTES_MAX = 16 * 1024;
/** Output may still be in the pipe when the program has ended; whoever inherited it may hold it open for ever. */
const DRAIN_MS = 250;

/** PATH and LANG for programs of the system, whatever the agent's own environment is. */
export const SYSTEM_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
};

/** Runs it to its end. Never rejects. */
export function runExternal(clock: Clock, external: External): Promise<ExternalResult> {
  const [program = '', ...args] = external.command;
  const { stdin = 'ignore', stdout = 'pipe', stderr = 'pipe', extra = 'ignore' } = external;
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      stdio: [stdin, stdout, stderr, extra],
      env: { ...SYSTEM_ENVIRONMENT, ...external.environment },
      cwd: '/',
      detached: true,
    });
    const chunks: Buffer[] = [];
    let kept = 0;
    let timedOut = false;
    const take = (chunk: Buffer): void => {
      const room = OUTPUT_BYTES_MAX - kept;
      if (room > 0) chunks.push(chunk.subarray(0, room));
      kept += Math.min(chunk.length, Math.max(room, 0));
    };
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    const limit = clock.after(external.timeoutMs, () => {
      timedOut = true;
      if (child.pid !== undefined) killQuietly(child.pid);
    });
    const finish = (code: number | undefined, text: string): void => {
      limit.cancel();
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve({ code, output: text, timedOut });
    };
    const collected = (): string => Buffer.concat(chunks).toString('utf8').trim();
    child.on('error', (error) => {
      finish(undefined, messageOf(error));
    });
    child.on('exit', (code) => {
      const drain = clock.after(DRAIN_MS, () => {
        finish(timedOut ? undefined : (code ?? undefined), collected());
      });
      child.on('close', () => {
        drain.cancel();
        finish(timedOut ? undefined : (code ?? undefined), collected());
      });
    });
  });
}

function killQuietly(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}
