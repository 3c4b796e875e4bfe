import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RENEW_AFTER, shareOver, validityOf } from '../enrolment/validity.js';
import { askToRenew } from '../enrolment/wire.js';
import { MusterError } from '../kit/errors.js';
import { readFileIfThere, writeFileDurably } from '../kit/files.js';
import { Secret } from '../kit/secret.js';
import { certificateRequest } from '../rpc/certificate-request.js';
import { openChannel, type Channel } from '../rpc/client.js';
import { IdentityHolder, type Identity } from '../rpc/identity.js';
import type { Io } from './io.js';

/** An operator's identity on disk: `contexts/NAME/{context.json,ca.pem,cert.pem,key.pem}`. */
export interface ContextFile {
  /** Address of the center, `host:port`. */
  readonly center: string;
  readonly site: string;
  /** Name of the operator. */
  readonly operator: string;
}

/** A named context and its folder. */
export interface ContextPlace {
  readonly name: string;
  readonly directory: string;
}

/** @throws invalid when the folder does not hold a whole context */
async function readContext(name: string, directory: string): Promise<{ file: ContextFile; identity: Identity }> {
  try {
    const file = JSON.parse(await readFile(join(directory, 'context.json'), 'utf8')) as ContextFile;
    const [caPem, certificatePem, key] = await Promise.all(
      ['ca.pem', 'cert.pem', 'key.pem'].map((part) => readFile(join(directory, part), 'utf8')),
    );
    if (caPem === undefined || certificatePem === undefined || key === undefined) throw new Error('a file is missing');
    return { file, identity: { caPem, certificatePem, privateKeyPem: new Secret(key), site: file.site } };
  } catch (error) {
    throw new MusterError(
      'invalid',
      `the context "${name}" in ${directory} is damaged: log in again with "muster login CENTER --token TOKEN --context ${name}"`,
      { cause: error },
    );
  }
}

/**
 * A channel to the center of a context, with the operator's certificate, renewed first when its time has come. Renewal keeps the key, so that
 * one file is replaced and a crash leaves the old certificate or the new.
 * @throws unauthenticated when the certificate has ended
 */
export async function openContext(io: Io, context: ContextPlace): Promise<Channel> {
  return (await openAs(io, context)).channel;
}

/** openContext(), and the operator's identity, for other servers of the site. @throws unauthenticated when the certificate has ended */
export async function openAs(io: Io, context: ContextPlace): Promise<{ channel: Channel; identity: IdentityHolder }> {
  const { file, identity } = await readContext(context.name, context.directory);
  const over = shareOver(validityOf(identity.certificatePem), io.clock.now());
  if (over >= 1) {
    throw new MusterError(
      'unauthenticated',
      `your certificate for "${context.name}" has ended: ask for "muster token create --operator ${file.operator}" at the center and log in again`,
      { reason: 'CERTIFICATE_EXPIRED' },
    );
  }
  const holder = new IdentityHolder(identity);
  const channel = openChannel({ address: file.center, tls: { identity: holder }, peer: 'the center' });
  if (over < RENEW_AFTER) return { channel, identity: holder };
  const renewed = await askToRenew(channel, certificateRequest(identity.privateKeyPem));
  await writeFileDurably(join(context.directory, 'cert.pem'), renewed.certificate);
  holder.renew({ ...identity, certificatePem: renewed.certificate });
  return { channel, identity: holder };
}

/** The center and operator of a context, for listing; undefined when it is damaged. */
export async function describeContext(directory: string): Promise<ContextFile | undefined> {
  const text = await readFileIfThere(join(directory, 'context.json'));
  try {
    return text === undefined ? undefined : (JSON.parse(text) as ContextFile);
  } catch {
    return undefined;
  }
}
