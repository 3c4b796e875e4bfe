import type { FileDigest } from '../../archive/digest.js';
import type { Inspected, InspectOptions } from '../../archive/inspect.js';
import type { SignedFacts } from '../../archive/signature.js';
import type { Unpacked, UnpackOptions } from '../../archive/unpack.js';
import type { Signature, SignedKind } from '../../model/release.js';

/** What a deploy does with archives. */
export interface Archives {
  /** @throws a system error */
  digest(path: string): Promise<FileDigest>;
  isSignedBy(kind: SignedKind, facts: SignedFacts, signature: Signature): boolean;
  /** @throws invalid */
  inspect(path: string, options: InspectOptions): Promise<Inspected>;
  /** Durable when it resolves; `into` is not there after a failure. @throws invalid, exhausted */
  unpack(path: string, into: string, options: UnpackOptions): Promise<Unpacked>;
}
