import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { CODES, MusterError, errnoOf, isCode, messageOf, type Code } from '../kit/errors.js';
import { onAbort } from '../kit/tasks.js';
import type { ArchiveLimits } from './limits.js';

/** Archives are read and written in a worker thread: its file calls wait, its hashing computes, and neither holds up this thread's others. */

/** Of JavaScript objects of one job: the paths of RELEASE_LIMITS.entriesMax entries fit. Bytes in passing are bounded by pieces. */
const HEAP_MB = 256;
const YOUNG_HEAP_MB = 4;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface UnpackJob {
  readonly kind: 'unpack';
  readonly path: string;
  /** Is there, and empty. */
  readonly into: string;
  readonly limits: ArchiveLimits;
  /** Files whose content is answered too. */
  readonly texts: readonly string[];
  /** Paths that must not be there, nor anything below them. */
  readonly forbidden: readonly string[];
  /** What its files take at most, as who ordered it was told; undefined: only the limits hold. */
  readonly expected: Expected | undefined;
}

/** Of the files of an archive. */
export interface Expected {
  readonly files: number;
  readonly bytes: number;
}

export interface WriteTreeJob {
  readonly kind: 'write-tree';
  readonly root: string;
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  /** Is there, and empty. */
  readonly out: string;
}

export interface VerifyTreeJob {
  readonly kind: 'verify-tree';
  readonly path: string;
  readonly digest: string | undefined;
}

export interface RestoreTreeJob {
  readonly kind: 'restore-tree';
  readonly path: string;
  /** Is there, and empty. */
  readonly into: string;
  /** None: all. */
  readonly paths: readonly string[];
  readonly owner: Owner | undefined;
}

export type Job = UnpackJob | WriteTreeJob | VerifyTreeJob | RestoreTreeJob;

/** Where a backup's manifest is while the backup is written. */
export function spoolOf(out: string): string {
  return `${out}.manifest`;
}

/** What a worker answers with; errors do not cross threads with their kind. */
export type JobAnswer =
  | { readonly done: unknown }
  | {
      readonly failed: {
        readonly message: string;
        readonly code: string | undefined;
        readonly reason: string | undefined;
      };
    };

/** @throws what the job throws, the signal's reason when it aborts; the thread has ended then */
export async function runJob(job: Job, signal: AbortSignal | undefined): Promise<unknown> {
  signal?.throwIfAborted();
  const worker = startWorker(job);
  const stop = onAbort(signal, () => void worker.terminate());
  try {
    const answer = await answerOf(worker);
    signal?.throwIfAborted();
    if ('done' in answer) return answer.done;
    throw revived(answer.failed);
  } finally {
    stop();
  }
}

/** Once the thread has ended: what it held open is closed then. */
function answerOf(worker: Worker): Promise<JobAnswer> {
  return new Promise((resolve) => {
    let answer: JobAnswer | undefined;
    worker.on('message', (message: JobAnswer) => {
      answer = message;
    });
    worker.on('error', (error) => {
      answer ??= failureOf(error);
    });
    worker.on('exit', () => {
      resolve(
        answer ?? failureOf(new MusterError('internal', 'the thread that worked on the archive has ended early')),
      );
    });
  });
}

export function failureOf(error: unknown): JobAnswer {
  if (errnoOf(error) === 'ERR_WORKER_OUT_OF_MEMORY') {
    return failureOf(new MusterError('exhausted', `the archive takes more than ${HEAP_MB} MB of memory to read`));
  }
  const code = isCode(error) ? error.code : errnoOf(error);
  return { failed: { message: messageOf(error), code, reason: isCode(error) ? error.reason : undefined } };
}

function revived({
  message,
  code,
  reason,
}: {
  message: string;
  code: string | undefined;
  reason: string | undefined;
}): Error {
  const ours = CODES.find((one): one is Code => one === code);
  if (ours !== undefined) return new MusterError(ours, message, reason === undefined ? {} : { reason });
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}

function startWorker(job: Job): Worker {
  const extension = extname(fileURLToPath(import.meta.url));
  const file = new URL(`./worker${extension}`, import.meta.url);
  const options: WorkerOptions = {
    workerData: job,
    // Nothing of this process but the job: neither its environment nor its arguments.
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: YOUNG_HEAP_MB },
  };
  if (extension === '.js') return new Worker(file, options);
  return new Worker(fromSource(file), { ...options, eval: true });
}

/** Node takes no TypeScript in a worker by the flags of its process: where this runs from its sources, the worker sets that up by itself. */
function fromSource(file: URL): string {
  const tsx = import.meta.resolve('tsx/esm/api');
  return `import(${JSON.stringify(tsx)}).then((tsx) => { tsx.register(); return import(${JSON.stringify(file.href)}); });`;
}
