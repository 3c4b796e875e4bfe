import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import type {
  CenterService,
  Module,
  Release,
  Signature,
  UploadArtifactRequest,
} from '../../generated/muster/v1/center.js';
import { packDirectory } from '../../src/archive/pack.js';
import { generateSigningKey, signArtifact, type SigningKey } from '../../src/archive/signature.js';
import type { SignedKind } from '../../src/model/release.js';
import type { Client } from '../../src/rpc/types.js';

type Center = Client<typeof CenterService>;

/** An archive made for a test. */
export interface Packed {
  readonly kind: SignedKind;
  readonly name: string;
  readonly version: string;
  readonly digest: string;
  readonly bytes: Buffer;
}

export interface Content {
  readonly [path: string]: string | Buffer;
}

/** Makes releases and modules and pushes them as the command line does, with a key of its own. Its files go after the test. */
export class Releaser {
  readonly key: SigningKey = generateSigningKey();
  readonly #directory: string;
  #made = 0;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(t: TestContext): Promise<Releaser> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-releaser-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    return new Releaser(directory);
  }

  async enroll(center: Center): Promise<void> {
    await center.enrollSigningKey({ publicKey: Buffer.from(this.key.publicKey, 'base64') });
  }

  /** A release whose manifest has these lines after its name and version. */
  release(name: string, version: string, more: { lines?: readonly string[]; files?: Content } = {}): Promise<Packed> {
    const { lines = ['command: ["./run.sh"]'], files = { 'run.sh': '#!/bin/sh\nsleep 1000\n' } } = more;
    const manifest = [`name: ${name}`, `version: "${version}"`, ...lines, ''].join('\n');
    return this.packed({ kind: 'release', name, version }, { 'muster.yaml': manifest, ...files });
  }

  module(name: string, version: string, files: Content = { 'index.js': `// ${version}\n` }): Promise<Packed> {
    const manifest = `name: ${name}\nversion: "${version}"\n`;
    return this.packed({ kind: 'module', name, version }, { 'module.yaml': manifest, ...files });
  }

  async packed(called: Pick<Packed, 'kind' | 'name' | 'version'>, files: Content): Promise<Packed> {
    this.#made += 1;
    const source = join(this.#directory, `source-${this.#made}`);
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(source, path)), { recursive: true });
      await writeFile(join(source, path), content);
      if (path.endsWith('.sh')) await chmod(join(source, path), 0o755);
    }
    const out = join(this.#directory, `${this.#made}.tar.gz`);
    const { digest } = await packDirectory(source, out);
    return { ...called, digest, bytes: await readFile(out) };
  }

  sign({ kind, name, version, digest }: Packed, key = this.key): Signature {
    const made = signArtifact(key.privateKey, kind, { name, version, digest });
    return { publicKey: Buffer.from(made.publicKey, 'base64'), signature: Buffer.from(made.signature, 'base64') };
  }

  async putRelease(center: Center, packed: Packed, signature?: Signature): Promise<Release> {
    const signed = signature ?? this.sign(packed);
    return center.putRelease({ digest: packed.digest, signature: signed, note: '', validateOnly: false });
  }

  async putModule(center: Center, packed: Packed): Promise<Module> {
    return center.putModule({ digest: packed.digest, signature: this.sign(packed), note: '', validateOnly: false });
  }

  async pushRelease(center: Center, packed: Packed): Promise<Release> {
    await center.uploadArtifact(uploadOf(packed));
    return this.putRelease(center, packed);
  }

  async pushModule(center: Center, packed: Packed): Promise<Module> {
    await center.uploadArtifact(uploadOf(packed));
    return this.putModule(center, packed);
  }
}

/** The messages of an upload, from an offset on. */
export function* uploadMessages(
  { digest, bytes }: Pick<Packed, 'digest' | 'bytes'>,
  { offset = 0, pieceBytes = 64 * 1024 }: { readonly offset?: number; readonly pieceBytes?: number } = {},
): Generator<UploadArtifactRequest> {
  yield { digest, sizeBytes: bytes.length, offset, data: bytes.subarray(offset, offset + pieceBytes) };
  for (let at = offset + pieceBytes; at < bytes.length; at += pieceBytes) {
    yield { digest: '', sizeBytes: 0, offset: 0, data: bytes.subarray(at, at + pieceBytes) };
  }
}

export async function* uploadOf(
  packed: Pick<Packed, 'digest' | 'bytes'>,
  options: { readonly offset?: number; readonly pieceBytes?: number } = {},
): AsyncGenerator<UploadArtifactRequest> {
  await Promise.resolve();
  yield* uploadMessages(packed, options);
}
