import { createPrivateKey } from 'node:crypto';
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { makeDirectory, readFileIfThere, syncDirectory, writeFileDurably } from '../../kit/files.js';
import { Secret } from '../../kit/secret.js';
import { parseAddress } from '../../rpc/addresses.js';
import { namedPrincipal, readCertificates } from '../../rpc/certificates.js';
import type { Identity } from '../../rpc/identity.js';

/** What the machine knows of the site it belongs to. */
export interface Membership {
  readonly site: string;
  /** Address of the center, `host:port`. */
  readonly center: string;
  /** The machine's id. */
  readonly machine: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export interface StoredIdentity {
  readonly membership: Membership;
  readonly identity: Identity;
  /** When the certificate came here, wall-clock milliseconds: its own beginning may lie before that, for slow clocks. */
  readonly obtainedMs: number;
}

/** Why a new key was made; each has its own file beside `key.pem`. */
export type KeyPurpose = 'renew' | 'join';

const KEY_PURPOSES: readonly KeyPurpose[] = ['renew', 'join'];

/**
 * The machine's identity on disk: `identity/{ca.pem,cert.pem,key.pem}` and `agent.json`.
 *
 * A certificate and its key are two files, so replacing them is done in an order that a crash cannot break: the new key is written beside
 * (`key.renew.pem`, or `key.join.pem` since a join may be done while the agent renews) before a certificate for it is asked for; then the
 * certificate replaces the old one; then the new key replaces the old. Between the last two steps the certificate fits the key written
 * beside, and load() finishes the move. `agent.json` is written last when joining.
 */
export class IdentityFiles {
  readonly #data: string;

  constructor(data: string) {
    this.#data = data;
  }

  /** Path of the file whose change means that the machine joined anew. */
  get membershipFile(): string {
    return join(this.#data, 'agent.json');
  }

  /**
   * Undefined where the machine has not joined.
   * @throws precondition, reason IDENTITY_DAMAGED, when the files do not fit together
   */
  async load(): Promise<StoredIdentity | undefined> {
    const text = await readFileIfThere(this.membershipFile);
    if (text === undefined) return undefined;
    const membership = readMembership(text);
    const [certificatePem, caPem] = await Promise.all([this.#read('cert.pem'), this.#read('ca.pem')]);
    if (certificatePem === undefined || caPem === undefined) throw damaged('cert.pem or ca.pem is missing');
    const key = await this.#keyOf(certificatePem);
    if (!key) throw damaged('key.pem does not fit cert.pem');
    if (machineOf(certificatePem) !== membership.machine)
      throw damaged('cert.pem is of another machine than agent.json');
    const { mtimeMs: obtainedMs } = await stat(this.#path('cert.pem'));
    return { membership, identity: { certificatePem, caPem, privateKeyPem: key, site: membership.site }, obtainedMs };
  }

  /** The site this directory belongs to, as far as that can still be read; undefined where it belongs to none. */
  async knownSite(): Promise<string | undefined> {
    const text = await readFileIfThere(this.membershipFile);
    try {
      return text === undefined ? undefined : readMembership(text).site;
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

  async writeMembership(membership: Membership): Promise<void> {
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
}

function nextKeyFile(purpose: KeyPurpose): string {
  return `key.${purpose}.pem`;
}

function damaged(what: string, cause?: unknown): MusterError {
  return new MusterError(
    'precondition',
    `this machine's identity is damaged: ${what}. ` +
      'Run `muster token create --machine NAME` at the center and join again with the line it prints; services and their data stay',
    { reason: 'IDENTITY_DAMAGED', cause },
  );
}

/** Whether the private key belongs to the certificate. */
export function fits(certificatePem: string, keyPem: string): boolean {
  try {
    return readCertificates(certificatePem)[0]?.checkPrivateKey(createPrivateKey(keyPem)) ?? false;
  } catch {
    return false;
  }
}

/** Id of the machine that an agent's certificate names; undefined for any other certificate. */
export function machineOf(certificatePem: string): string | undefined {
  try {
    const [certificate] = readCertificates(certificatePem);
    const principal = certificate && namedPrincipal(certificate).principal;
    return principal?.kind === 'agent' ? principal.machine : undefined;
  } catch (error) {
    if (isCode(error)) return undefined;
    throw error;
  }
}

function readMembership(text: string): Membership {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw damaged(`agent.json is not JSON (${messageOf(error)})`, error);
  }
  const { site, center, machine, name, labels } = (parsed ?? {}) as Partial<Record<keyof Membership, unknown>>;
  if (
    typeof site !== 'string' ||
    typeof center !== 'string' ||
    typeof machine !== 'string' ||
    typeof name !== 'string'
  ) {
    throw damaged('agent.json lacks site, center, machine or name');
  }
  try {
    parseAddress(center);
  } catch (error) {
    throw damaged(`the center in agent.json: ${messageOf(error)}`, error);
  }
  return { site, center, machine, name, labels: textsOf(labels) };
}

function textsOf(value: unknown): Record<string, string> {
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}
