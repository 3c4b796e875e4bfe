import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { messageOf, MusterError } from '../../kit/errors.js';
import { readFileIfThere } from '../../kit/files.js';
import { Secret } from '../../kit/secret.js';

/** The machine's bucket, from `s3.yaml` in the agent's data directory: only its owner may read that. */

export interface S3Settings {
  /** For example `https://s3.eu-central-1.amazonaws.com`; the bucket is a part of the path. */
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  readonly accessKey: Secret;
  readonly secretKey: Secret;
  /** Begins the names of all copies; with its slash. */
  readonly prefix: string;
}

const schema = z.strictObject({
  endpoint: z.url({
    protocol: /^https?$/,
    error: 'endpoint: expected a URL such as https://s3.eu-central-1.amazonaws.com',
  }),
  bucket: z
    .string({ error: 'bucket: expected a name' })
    .regex(/^[A-Za-z0-9._-]{3,63}$/, { error: 'bucket: expected a name' }),
  region: z.string({ error: 'region: expected text' }).default('us-east-1'),
  access_key: z.string({ error: 'access_key: expected text' }).min(1),
  secret_key: z.string({ error: 'secret_key: expected text' }).min(1),
  prefix: z
    .string()
    .regex(/^[A-Za-z0-9._/-]{0,200}$/, { error: 'prefix: expected letters, digits, . _ - /' })
    .default('muster/'),
});

export function s3SettingsFile(dataDirectory: string): string {
  return join(dataDirectory, 's3.yaml');
}

/** @throws precondition saying what is wrong with the file and what to do; never with what is in it */
export async function readS3Settings(file: string): Promise<S3Settings> {
  const text = await readFileIfThere(file);
  if (text === undefined) {
    throw unusable(`${file} is missing: write endpoint, bucket, access_key and secret_key into it, and chmod 600 it`);
  }
  const { mode } = await stat(file);
  if ((mode & 0o077) !== 0) throw unusable(`others can read the keys in ${file}: chmod 600 it`);
  const parsed = schema.safeParse(valuesOf(text, file));
  if (!parsed.success) throw unusable(`${file} is wrong: ${parsed.error.issues.map(describe).join('; ')}`);
  const { access_key: accessKey, secret_key: secretKey, ...open } = parsed.data;
  return { ...open, accessKey: new Secret(accessKey), secretKey: new Secret(secretKey) };
}

function valuesOf(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    // Only where it is wrong: what is there may be a key.
    const where = /at line \d+, column \d+/.exec(messageOf(error))?.[0] ?? '';
    throw unusable(`${file} is not YAML${where === '' ? '' : ` ${where}`}`);
  }
}

function describe({ code, path, message }: z.core.$ZodIssue): string {
  if (code === 'unrecognized_keys') return 'there is a field that is not known';
  return message.includes(':') ? message : `${path.join('.')}: ${message}`;
}

function unusable(message: string): MusterError {
  return new MusterError('precondition', message, { reason: 'S3_SETTINGS' });
}
