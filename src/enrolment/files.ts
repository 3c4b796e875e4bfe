import { createPrivateKey } from 'node:crypto';
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isCode, messageOf, MusterError } from '../kit/errors.js';
import { makeDirectory, readFileIfThere, syncDirectory, writeFileDurably } from '../kit/files.js';
import { Secret } from '../kit/secret.js';
import { parseAddress } from '../rpc/addresses.js';
import { namedPrincipal, readCertificates } from '../rpc/certificates.js';
import type { Identity } from '../rpc/identity.js';
import type { Principal } from '../rpc/principal.js';
import type { Membership, Party } from './party.js';

export interface StoredIdentity<M extends Membership> {
  readonly membership: M;
  readonly identity: Identity;
  /** When the certificate came here, wall-clock milliseconds: its own beginning may lie before that, for slow clocks. */
  readonly obtainedMs: number;
}

/** Why a new key was made; each has its own file beside `key.pem`. */
export type KeyPurpose = 'renew' | 'join';

const KEY_PURPOSES: readonly KeyPurpose[] = ['renew', 'join'];

/**
 * A member's identity on disk: `identity/{ca.pem,cert.pem,key.pem}` and its membership, `agent.json` or `queue.json`.
 *
 * A certificate and its key are two files, so replacing them is done in an order that a crash cannot break: the new key is written beside
 * (`key.renew.pem`, or `key.join.pem` since a join may be done while the server renews) before a certificate for it is asked for; then the
 * certificate replaces the old one; then the new key replaces the old. Between the last two steps the certificate fits the key written
 * beside, and load() finishes the move. The membership is written last when joining.
 */
export class IdentityFiles<M extends Membership> {
  readonly party: Party<M>;
  readonly #data: string;

  constructor(party: Party<M>, data: string) {
    this.party = party;
    this.#data = data;
  }

  /** Path of the file whose change means that the party joined anew. */
  get membershipFile(): string {
    return join(this.#data, this.party.file);
  }

  /**
   * Undefined where nobody has joined.
   * @throws precondition, reason IDENTITY_DAMAGED, when the files do not fit together
   */
  async load(): Promise<StoredIdentity<M> | undefined> {
    const text = await readFileIfThere(this.membershipFile);
    if (text === undefined) return undefined;
    const membership = this.#readMembership(text);
    const [certificatePem, caPem] = await Promise.all([this.#read('cert.pem'), this.#read('ca.pem')]);
    if (certificatePem === undefined || caPem === undefined) throw this.#damaged('cert.pem or ca.pem is missing');
    const key = await this.#keyOf(certificatePem);
    if (!key) throw this.#damaged('key.pem does not fit cert.pem');
    const principal = principalOf(certificatePem);
    if (!principal || !this.party.owns(membership, principal))
      throw this.#damaged(`cert.pem is of another ${this.party.words.noun} than ${this.party.file}`);
    const { mtimeMs: obtainedMs } = await stat(this.#path('cert.pem'));
    return { membership, identity: { certificatePem, caPem, privateKeyPem: key, site: membership.site }, obtainedMs };
  }

  /** The site this directory belongs to, as far as that can still be read; undefined where it belongs to none. */
  async knownSite(): Promise<string | undefined> {
    const text = await readFileIfThere(this.membershipFile);
    try {
      return text === undefined ? undefined : this.#readMembership(text).site;
    } catch {
      // A damaged identity is mended by joining again, which must not be refused for it.
      return undefined;
    }
  }

  /** Durably keeps a key that a certificate is about to be asked for. */
  async writeNextKey(key: Secret, purpose: KeyPurpose): Promise<void> {
    await makeDirectory(this.#path(), 0o700);
    await writeFileDurably(this.#path(nextKeyFile(purpose)), key.reveal(), 0o600);
  }

  /** Forgets the key of writeNextKey(), for which no certificate was given. */
  async dropNextKey(purpose: KeyPurpose): Promise<void> {
    await rm(this.#path(nextKeyFile(purpose)), { force: true });
  }

  /** The certificate given for the key of writeNextKey() replaces the one before. */
  async writeCertificate(certificatePem: string, caPem: string, purpose: KeyPurpose): Promise<void> {
    await writeFileDurably(this.#path('ca.pem'), caPem, 0o644);
    await writeFileDurably(this.#path('cert.pem'), certificatePem, 0o644);
    await this.#promote(purpose);
  }

  async writeMembership(membership: M): Promise<void> {
    await writeFileDurably(this.membershipFile, `${JSON.stringify(membership, undefined, 2)}\n`, 0o644);
  }

  async #keyOf(certificatePem: string): Promise<Secret | undefined> {
    const key = await this.#read('key.pem');
    if (key !== undefined && fits(certificatePem, key)) return new Secret(key);
    for (const purpose of KEY_PURPOSES) {
      const next = await this.#read(nextKeyFile(purpose));
      if (next !== undefined && fits(certificatePem, next)) {
        await this.#promote(purpose);
        return new Secret(next);
      }
    }
    return undefined;
  }

  async #promote(purpose: KeyPurpose): Promise<void> {
    await rename(this.#path(nextKeyFile(purpose)), this.#path('key.pem'));
    await syncDirectory(this.#path());
  }

  #read(file: string): Promise<string | undefined> {
    return readFileIfThere(this.#path(file));
  }

  #path(...file: string[]): string {
    return join(this.#data, 'identity', ...file);
  }

  #readMembership(text: string): M {
    const { file, fields, read } = this.party;
    let parsed: unknown;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      throw this.#damaged(`${file} is not JSON (${messageOf(error)})`, error);
    }
    const found = (parsed ?? {}) as Readonly<Record<string, unknown>>;
    const { site, center, name } = found;
    const whole = typeof site === 'string' && typeof center === 'string' && typeof name === 'string';
    const membership = whole ? read({ site, center, name }, found) : undefined;
    if (!membership) throw this.#damaged(`${file} lacks ${fields}`);
    try {
      parseAddress(membership.center);
    } catch (error) {
      throw this.#damaged(`the center in ${file}: ${messageOf(error)}`, error);
    }
    return membership;
  }

  #damaged(what: string, cause?: unknown): MusterError {
    const { whose, token, stays } = this.party.words;
    return new MusterError(
      'precondition',
      `${whose}'s identity is damaged: ${what}. ` +
        `Run \`${token('NAME')}\` at the center and join again with the line it prints; ${stays}`,
      { reason: 'IDENTITY_DAMAGED', cause },
    );
  }
}

function nextKeyFile(purpose: KeyPurpose): string {
  return `key.${purpose}.pem`;
}

/** Whether the private key belongs to the certificate. */
export function fits(certificatePem: string, keyPem: string): boolean {
  try {
    return readCertificates(certificatePem)[0]?.checkPrivateKey(createPrivateKey(keyPem)) ?? false;
  } catch {
    return false;
  }
}

/** Whom a certificate names; undefined where it names nobody of this system. Does not check who signed it. */
export function principalOf(certificatePem: string): Principal | undefined {
  try {
    const [certificate] = readCertificates(certificatePem);
    return certificate && namedPrincipal(certificate).principal;
  } catch (error) {
    if (isCode(error)) return undefined;
    throw error;
  }
}
