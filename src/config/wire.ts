import type { Snapshot } from '../../generated/muster/v1/config.js';
import type { ConfigValues } from './values.js';

/** A merged configuration as it travels: what agents keep and services read. */
export interface ConfigSnapshot {
  readonly revision: number;
  /** hashValues() of the values; empty at revision 0. */
  readonly hash: string;
  readonly values: ConfigValues;
  readonly provenance: Readonly<Record<string, string>>;
}

export function toWireSnapshot(service: string, snapshot: ConfigSnapshot, stale: boolean): Snapshot {
  const { revision, hash, values, provenance } = snapshot;
  return { service, revision, hash, values: { ...values }, provenance: { ...provenance }, stale };
}

export function fromWireSnapshot({ revision, hash, values, provenance }: Snapshot): ConfigSnapshot {
  return { revision, hash, values: values ?? {}, provenance };
}
