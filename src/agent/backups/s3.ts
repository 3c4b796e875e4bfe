import { open, type FileHandle } from 'node:fs/promises';
import { S3mini } from 's3mini';
import { messageOf, MusterError } from '../../kit/errors.js';
import type { CopyPlace } from './ports.js';
import type { BackupRecord } from './records.js';
import type { S3Settings } from './s3-settings.js';

export interface S3CopiesOptions {
  /** Read anew for each use. @throws precondition */
  readonly settings: () => Promise<S3Settings>;
  /** Tells the copies of machines apart in the bucket. */
  readonly machine: () => string;
}

const PART_BYTES_LEAST = 8 * 1_048_576;
const PART_BYTES_MAX = 64 * 1_048_576;
/** As S3 has it: 10,000. */
const PARTS_MAX = 9_500;
const REQUEST_TIMEOUT_MS = 300_000;
const TYPE = 'application/gzip';

/** Copies in an S3 bucket, named `s3:BUCKET/KEY`. A part at a time is in memory: bounded by PART_BYTES_MAX. */
export class S3Copies implements CopyPlace {
  readonly kind = 's3';
  readonly #options: S3CopiesOptions;

  constructor(options: S3CopiesOptions) {
    this.#options = options;
  }

  has(copy: string): boolean {
    return copy.startsWith('s3:');
  }

  async store({ backup }: BackupRecord, archive: string, signal: AbortSignal): Promise<string> {
    const settings = await this.#options.settings();
    const key = `${settings.prefix}${this.#options.machine()}/${backup.service}/${backup.id}.tar.gz`;
    const s3 = clientOf(settings, signal, REQUEST_TIMEOUT_MS);
    await said(async () => {
      const file = await open(archive, 'r');
      try {
        await send(s3, key, file);
      } finally {
        await file.close();
      }
      const length = await s3.getContentLength(key);
      if (length !== backup.bytes) throw new Error(`the bucket has ${length} bytes of ${backup.bytes}`);
    }, settings);
    return `s3:${settings.bucket}/${key}`;
  }

  async fetch(record: BackupRecord, into: string, signal: AbortSignal): Promise<void> {
    const { settings, key } = await this.#find(record);
    await said(async () => {
      const response = await clientOf(settings, signal).getObjectResponse(key);
      if (!response?.body) throw new MusterError('not_found', `there is no ${key} in bucket ${settings.bucket}`);
      const file = await open(into, 'wx', 0o600);
      try {
        for await (const piece of response.body as AsyncIterable<Uint8Array>) await file.write(piece);
        await file.sync();
      } finally {
        await file.close();
      }
    }, settings);
  }

  async remove(record: BackupRecord, signal: AbortSignal): Promise<void> {
    const { settings, key } = await this.#find(record);
    await said(() => clientOf(settings, signal, REQUEST_TIMEOUT_MS).deleteObject(key), settings);
  }

  /** @throws precondition when the copy is in another bucket than the machine has now */
  async #find({ backup }: BackupRecord): Promise<{ settings: S3Settings; key: string }> {
    const settings = await this.#options.settings();
    const copy = backup.copies.find((one) => this.has(one)) ?? '';
    const beginning = `s3:${settings.bucket}/`;
    if (copy.startsWith(beginning)) return { settings, key: copy.slice(beginning.length) };
    throw new MusterError(
      'precondition',
      `the copy is ${copy}, and this machine's s3.yaml names bucket ${settings.bucket}`,
    );
  }
}

/** `timeoutMs` is of a request with all of its answer. */
function clientOf(settings: S3Settings, signal: AbortSignal, timeoutMs?: number): S3mini {
  const { endpoint, bucket, region, accessKey, secretKey } = settings;
  return new S3mini({
    endpoint: `${endpoint.replace(/\/+$/, '')}/${bucket}`,
    region,
    accessKeyId: accessKey.reveal(),
    secretAccessKey: secretKey.reveal(),
    ...(timeoutMs === undefined ? {} : { requestAbortTimeout: timeoutMs }),
    fetch: (input, init) => {
      const signals = init?.signal ? [signal, init.signal] : [signal];
      // A redirect would hand the data to somebody whom nobody named.
      return fetch(input, { ...init, redirect: 'error', signal: AbortSignal.any(signals) });
    },
  });
}

async function send(s3: S3mini, key: string, file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  const partBytes = Math.max(PART_BYTES_LEAST, Math.ceil(size / PARTS_MAX));
  if (partBytes > PART_BYTES_MAX) throw new Error('the archive is larger than 600 GB, which is not copied to S3');
  if (size <= partBytes) {
    await s3.putObject(key, await part(file, 0, size), TYPE);
    return;
  }
  const upload = await s3.getMultipartUploadId(key, TYPE);
  try {
    const parts = [];
    for (let from = 0; from < size; from += partBytes) {
      const bytes = await part(file, from, Math.min(partBytes, size - from));
      parts.push(await s3.uploadPart(key, upload, bytes, parts.length + 1));
    }
    await s3.completeMultipartUpload(key, upload, parts);
  } catch (error) {
    // Parts without an end are paid for: the bucket forgets them now, or by its own rule.
    await s3.abortMultipartUpload(key, upload).catch(() => undefined);
    throw error;
  }
}

/** @throws when the file is shorter than it was */
async function part(file: FileHandle, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  const { bytesRead } = await file.read(bytes, 0, length, from);
  if (bytesRead !== length) throw new Error('the archive became shorter while it was copied');
  return bytes;
}

/** Errors with what to do; none carries a key. */
async function said(work: () => Promise<unknown>, { bucket, endpoint, secretKey }: S3Settings): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof MusterError) throw error;
    const cause = error instanceof Error && error.cause !== undefined ? ` (${messageOf(error.cause)})` : '';
    const why = `${messageOf(error)}${cause}`.replaceAll(secretKey.reveal(), '[secret]');
    throw new MusterError('unavailable', `bucket ${bucket} at ${endpoint}: ${why}`, { reason: 'S3' });
  }
}
