import { stat } from 'node:fs/promises';
import { Backoff } from '../kit/backoff.js';
import { sleep, type Clock } from '../kit/clock.js';
import { messageOf, MusterError } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Random } from '../kit/random.js';
import { certificateRequest, generateKey } from '../rpc/certificate-request.js';
import type { Identity, IdentitySource } from '../rpc/identity.js';
import { fits, type IdentityFiles, type StoredIdentity } from './files.js';
import type { Membership } from './party.js';
import { problemOf, renewAtMs, validityOf, type Validity } from './validity.js';
import type { SignedCertificate } from './wire.js';

/** Asks the center for a certificate; the request is PKCS#10, DER. */
export type Signer = (request: Uint8Array, signal: AbortSignal) => Promise<SignedCertificate>;

export interface MemberIdentityOptions<M extends Membership> {
  readonly files: IdentityFiles<M>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

interface Held<M extends Membership> {
  readonly stored: StoredIdentity<M>;
  readonly validity: Validity;
}

/** The wall clock may jump and machines sleep, so the time to renew is looked at this often at least. */
const LOOK_INTERVAL_MS = 60_000;
const LOOK_SHORTEST_MS = 1000;
const RETRY_INITIAL_MS = 1000;
const RETRY_MAX_MS = 300_000;

/**
 * Who a member is: nobody before it has joined, then a member of a site with a certificate that renews itself.
 * Notices a (new) join done by another process while the server runs.
 */
export class MemberIdentity<M extends Membership> implements IdentitySource {
  readonly #options: MemberIdentityOptions<M>;
  readonly #listeners = new Set<(identity: Identity) => void>();
  #held: Held<M> | undefined;
  #readMtimeMs: number | undefined;
  #damage: string | undefined;

  constructor(options: MemberIdentityOptions<M>) {
    this.#options = options;
  }

  /** Undefined until it has joined. */
  get membership(): M | undefined {
    return this.#held?.stored.membership;
  }

  /** When the certificate ends, wall-clock milliseconds; undefined until it has joined. */
  get expiresMs(): number | undefined {
    return this.#held?.validity.untilMs;
  }

  /** @throws precondition before it has joined */
  current(): Identity {
    if (this.#held) return this.#held.stored.identity;
    throw new MusterError('precondition', this.#words.notJoined, { reason: 'NOT_JOINED' });
  }

  onChange(listener: (identity: Identity) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Why the center cannot be called with this identity now, and what to do; undefined when it can. */
  problem(): string | undefined {
    if (this.#damage !== undefined) return this.#damage;
    if (!this.#held) return this.#words.notJoined;
    const { name } = this.#held.stored.membership;
    return problemOf(this.#held.validity, this.#options.clock.now(), { name, words: this.#words });
  }

  /**
   * Reads the files where they were written since the last reading. Returns whether the identity is another one now.
   * Files that do not fit together are a problem(), not a failure: the server goes on with what it holds.
   */
  async refresh(): Promise<boolean> {
    const { files, logger } = this.#options;
    const mtimeMs = await modifiedMs(files.membershipFile);
    if (mtimeMs === this.#readMtimeMs) return false;
    this.#readMtimeMs = mtimeMs;
    try {
      const stored = await files.load();
      this.#damage = undefined;
      if (!stored) return false;
      this.#take(stored);
      return true;
    } catch (error) {
      this.#damage = messageOf(error);
      logger.error(`the identity of ${this.#words.whose} cannot be used`, { error });
      return false;
    }
  }

  /** Renews the certificate at two thirds of its lifetime, trying again until it succeeds, until the signal aborts. */
  async keepRenewed(sign: Signer, signal: AbortSignal): Promise<void> {
    const { clock, random, logger } = this.#options;
    const jitter = random.next();
    let retry = this.#retry(RETRY_MAX_MS);
    for (;;) {
      const dueMs = this.#dueMs(jitter) - clock.now();
      if (dueMs > 0 || this.problem() !== undefined) {
        await this.pause(Math.max(Math.min(dueMs, LOOK_INTERVAL_MS), LOOK_SHORTEST_MS), signal);
        continue;
      }
      try {
        await this.#renew(sign, signal);
        retry = this.#retry(RETRY_MAX_MS);
      } catch (error) {
        if (signal.aborted) return;
        logger.warn('the certificate could not be renewed yet', {
          error,
          expires: new Date(this.expiresMs ?? 0).toISOString(),
        });
        await sleep(clock, Math.min(retry.next(), this.#remainingMs() / 4), signal);
      }
    }
  }

  /** As sleep, but another identity ends it at once. @throws the signal's reason */
  async pause(delayMs: number, signal: AbortSignal): Promise<void> {
    const changed = new AbortController();
    const stop = this.onChange(() => {
      changed.abort();
    });
    try {
      await sleep(this.#options.clock, delayMs, AbortSignal.any([signal, changed.signal]));
    } catch (error) {
      if (signal.aborted) throw error;
    } finally {
      stop();
    }
  }

  get #words(): IdentityFiles<M>['party']['words'] {
    return this.#options.files.party.words;
  }

  async #renew(sign: Signer, signal: AbortSignal): Promise<void> {
    const { files, logger, clock } = this.#options;
    const before = this.#held;
    const key = await generateKey();
    await files.writeNextKey(key, 'renew');
    const signed = await sign(certificateRequest(key), signal);
    if (!fits(signed.certificate, key.reveal())) {
      throw new MusterError('internal', 'the center answered with a certificate for another key');
    }
    // A join that another process did meanwhile wins: its files are newer than this answer.
    if ((await this.refresh()) || !before) return;
    await files.writeCertificate(signed.certificate, signed.ca, 'renew');
    const identity = {
      ...before.stored.identity,
      certificatePem: signed.certificate,
      caPem: signed.ca,
      privateKeyPem: key,
    };
    this.#take({ membership: before.stored.membership, identity, obtainedMs: clock.now() });
    logger.info('certificate renewed', { expires: new Date(this.expiresMs ?? 0).toISOString() });
  }

  #take(stored: StoredIdentity<M>): void {
    this.#held = { stored, validity: validityOf(stored.identity.certificatePem) };
    for (const listener of [...this.#listeners]) listener(stored.identity);
  }

  #dueMs(jitter: number): number {
    return this.#held ? renewAtMs(this.#held.validity, this.#held.stored.obtainedMs, jitter) : Infinity;
  }

  #remainingMs(): number {
    return Math.max((this.expiresMs ?? 0) - this.#options.clock.now(), 4 * RETRY_INITIAL_MS);
  }

  #retry(maxMs: number): Backoff {
    return new Backoff({ initialMs: RETRY_INITIAL_MS, maxMs, multiplier: 2 }, this.#options.random);
  }
}

async function modifiedMs(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch {
    return undefined;
  }
}
