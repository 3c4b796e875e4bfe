import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CenterService, SigningKey } from '../../../generated/muster/v1/center.js';
import { generateSigningKey, signArtifact, type SignedFacts } from '../../archive/signature.js';
import { isCode, MusterError } from '../../kit/errors.js';
import { makeDirectory, readFileIfThere, writeFileDurably } from '../../kit/files.js';
import { Secret } from '../../kit/secret.js';
import { configHome } from '../../model/places.js';
import type { Signature, SignedKind } from '../../model/release.js';
import type { Client } from '../../rpc/types.js';
import { centerTarget } from '../context.js';
import type { GlobalOptions, Io } from '../io.js';

/** The key with which an operator signs what is pushed: made on first use, beside the identity it belongs to. */

const FILE = 'signing-key.pem';

export interface OwnKey {
  readonly file: string;
  readonly privateKey: Secret;
  /** It was made just now. */
  readonly made: boolean;
}

/** Of the context that the command uses; who comes through an admin socket has one for all of them. */
async function fileOf(io: Io, options: GlobalOptions): Promise<string> {
  const target = await centerTarget(io, options);
  return join(target.kind === 'context' ? target.directory : configHome(io.places), FILE);
}

/** What may be readable or writable for others. */
const OTHERS = 0o077;

async function assertOwn(file: string): Promise<void> {
  if (((await stat(file)).mode & OTHERS) === 0) return;
  throw new MusterError(
    'precondition',
    `${file} can be read by others: chmod 600 ${file}, or move it away for a new key`,
  );
}

/** Reads the key, or makes it: readable by its owner alone. @throws precondition when others may read it */
export async function ownKey(io: Io, options: GlobalOptions): Promise<OwnKey> {
  const file = await fileOf(io, options);
  const kept = await readFileIfThere(file);
  if (kept !== undefined) {
    await assertOwn(file);
    return { file, privateKey: new Secret(kept), made: false };
  }
  const { privateKey } = generateSigningKey();
  await makeDirectory(join(file, '..'), 0o700);
  await writeFileDurably(file, privateKey.reveal(), 0o600);
  return { file, privateKey, made: true };
}

/** @throws invalid naming the file, when it holds no key */
export function signWith({ file, privateKey }: OwnKey, kind: SignedKind, facts: SignedFacts): Signature {
  try {
    return signArtifact(privateKey, kind, facts);
  } catch (error) {
    if (!isCode(error, 'invalid')) throw error;
    throw new MusterError(
      'invalid',
      `${file} holds no Ed25519 private key: put the right one there, or move the file away and a new key is made and enrolled`,
      { cause: error },
    );
  }
}

/**
 * Makes the center know the key; where it does already, nothing changes.
 * @throws precondition when it was revoked, exists when it is another operator's; both say what to do with the file
 */
export async function enrol(
  center: Pick<Client<typeof CenterService>, 'enrollSigningKey'>,
  file: string,
  { publicKey }: Signature,
): Promise<SigningKey> {
  try {
    return await center.enrollSigningKey({ publicKey: Buffer.from(publicKey, 'base64') });
  } catch (error) {
    const own = isCode(error, 'exists') || (isCode(error, 'precondition') && error.reason === 'KEY_REVOKED');
    if (!own) throw error;
    throw new MusterError(
      error.code,
      `${error.message.replace(/[.\s]*$/, '')}. The key is in ${file}: move that file away, and the next push makes and enrols another.`,
      { ...(error.reason === undefined ? {} : { reason: error.reason }), cause: error },
    );
  }
}
