import { keyId } from '../../archive/signature.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';
import type { Table } from '../table.js';

/** The public half of a key that an operator signs releases with. Times are wall-clock milliseconds. */
export interface SigningKeyRecord {
  readonly id: string;
  /** Raw Ed25519 public key, 32 bytes, base64. */
  readonly publicKey: string;
  readonly operator: string;
  readonly enrolledMs: number;
  readonly revoked?: { readonly atMs: number; readonly by: string };
}

const PUBLIC_KEY_BYTES = 32;
/** Keys of a site, revoked ones too: those are kept for good, so that what they signed stays refused. */
export const SIGNING_KEYS_MAX = 1000;

/** Whose keys sign releases. */
export class SigningKeys {
  readonly #table: Table<SigningKeyRecord>;
  readonly #clock: Clock;

  constructor({ table, clock }: { readonly table: Table<SigningKeyRecord>; readonly clock: Clock }) {
    this.#table = table;
    this.#clock = clock;
  }

  /** The oldest first. */
  list(): SigningKeyRecord[] {
    return this.#table.values().sort((a, b) => a.enrolledMs - b.enrolledMs || (a.id < b.id ? -1 : 1));
  }

  /**
   * Makes the key that operator's. The same again answers with what is there. Resolves once durable.
   * @throws invalid for what is no key; exists when it is another operator's; precondition when it was revoked; exhausted at SIGNING_KEYS_MAX
   */
  async enroll(operator: string, publicKey: string): Promise<SigningKeyRecord> {
    const bytes = Buffer.from(publicKey, 'base64').length;
    if (bytes !== PUBLIC_KEY_BYTES) {
      throw new MusterError(
        'invalid',
        `a public key has ${PUBLIC_KEY_BYTES} bytes, this one has ${bytes}: send the raw Ed25519 key`,
        { reason: 'PUBLIC_KEY', fields: [{ field: 'public_key', description: 'a raw Ed25519 key of 32 bytes' }] },
      );
    }
    const id = keyId(publicKey);
    const stored = await this.#table.save(id, (current) => {
      if (current) return assertOwn(current, operator);
      if (this.#table.size >= SIGNING_KEYS_MAX) {
        const message = `there are ${SIGNING_KEYS_MAX} signing keys already: use one that is enrolled`;
        throw new MusterError('exhausted', message, { reason: 'SIGNING_KEYS_MAX' });
      }
      return {
        id,
        publicKey,
        operator,
        enrolledMs: this.#clock.now(),
      };
    });
    return stored ?? this.#require(id);
  }

  /** From now on nothing signed with it is taken or deployed. Again is no change. Resolves once durable. @throws not_found */
  async revoke(id: string, by: string): Promise<SigningKeyRecord> {
    this.#require(id);
    await this.#table.save(id, (current) =>
      current && !current.revoked ? { ...current, revoked: { atMs: this.#clock.now(), by } } : current,
    );
    return this.#require(id);
  }

  /** The enrolled key, revoked or not. */
  find(publicKey: string): SigningKeyRecord | undefined {
    return this.#table.get(keyId(publicKey));
  }

  /**
   * The enrolled key, with which new releases may be signed.
   * @throws denied with reason SIGNATURE when nobody enrolled it, or it was revoked
   */
  requireGood(publicKey: string): SigningKeyRecord {
    if (publicKey === '') {
      const message = 'it is not signed: sign it with a key that is enrolled here, then push again';
      throw new MusterError('denied', message, { reason: 'SIGNATURE' });
    }
    const key = this.find(publicKey);
    if (!key) {
      const message = `it is signed with a key that is not enrolled here (${keyId(publicKey)}): enroll the key, then push again`;
      throw new MusterError('denied', message, { reason: 'SIGNATURE' });
    }
    if (key.revoked) throw new MusterError('denied', revokedKey(key).message, { reason: 'SIGNATURE' });
    return key;
  }

  #require(id: string): SigningKeyRecord {
    const found = this.#table.get(id);
    if (found) return found;
    const hint = didYouMean(id, this.#table.ids()) || ' See "muster release keys" for those there are.';
    throw new MusterError('not_found', `there is no signing key "${id}".${hint}`, {
      reason: 'KEY_UNKNOWN',
    });
  }
}

/** The failure for what a revoked key signed. */
export function revokedKey({ id, operator, revoked }: SigningKeyRecord): MusterError {
  const by = revoked ? ` by ${revoked.by}` : '';
  return new MusterError(
    'precondition',
    `the signing key ${id} of operator ${operator} was revoked${by}: sign it with another key and push it again`,
    { reason: 'KEY_REVOKED', metadata: { key: id } },
  );
}

function assertOwn(key: SigningKeyRecord, operator: string): SigningKeyRecord {
  if (key.revoked) throw revokedKey(key);
  if (key.operator === operator) return key;
  throw new MusterError('exists', `the key ${key.id} is operator ${key.operator}'s: make one of your own`, {
    reason: 'KEY_TAKEN',
  });
}
