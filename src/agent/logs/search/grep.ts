import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { messageOf } from '../../../kit/errors.js';
import { onAbort } from '../../../kit/tasks.js';
import type { LogSearch } from '../../../model/log-search.js';
import { SYSTEM_ENVIRONMENT } from '../../system/external.js';

/** The system's grep over one log, in a process group of its own with bounds that the kernel holds. */

/** What grep reads: a file whose offset is moved by it, or bytes handed to it as it takes them. */
export interface GrepInput {
  readonly source: number | AsyncIterable<Buffer> | 'nothing';
  /** Bytes that are not searched, at the beginning; their lines are counted. */
  readonly skipBytes: number;
  /** Bytes searched behind those; undefined: all. */
  readonly takeBytes: number | undefined;
  readonly gzip: boolean;
}

export interface GrepOptions {
  readonly search: Pick<LogSearch, 'pattern' | 'regex' | 'ignoreCase' | 'before' | 'after'>;
  /** Matching lines after which it ends by itself. */
  readonly linesMax: number | undefined;
  readonly cpuMs: number;
  readonly signal: AbortSignal;
}

export interface GrepEnd {
  /** ok: the input was searched to its end, or to the last line wanted. killed: by this side. */
  readonly how: 'ok' | 'killed' | 'cpu' | 'memory' | 'failed';
  /** What it said, where it failed. */
  readonly message: string;
  /** Processor time, of decompressing too. */
  readonly cpuMs: number;
}

/** Address space of each process, KiB: a line that does not end, or a pattern that grows without end, meets it. */
export const MEMORY_KIB_MAX = 256 * 1024;
const NICENESS = '5';
const MESSAGE_CHARACTERS_MAX = 500;
const FACTS_CHARACTERS_MAX = 4096;
/** What the shell says when a program was ended by SIGXCPU. */
const CPU_EXCEEDED = 128 + 24;

/**
 * $1 memory, $2 seconds, $3 bytes to skip, $4 bytes to take (empty: all), $5 `gzip` or empty, then grep's arguments. Descriptor 3 takes the facts;
 * descriptor 4 ends when the agent does, however it ends, and then the whole group does.
 */
const SCRIPT = `
memory=$1 seconds=$2 skip=$3 take=$4 gzip=$5
shift 5
( read -r gone <&4; kill -KILL 0 ) </dev/null >/dev/null 2>&1 3>&- &
guard=$!
exec 4<&-
ulimit -c 0
ulimit -v "$memory"
ulimit -S -t "$seconds"
if [ "$skip" != 0 ]; then
  lines=$(head -c "$skip" | wc -l)
  echo "lines $lines" >&3
fi
if [ -n "$gzip" ]; then
  { gzip -dc; echo "gzip $?" >&3; } | "$@"
elif [ -n "$take" ]; then
  head -c "$take" | "$@"
else
  "$@"
fi
code=$?
kill -KILL "$guard" 2>/dev/null
times >&3
exit "$code"
`;

/** Arguments of grep for a search; what is searched comes by standard input. */
export function grepArguments(search: GrepOptions['search'], linesMax: number | undefined): string[] {
  const { pattern, regex, ignoreCase, before, after } = search;
  return [
    'grep',
    '-a',
    '--line-buffered',
    '-n',
    '-b',
    regex ? '-E' : '-F',
    ...(ignoreCase ? ['-i'] : []),
    ...(before > 0 ? ['-B', String(before)] : []),
    ...(after > 0 ? ['-A', String(after)] : []),
    ...(linesMax === undefined ? [] : ['-m', String(linesMax)]),
    '-e',
    pattern,
  ];
}

/** Bytes are compared where that is the same: it is much faster. */
export function grepLocale({ pattern, regex, ignoreCase }: GrepOptions['search']): string {
  const plain = /^[\x20-\x7e\t]*$/.test(pattern);
  if (!regex) return ignoreCase && !plain ? 'C.UTF-8' : 'C';
  return plain && !/[.[\\]/.test(pattern) ? 'C' : 'C.UTF-8';
}

export class Grep {
  readonly ended: Promise<GrepEnd>;
  readonly #child: ChildProcess;
  readonly #stdout: Readable;
  readonly #facts = new Facts();
  #stopped = false;
  #feeding: { readonly error: unknown } | undefined;

  constructor(input: GrepInput, options: GrepOptions) {
    const { source } = input;
    const stdin = typeof source === 'number' ? source : source === 'nothing' ? 'ignore' : 'pipe';
    this.#child = spawn('nice', ['-n', NICENESS, 'sh', '-c', SCRIPT, 'sh', ...scriptArguments(input, options)], {
      stdio: [stdin, 'pipe', 'pipe', 'pipe', 'pipe'],
      env: { ...SYSTEM_ENVIRONMENT, LANG: 'C', LC_ALL: grepLocale(options.search) },
      cwd: '/',
      detached: true,
    });
    const [, stdout, stderr, facts, guard] = this.#child.stdio;
    this.#stdout = stdout as Readable;
    // Without a listener Node.js would throw away what nobody has read when the child ends.
    this.#stdout.on('readable', () => undefined);
    const message = new Tail(MESSAGE_CHARACTERS_MAX);
    collect(stderr as Readable, (text) => {
      message.push(text);
    });
    collect(facts as Readable, (text) => {
      this.#facts.push(text);
    });
    collect(guard as Readable, () => undefined);
    if (this.#child.stdin && typeof source === 'object') void this.#feed(this.#child.stdin, source);
    const release = onAbort(options.signal, () => {
      this.kill();
    });
    this.ended = this.#end(message, guard as Readable).finally(release);
    if (input.skipBytes === 0) this.#facts.lines(0);
  }

  /** What it printed, as it is taken: nobody reads ahead, so a slow reader holds it back. Leaving the loop ends it. */
  async *output(): AsyncGenerator<Buffer> {
    let ended = false;
    try {
      for await (const chunk of this.#stdout) yield chunk as Buffer;
      ended = true;
    } catch (error) {
      if (!this.#stopped) throw error;
    } finally {
      if (!ended) this.kill();
    }
  }

  /** Nobody wants to read what it prints. */
  discard(): void {
    this.#stdout.destroy();
  }

  /** Lines in the bytes that were skipped. */
  get linesBefore(): Promise<number> {
    return this.#facts.linesBefore;
  }

  /** How gzip ended; undefined where it was not needed or has not ended. */
  get gzipCode(): number | undefined {
    return this.#facts.gzipCode;
  }

  /** Why its input ended early. */
  get feedError(): unknown {
    return this.#feeding?.error;
  }

  /** Ends all of its processes at once, also those that have printed all and wait for nobody to read it. */
  kill(): void {
    this.#stdout.destroy();
    if (this.#stopped || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#stopped = true;
    const { pid } = this.#child;
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }

  async #feed(stdin: Writable, source: AsyncIterable<Buffer>): Promise<void> {
    const gone = new AbortController();
    stdin.on('error', () => {
      gone.abort();
    });
    stdin.on('close', () => {
      gone.abort();
    });
    try {
      for await (const chunk of source) {
        if (gone.signal.aborted) break;
        if (!stdin.write(chunk)) await once(stdin, 'drain', { signal: gone.signal });
      }
    } catch (error) {
      if (!gone.signal.aborted) this.#feeding = { error };
    } finally {
      stdin.end();
    }
  }

  async #end(message: Tail, guard: Readable): Promise<GrepEnd> {
    let failure = '';
    this.#child.on('error', (error) => {
      failure = messageOf(error);
      this.#facts.lines(0);
    });
    const closed = new Promise<void>((resolve) => {
      this.#child.on('close', () => {
        resolve();
      });
    });
    await Promise.race([
      closed,
      new Promise<void>((resolve) =>
        this.#child.on('exit', () => {
          resolve();
        }),
      ),
    ]);
    guard.destroy();
    this.#facts.lines(0);
    await closed;
    const { exitCode } = this.#child;
    const text = failure === '' ? message.text : failure;
    return { how: this.#how(exitCode, text), message: text, cpuMs: this.#facts.cpuMs };
  }

  #how(code: number | null, message: string): GrepEnd['how'] {
    if (this.#stopped) return 'killed';
    if (code === 0 || code === 1) return 'ok';
    if (code === CPU_EXCEEDED) return 'cpu';
    if (/memory exhausted|stack overflow/i.test(message)) return 'memory';
    return 'failed';
  }
}

function scriptArguments(input: GrepInput, { search, linesMax, cpuMs }: GrepOptions): string[] {
  const { skipBytes, takeBytes, gzip } = input;
  return [
    String(MEMORY_KIB_MAX),
    String(Math.max(1, Math.ceil(cpuMs / 1000))),
    String(skipBytes),
    takeBytes === undefined ? '' : String(takeBytes),
    gzip ? 'gzip' : '',
    ...grepArguments(search, linesMax),
  ];
}

function collect(stream: Readable, take: (text: string) => void): void {
  stream.setEncoding('utf8');
  stream.on('data', take);
  stream.on('error', () => undefined);
}

/** The end of a text, as much of it as is wanted. */
class Tail {
  readonly #charactersMax: number;
  #text = '';

  constructor(charactersMax: number) {
    this.#charactersMax = charactersMax;
  }

  get text(): string {
    return this.#text.trim();
  }

  push(text: string): void {
    this.#text = (this.#text + text).slice(-this.#charactersMax);
  }
}

/** What the script tells beside grep's output: `lines N`, `gzip N`, and last its processor times. */
class Facts {
  readonly linesBefore: Promise<number>;
  lines: (count: number) => void = () => undefined;
  gzipCode: number | undefined;
  cpuMs = 0;
  #text = '';

  constructor() {
    this.linesBefore = new Promise((resolve) => {
      this.lines = resolve;
    });
  }

  push(text: string): void {
    this.#text = (this.#text + text).slice(-FACTS_CHARACTERS_MAX);
    const lines = /^lines\s+(\d+)$/m.exec(this.#text)?.[1];
    if (lines !== undefined && this.#text.includes('\n')) this.lines(Number(lines));
    const gzip = /^gzip (\d+)$/m.exec(this.#text)?.[1];
    if (gzip !== undefined) this.gzipCode = Number(gzip);
    this.cpuMs = [...this.#text.matchAll(/(\d+)m(\d+(?:\.\d+)?)s/g)].reduce(
      (sum, [, minutes, seconds]) => sum + Number(minutes) * 60_000 + Number(seconds) * 1000,
      0,
    );
  }
}
