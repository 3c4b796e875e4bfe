import { mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, MusterError } from '../kit/errors.js';
import { explainFullDisk, syncDirectory } from '../kit/files.js';
import { runJob, spoolOf, type Expected, type Job } from './jobs.js';
import { RELEASE_LIMITS, type ArchiveLimits } from './limits.js';

export interface Unpacked {
  readonly files: number;
  readonly unpackedBytes: number;
  /** By path, those of the files asked for that are there. */
  readonly texts: ReadonlyMap<string, string>;
}

export interface UnpackOptions {
  readonly limits?: ArchiveLimits | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Files whose content is wanted, at most TEXT_BYTES_MAX each. */
  readonly texts?: readonly string[];
  /** Paths that must not be in the archive, nor anything below them. */
  readonly forbidden?: readonly string[];
  /** What there is room for: an archive with more is refused. */
  readonly expected?: Expected | undefined;
}

/**
 * Unpacks an archive into a new directory (its parent must be there), in a worker thread with bounded memory and in one pass. Files are 0644 or
 * 0755 and directories 0755, all of this process's user. Resolves once all of it is durable; on failure there is no such directory.
 * @throws invalid naming the entry and what is wrong, exists when `into` is there, exhausted on a full disk, the signal's reason
 */
export async function unpackArchive(path: string, into: string, options: UnpackOptions = {}): Promise<Unpacked> {
  const { limits = RELEASE_LIMITS, texts = [], forbidden = [], expected, signal } = options;
  return (await intoNew(into, { kind: 'unpack', path, into, limits, texts, forbidden, expected }, signal)) as Unpacked;
}

/** Runs a job that fills the new directory `into`. */
export async function intoNew(into: string, job: Job, signal: AbortSignal | undefined): Promise<unknown> {
  signal?.throwIfAborted();
  await makeNew(into);
  try {
    const done = await runJob(job, signal);
    await syncDirectory(dirname(into));
    return done;
  } catch (error) {
    await rm(into, { recursive: true, force: true });
    throw error;
  }
}

/** Runs a job that writes the new file `out`. */
export async function ontoNew(out: string, job: Job, signal: AbortSignal | undefined): Promise<unknown> {
  signal?.throwIfAborted();
  try {
    await (await open(out, 'wx', 0o600)).close();
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw explainFullDisk(error, dirname(out));
    throw new MusterError('exists', `${out} is there: archives are written as new files`, { cause: error });
  }
  try {
    return await runJob(job, signal);
  } catch (error) {
    await rm(out, { force: true });
    await rm(spoolOf(out), { force: true });
    throw error;
  }
}

async function makeNew(into: string): Promise<void> {
  try {
    await mkdir(into, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw explainFullDisk(error, into);
    throw new MusterError('exists', `${into} is there: archives are unpacked into new directories`, { cause: error });
  }
}
