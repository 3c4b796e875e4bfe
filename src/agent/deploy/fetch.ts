import { createHash, type Hash } from 'node:crypto';
import { open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { Backoff } from '../../kit/backoff.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { formatDuration, formatSize } from '../../kit/durations.js';
import { errnoOf, isCode, messageOf, MusterError } from '../../kit/errors.js';
import { makeDirectory, syncDirectory } from '../../kit/files.js';
import type { Random } from '../../kit/random.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Artifact, SignedKind } from '../../model/release.js';
import type { Archives } from './archives.js';
import type { Places } from './places.js';
import type { Space } from './space.js';

/** Where archives come from. */
export interface ArtifactSource {
  /** The bytes from `offset` on. @throws as the call: not_found, unavailable ... */
  read(digest: string, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface FetchOptions {
  readonly places: Places;
  readonly archives: Pick<Archives, 'digest' | 'isSignedBy'>;
  readonly space: Space;
  readonly source: ArtifactSource;
  readonly clock: Clock;
  readonly random: Random;
}

/** What is fetched. */
export interface Wanted {
  readonly kind: SignedKind;
  readonly name: string;
  readonly version: string;
  readonly artifact: Artifact;
}

/** A center that sends nothing for so long has broken off. */
const SILENCE_MS = 30_000;
/** Without a byte for so long a fetch fails: whoever deployed should hear of it. */
export const PATIENCE_MS = 30 * 60_000;
const RETRY = { initialMs: 500, maxMs: 30_000, multiplier: 2 } as const;
/** What asking again does not change. */
const FINAL = ['not_found', 'denied', 'precondition', 'invalid', 'data_loss', 'unimplemented'] as const;

/** The digest of a file that this process has written from its first byte on; what another wrote before has to be read. */
class Written {
  readonly #hash: Hash = createHash('sha256');
  #bytes = 0;

  /** What was written behind `at`. */
  add(at: number, bytes: Uint8Array): void {
    if (at !== this.#bytes) return;
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
  }

  /** Undefined when it is not known. To be asked once. */
  digestOf(sizeBytes: number): string | undefined {
    return this.#bytes === sizeBytes ? this.#hash.digest('hex') : undefined;
  }
}

/** Downloads archives: gone on with where one broke off, digest and signature checked, each once. */
export class Fetcher {
  readonly #options: FetchOptions;
  readonly #turns = new KeyedMutex();

  constructor(options: FetchOptions) {
    this.#options = options;
  }

  /**
   * Resolves with the bytes that were downloaded now; 0: it was there. Waits for a center that is away.
   * @throws precondition for a signature that does not fit; data_loss for bytes that are not those of the digest; exhausted without room;
   *   unavailable when the center was away for PATIENCE_MS; what the center answers
   */
  async fetch(wanted: Wanted, signal: AbortSignal): Promise<number> {
    const { archives, places } = this.#options;
    const { kind, name, version, artifact } = wanted;
    const { digest, signature } = artifact;
    if (!archives.isSignedBy(kind, { name, version, digest }, signature)) {
      throw new MusterError(
        'precondition',
        `the signature of ${name} ${version} is not that of its key over this archive: push it again, signed`,
        { reason: 'SIGNATURE_INVALID' },
      );
    }
    await makeDirectory(places.artifacts, 0o700);
    return this.#turns.run(digest, () => this.#fetchOnce(wanted, signal));
  }

  /** Removes what was downloaded: what is unpacked does not need it. */
  async forget(digest: string): Promise<void> {
    await this.#turns.run(digest, async () => {
      await rm(this.#options.places.artifact(digest), { force: true });
      await rm(this.#options.places.part(digest), { force: true });
    });
  }

  async #fetchOnce(wanted: Wanted, signal: AbortSignal): Promise<number> {
    const { places } = this.#options;
    const { digest } = wanted.artifact;
    if (await this.#isWhole(places.artifact(digest), digest)) return 0;
    // What was left by an earlier process may have been damaged by a power loss: then once more from its beginning.
    for (let first = true; ; first = false) {
      const written = new Written();
      const got = await this.#download(wanted, written, signal);
      const known = written.digestOf(wanted.artifact.sizeBytes);
      if (known === undefined ? await this.#isWhole(places.part(digest), digest) : known === digest) {
        await rename(places.part(digest), places.artifact(digest));
        for (const directory of places.above(places.artifact(digest))) await syncDirectory(directory);
        return got;
      }
      await rm(places.part(digest), { force: true });
      if (first && got < wanted.artifact.sizeBytes) continue;
      throw new MusterError(
        'data_loss',
        `what the center sent for ${wanted.name} ${wanted.version} is not the archive ordered: push it again`,
        {
          reason: 'DIGEST_WRONG',
        },
      );
    }
  }

  async #isWhole(path: string, digest: string): Promise<boolean> {
    try {
      return (await this.#options.archives.digest(path)).digest === digest;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
  }

  /** Until the file is as long as the artifact. Resolves with the bytes that came. */
  async #download({ name, version, artifact }: Wanted, written: Written, signal: AbortSignal): Promise<number> {
    const { places, space, clock, random } = this.#options;
    const part = places.part(artifact.digest);
    const retry = new Backoff(RETRY, random);
    let got = 0;
    let heardMs = clock.monotonic();
    for (;;) {
      const offset = await lengthOf(part);
      if (offset === artifact.sizeBytes) return got;
      if (offset > artifact.sizeBytes) await rm(part, { force: true });
      await space.require(places.artifacts, `the archive of ${name} ${version}`, {
        bytes: artifact.sizeBytes - offset,
      });
      const before = got;
      const failure = await this.#append(part, artifact, {
        signal,
        onBytes: (at, bytes) => {
          written.add(at, bytes);
          got += bytes.length;
        },
      });
      signal.throwIfAborted();
      if (failure === undefined) continue;
      if (got > before) {
        heardMs = clock.monotonic();
        retry.reset();
      }
      // Half an archive must not hold space on a full disk.
      if (isFull(failure)) await rm(part, { force: true });
      giveUpOver(failure, clock.monotonic() - heardMs, `${name} ${version}`);
      await sleep(clock, retry.next(), signal);
    }
  }

  /** One call. What it throws, and a stream that ends too early, is the answer: what came until then is in the file. */
  async #append(
    part: string,
    { digest, sizeBytes }: Artifact,
    { signal, onBytes }: { readonly signal: AbortSignal; readonly onBytes: (at: number, bytes: Uint8Array) => void },
  ): Promise<unknown> {
    const call = new Silence(this.#options.clock, signal);
    let file: FileHandle | undefined;
    try {
      file = await open(part, 'a', 0o600);
      let at = (await file.stat()).size;
      for await (const bytes of this.#options.source.read(digest, at, call.signal)) {
        call.heard();
        if (at + bytes.length > sizeBytes) throw tooLong(sizeBytes);
        // All of them: a plain write may take fewer.
        await file.appendFile(bytes);
        onBytes(at, bytes);
        at += bytes.length;
      }
      await file.sync();
      return at < sizeBytes ? new MusterError('unavailable', 'the center ended the download too early') : undefined;
    } catch (error) {
      return error;
    } finally {
      call.end();
      await file?.close();
    }
  }
}

/** Ends a call in which nothing is heard for SILENCE_MS. */
class Silence {
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly signal: AbortSignal;
  #timer: ReturnType<Clock['after']>;

  constructor(clock: Clock, parent: AbortSignal) {
    this.#clock = clock;
    this.signal = AbortSignal.any([parent, this.#controller.signal]);
    this.#timer = this.#begin();
  }

  heard(): void {
    this.#timer.cancel();
    this.#timer = this.#begin();
  }

  end(): void {
    this.#timer.cancel();
  }

  #begin(): ReturnType<Clock['after']> {
    return this.#clock.after(SILENCE_MS, () => {
      this.#controller.abort(new MusterError('unavailable', 'the center has sent nothing for a while'));
    });
  }
}

async function lengthOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

function isFull(failure: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes(errnoOf(failure) ?? '');
}

function tooLong(sizeBytes: number): MusterError {
  return new MusterError('data_loss', `the center sends more than the ${formatSize(sizeBytes)} that were ordered`);
}

/** @throws the failure when asking again does not help, or did not for long */
function giveUpOver(failure: unknown, silentMs: number, what: string): void {
  if (!isCode(failure)) throw failure;
  if (isCode(failure, ...FINAL)) {
    throw new MusterError(failure.code, `the center does not give the archive of ${what}: ${failure.message}`, {
      cause: failure,
    });
  }
  if (silentMs < PATIENCE_MS) return;
  throw new MusterError(
    'unavailable',
    `the center was away for ${formatDuration(PATIENCE_MS)} before all of ${what} had come (${messageOf(failure)}): deploy again when it is back`,
    { reason: 'CENTER_AWAY', cause: failure },
  );
}
