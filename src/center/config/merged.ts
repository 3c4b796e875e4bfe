import { hashValues } from '../../config/canonical.js';
import { mergeLayers, type Layer } from '../../config/merge.js';
import type { ConfigValues } from '../../config/values.js';

/** The configuration of a service on a machine. */
export interface MergedConfig {
  /** Of the newest document that applies; 0 where there has never been one. */
  readonly revision: number;
  /** Empty at revision 0. */
  readonly hash: string;
  readonly values: ConfigValues;
  readonly provenance: Readonly<Record<string, string>>;
}

const NOTHING: MergedConfig = { revision: 0, hash: '', values: {}, provenance: {} };

interface Part {
  readonly revision: number;
  readonly values: ConfigValues;
}

/** The documents of one service in memory, parsed, and what they give on each machine. */
export class ServiceConfig {
  readonly #parts = new Map<string, Part>();
  readonly #merged = new Map<string, MergedConfig>();

  /** Machines that have a document of their own. */
  get overrides(): number {
    return this.#parts.size - (this.#parts.has('') ? 1 : 0);
  }

  has(machine: string): boolean {
    return this.#parts.has(machine);
  }

  /** Takes a new version of a document; a removed one has no values but keeps its revision. */
  set(machine: string, part: Part): void {
    this.#parts.set(machine, part);
    if (machine === '') this.#merged.clear();
    else this.#merged.delete(machine);
  }

  /** `label` names the machine in the provenance. */
  on(machine: string, label: string): MergedConfig {
    // Machines without a document of their own share one result.
    const key = this.#parts.has(machine) ? machine : '';
    const known = this.#merged.get(key);
    if (known) return known;
    const merged = this.#merge(key, label);
    this.#merged.set(key, merged);
    return merged;
  }

  #merge(machine: string, label: string): MergedConfig {
    const common = this.#parts.get('');
    const own = machine === '' ? undefined : this.#parts.get(machine);
    const revision = Math.max(common?.revision ?? 0, own?.revision ?? 0);
    if (revision === 0) return NOTHING;
    const layers: Layer[] = [];
    if (common) layers.push({ scope: 'service', values: common.values });
    if (own) layers.push({ scope: `machine ${label}`, values: own.values });
    const { values, provenance } = mergeLayers(layers);
    return { revision, hash: hashValues(values), values, provenance };
  }
}
