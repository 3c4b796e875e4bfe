import { createHash, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';
import { newSecret } from '../../kit/ids.js';
import { Secret } from '../../kit/secret.js';
import type { Mutation } from '../../store/port.js';
import { formatToken, parseToken } from '../../model/token.js';
import type { Table } from '../table.js';

export type TokenKind = 'agent' | 'operator' | 'queue';

/** A join token as it is stored: never its secret, only the secret's hash. */
export interface TokenRecord {
  readonly id: string;
  /** SHA-256 of the secret, hex. */
  readonly hash: string;
  readonly kind: TokenKind;
  /** The only name that may use it; empty: any. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly createdBy: string;
  /** Set once it was used; it is kept for a while so that a second use can be told from a guess. */
  readonly usedMs?: number;
}

export interface TokenOrder {
  readonly kind: TokenKind;
  /** Undefined: TOKEN_LIFETIME_MS. */
  readonly lifetimeMs: number | undefined;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdBy: string;
}

export const TOKEN_LIFETIME_MS = 15 * 60_000;
export const TOKEN_LIFETIME_MAX_MS = 7 * 24 * 3_600_000;
/** Used and expired tokens are remembered this long, to say what they were. */
const REMEMBERED_MS = 7 * 24 * 3_600_000;
const TOKENS_MAX = 10_000;

const NEXT_STEP = 'make a new one with `muster token create` on the center';

function hashOf(secret: Secret): string {
  return createHash('sha256').update(secret.reveal()).digest('hex');
}

/** The id is a part of the hash: it finds the record without saying anything about the rest of the hash. */
function idOf(hash: string): string {
  return `t-${hash.slice(0, 16)}`;
}

/** Single-use tokens: made, looked at, and used up in the same batch as what they were used for. */
export class Tokens {
  readonly #table: Table<TokenRecord>;
  readonly #caHash: string;
  readonly #clock: Clock;

  constructor(options: { table: Table<TokenRecord>; caHash: string; clock: Clock }) {
    this.#table = options.table;
    this.#caHash = options.caHash;
    this.#clock = options.clock;
  }

  /**
   * Makes a token. Its text is given out here and nowhere else.
   * @throws invalid for a lifetime out of bounds; exhausted when too many are waiting to be used
   */
  async create(order: TokenOrder): Promise<{ text: Secret; record: TokenRecord }> {
    const lifetimeMs = order.lifetimeMs ?? TOKEN_LIFETIME_MS;
    if (!(lifetimeMs > 0 && lifetimeMs <= TOKEN_LIFETIME_MAX_MS)) {
      throw new MusterError(
        'invalid',
        `a token lives at most ${formatDuration(TOKEN_LIFETIME_MAX_MS)}: choose a lifetime above 0 up to that`,
        {
          reason: 'TOKEN_LIFETIME',
          fields: [{ field: 'lifetime', description: 'above 0, at most 7 days' }],
        },
      );
    }
    await this.#forgetOld();
    if (this.#table.size >= TOKENS_MAX) {
      throw new MusterError('exhausted', `there are ${TOKENS_MAX} tokens: revoke some, or let them expire`, {
        reason: 'TOKENS_MAX',
      });
    }
    const secret = new Secret(newSecret());
    const hash = hashOf(secret);
    const nowMs = this.#clock.now();
    const record: TokenRecord = {
      id: idOf(hash),
      hash,
      kind: order.kind,
      name: order.name,
      labels: order.labels,
      createdMs: nowMs,
      expiresMs: nowMs + lifetimeMs,
      createdBy: order.createdBy,
    };
    await this.#table.put(record.id, record);
    return { text: new Secret(formatToken({ secret, caHash: this.#caHash })), record };
  }

  /** Tokens that can still be used, oldest first. */
  list(): TokenRecord[] {
    const nowMs = this.#clock.now();
    const usable = this.#table.values().filter((token) => token.usedMs === undefined && token.expiresMs > nowMs);
    return usable.sort((a, b) => a.createdMs - b.createdMs);
  }

  /** @throws not_found */
  async revoke(id: string): Promise<void> {
    if (!this.#table.has(id)) {
      throw new MusterError('not_found', `there is no token "${id}": see \`muster token ls\``, {
        reason: 'TOKEN_UNKNOWN',
      });
    }
    await this.#table.save(id, () => undefined);
  }

  /**
   * The record behind a token's text, when it can be used now. Using it up is a second step: use().
   * @throws unauthenticated with reason TOKEN_UNKNOWN, TOKEN_USED or TOKEN_EXPIRED; invalid with reason TOKEN_FORMAT
   */
  check(text: string): TokenRecord {
    const { secret, caHash } = parseToken(text);
    const hash = hashOf(secret);
    const record = this.#table.get(idOf(hash));
    if (!record || !timingSafeEqual(Buffer.from(record.hash), Buffer.from(hash)) || caHash !== this.#caHash) {
      throw new MusterError(
        'unauthenticated',
        `this center does not know the token: check that it is for this center, or ${NEXT_STEP}`,
        {
          reason: 'TOKEN_UNKNOWN',
        },
      );
    }
    if (record.usedMs !== undefined) throw used(record.usedMs);
    const nowMs = this.#clock.now();
    if (record.expiresMs <= nowMs) {
      const ago = formatDuration(nowMs - record.expiresMs);
      throw new MusterError('unauthenticated', `the token expired ${ago} ago: ${NEXT_STEP}`, {
        reason: 'TOKEN_EXPIRED',
      });
    }
    return record;
  }

  /**
   * Uses a token up, with `also` in the same durable batch: both happen or neither. Of several callers one gets through.
   * Resolves with the batch's revision.
   * @throws unauthenticated with reason TOKEN_USED
   */
  async use(record: TokenRecord, also: readonly Mutation[]): Promise<number> {
    await this.#table.save(
      record.id,
      (current) => {
        if (!current) throw used(this.#clock.now());
        if (current.usedMs !== undefined) throw used(current.usedMs);
        return { ...current, usedMs: this.#clock.now() };
      },
      also,
    );
    return this.#table.row(record.id)?.revision ?? 0;
  }

  async #forgetOld(): Promise<void> {
    const beforeMs = this.#clock.now() - REMEMBERED_MS;
    const old = this.#table.values().filter((token) => token.expiresMs < beforeMs);
    if (old.length > 0) await this.#table.remove(old.map(({ id }) => id));
  }
}

function used(usedMs: number): MusterError {
  const when = new Date(usedMs).toISOString();
  return new MusterError('unauthenticated', `the token was already used at ${when}: ${NEXT_STEP}`, {
    reason: 'TOKEN_USED',
  });
}
