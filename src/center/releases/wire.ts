import type {
  Artifact as WireArtifact,
  Module,
  Release,
  Signature as WireSignature,
  SigningKey,
} from '../../../generated/muster/v1/center.js';
import type { Signature } from '../../model/release.js';
import { toWireArtifact } from '../../wire/release.js';
import { toDate } from '../../wire/time.js';
import type { ModuleRecord, ReleaseRecord } from './release.js';
import type { SigningKeyRecord } from './signing-keys.js';

/** What follows from elsewhere, beside a record. */
export interface ReleaseFacts {
  readonly machines: number;
  readonly machinesHolding: number;
  readonly problem: string;
}

export function toWireRelease(record: ReleaseRecord, facts: ReleaseFacts): Release {
  const { service, version, modules, manifest } = record;
  return { service, version, manifest, modules: modules.map((pin) => ({ ...pin })), ...facts, ...toWirePushed(record) };
}

export function toWireModule(
  record: ModuleRecord,
  facts: { readonly pinnedBy: string[]; readonly problem: string },
): Module {
  return { name: record.name, version: record.version, ...facts, ...toWirePushed(record) };
}

interface WirePushed {
  readonly artifact: WireArtifact;
  readonly pushed: Date | undefined;
  readonly pushedBy: string;
  readonly note: string;
  readonly files: number;
  readonly unpackedBytes: number;
  readonly signedBy: string;
}

function toWirePushed(record: ReleaseRecord | ModuleRecord): WirePushed {
  const { artifact, pushedMs, pushedBy, note, files, unpackedBytes, signedBy } = record;
  return {
    artifact: toWireArtifact(artifact),
    pushed: toDate(pushedMs),
    pushedBy,
    note,
    files,
    unpackedBytes,
    signedBy,
  };
}

export function toWireKey({ id, publicKey, operator, enrolledMs, revoked }: SigningKeyRecord): SigningKey {
  return {
    id,
    publicKey: Buffer.from(publicKey, 'base64'),
    operator,
    enrolled: toDate(enrolledMs),
    revoked: toDate(revoked?.atMs),
  };
}

/** Empty where there is none. */
export function fromWireSignature(wire: WireSignature | undefined): Signature {
  return {
    publicKey: Buffer.from(wire?.publicKey ?? []).toString('base64'),
    signature: Buffer.from(wire?.signature ?? []).toString('base64'),
  };
}
