import type { CenterService, Release } from '../../../generated/muster/v1/center.js';
import { counted } from '../../kit/counted.js';
import { formatSize } from '../../kit/durations.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { Signature, SignedKind } from '../../model/release.js';
import type { Client } from '../../rpc/types.js';
import { withCenter } from '../connection.js';
import { Failed, type GlobalOptions, type Io } from '../io.js';
import { clockTime, Output } from '../output.js';
import { ifThere } from '../queue-text.js';
import { ProgressLine, shareText } from './progress.js';
import { enrol, ownKey, signWith } from './signing-key.js';
import { withArchive, type Description, type Packed } from './source.js';
import { uploadArchive } from './upload.js';

/** Pushing a release or a module: check here, sign, upload what the center lacks, and have it checked there. */

export type Center = Client<typeof CenterService>;

/** What the center has of a release or module. */
export type Stored = Pick<Release, 'artifact' | 'pushed' | 'pushedBy' | 'signedBy' | 'files' | 'unpackedBytes'>;

/** What is different between releases and modules. */
export interface Pushed<S extends Stored> extends Description {
  readonly kind: SignedKind;
  readonly find: (center: Center, name: string, version: string) => Promise<S>;
  readonly put: (center: Center, order: PutOrder) => Promise<S>;
  readonly json: (stored: S) => object;
  /** What can be done with it. */
  readonly next: (name: string, version: string) => string;
}

export interface PutOrder {
  readonly request: {
    readonly digest: string;
    readonly signature: { readonly publicKey: Buffer; readonly signature: Buffer };
    readonly note: string;
    readonly validateOnly: boolean;
  };
  readonly options: { readonly signal: AbortSignal; readonly timeoutMs: number };
}

export interface PushOptions extends GlobalOptions {
  readonly note?: string;
}

/** The center reads every entry of the archive before it answers. */
const PUT_DEADLINE_MS = 600_000;

/** Digits of a digest that are shown to people. */
export const DIGEST_SHOWN = 12;

function assertSame(archive: Packed, digest: string, { file }: Description): void {
  if (digest === archive.digest) return;
  const { name, version } = archive;
  throw new MusterError(
    'exists',
    `${name} ${version} was pushed before and is another archive (sha256 ${digest.slice(0, DIGEST_SHOWN)}, this one ${archive.digest.slice(0, DIGEST_SHOWN)}): a version never changes. Raise "version" in ${file} and push again.`,
    { reason: 'VERSION_TAKEN' },
  );
}

/** What the center says, and how to push a module where it does not say that too. */
function withPush(message: string): string {
  if (message.includes('muster module push')) return message;
  return `${message.replace(/[.\s]*$/, '')}. Push the module first, with "muster module push DIR".`;
}

/** Says it before an upload that would be for nothing. */
async function assertPins(center: Center, { modules }: Packed, file: string): Promise<void> {
  for (const [name, version] of Object.entries(modules)) {
    try {
      await center.getModule({ name, version });
    } catch (error) {
      if (!isCode(error, 'not_found')) throw error;
      throw new MusterError('precondition', `${file} pins ${name} ${version}: ${withPush(error.message)}`, {
        reason: 'MODULE_UNKNOWN',
        cause: error,
      });
    }
  }
}

async function upload(io: Io, center: Center, archive: Packed, progress: ProgressLine): Promise<number> {
  const what = `${archive.name} ${archive.version}`;
  const begunMs = io.clock.monotonic();
  let from: number | undefined;
  return uploadArchive(io, center, archive, {
    at: (bytes) => {
      from ??= bytes;
      const rate = { bytes: bytes - from, ms: io.clock.monotonic() - begunMs };
      return progress.show(() => `uploading ${what}: ${shareText(bytes, archive.sizeBytes, rate)}`);
    },
    broken: (why) => progress.note(`The upload broke off and is tried again: ${why}`),
  });
}

interface Pushing {
  readonly output: Output;
  readonly options: PushOptions;
  readonly progress: ProgressLine;
  readonly archive: Packed;
}

async function store<S extends Stored>(io: Io, center: Center, pushed: Pushed<S>, pushing: Pushing): Promise<void> {
  const { archive, output, options, progress } = pushing;
  const { name, version, digest } = archive;
  const there = await ifThere(pushed.find(center, name, version));
  if (there !== undefined) {
    assertSame(archive, there.artifact?.digest ?? '', pushed);
    await progress.clear();
    await output.document({ [pushed.kind]: pushed.json(there), alreadyThere: true, uploadedBytes: 0 });
    const when = clockTime(there.pushed, io.clock.now());
    await output.line(`${name} ${version} is there already, pushed ${when} by ${there.pushedBy}: nothing was uploaded`);
    return;
  }
  await assertPins(center, archive, pushed.file);
  const key = await ownKey(io, options);
  const signature = signWith(key, pushed.kind, { name, version, digest });
  const { id } = await enrol(center, key.file, signature);
  if (key.made) await output.note(`Made the signing key ${id} in ${key.file}, and enrolled it at the center.`);
  const uploadedBytes = await upload(io, center, archive, progress);
  await progress.show(() => `the center checks ${name} ${version}`);
  const stored = await pushed.put(center, orderOf(io, options, digest, signature));
  await progress.clear();
  await output.document({ [pushed.kind]: pushed.json(stored), alreadyThere: false, uploadedBytes });
  await output.line(
    `${name} ${version} is pushed: ${counted(stored.files, 'file')}, ${formatSize(archive.sizeBytes)} (${formatSize(stored.unpackedBytes)} unpacked), sha256 ${digest.slice(0, DIGEST_SHOWN)}, signed with key ${id}`,
  );
  await output.note(pushed.next(name, version));
}

function orderOf(io: Io, { note }: PushOptions, digest: string, { publicKey, signature }: Signature): PutOrder {
  return {
    request: {
      digest,
      signature: { publicKey: Buffer.from(publicKey, 'base64'), signature: Buffer.from(signature, 'base64') },
      note: note ?? '',
      validateOnly: false,
    },
    options: { signal: io.signal, timeoutMs: PUT_DEADLINE_MS },
  };
}

/** Pushes a directory or an archive. @throws what is wrong with it; Failed when the user gave up */
export async function push<S extends Stored>(
  io: Io,
  options: PushOptions,
  path: string,
  pushed: Pushed<S>,
): Promise<void> {
  const output = new Output(io, options);
  const progress = new ProgressLine(io, output);
  try {
    await withArchive(io, path, { description: pushed, progress }, (archive) =>
      withCenter(io, options, (center) => store(io, center, pushed, { output, options, progress, archive })),
    );
  } catch (error) {
    await progress.clear();
    if (!io.signal.aborted) throw error;
    await output.note('Stopped before it was pushed: the same command goes on where the upload broke off.');
    throw new Failed();
  }
}
