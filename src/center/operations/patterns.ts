import { execFile } from 'node:child_process';
import { MusterError } from '../../kit/errors.js';
import type { LogSearch } from '../../model/log-search.js';

/** Less than an agent gives: what does not fit here is left to the agents, which say it of each machine. */
const CPU_SECONDS = 1;
const MEMORY_KIB = 128 * 1024;
const LIMIT_MS = 3000;
const TRIES_MAX = 4;
const OUTPUT_BYTES_MAX = 4096;
/** Of grep, for an expression it refuses, and for some troubles of its own. */
const GREP_REFUSED = 2;
const OWN_TROUBLE = /memory exhausted|stack overflow|write error|input file/i;

/** The pattern is an argument of grep, and never part of what the shell reads. */
const SCRIPT = `
ulimit -c 0
ulimit -v ${MEMORY_KIB}
ulimit -t ${CPU_SECONDS}
exec nice -n 5 grep "$@"
`;

/** Asks the center's own grep about expressions, so that a bad one is refused before machines are asked. */
export class Patterns {
  #trying = 0;

  /** Says nothing of what could not be tried. @throws invalid for an expression that grep refuses */
  async check({ pattern, regex }: Pick<LogSearch, 'pattern' | 'regex'>): Promise<void> {
    if (!regex || this.#trying >= TRIES_MAX) return;
    this.#trying += 1;
    const refusal = await refusalOf(pattern).finally(() => {
      this.#trying -= 1;
    });
    if (refusal === undefined) return;
    const fields = [{ field: 'pattern', description: refusal }];
    throw new MusterError('invalid', `this pattern cannot be searched for: ${refusal}`, { reason: 'PATTERN', fields });
  }
}

/** What grep says against it, asked with nothing to search. Never rejects. */
function refusalOf(pattern: string): Promise<string | undefined> {
  const args = ['-c', SCRIPT, 'sh', '-a', '-E', '-e', pattern];
  // In the language and the encoding that agents search in.
  const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C', LC_ALL: 'C.UTF-8' };
  const options = {
    env,
    cwd: '/',
    timeout: LIMIT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: OUTPUT_BYTES_MAX,
  } as const;
  return new Promise((resolve) => {
    const child = execFile('sh', args, options, (error, _stdout, stderr) => {
      const said = stderr.trim();
      const refused = error?.code === GREP_REFUSED && said.startsWith('grep: ') && !OWN_TROUBLE.test(said);
      resolve(refused ? said : undefined);
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end();
  });
}
