import { MusterError } from '../kit/errors.js';
import { checkShape } from './manifest-schema.js';
import { readYaml, type Mistake } from './manifest-text.js';
import { fillIn } from './manifest-values.js';
import type { Manifest } from './manifest-types.js';

export type * from './manifest-types.js';

export interface ManifestSource {
  /** Name shown in errors; `muster.yaml` unless said. */
  readonly file?: string;
}

export type ManifestResult =
  { readonly ok: true; readonly manifest: Manifest } | { readonly ok: false; readonly mistakes: readonly Mistake[] };

/** Mistakes named in one error; the rest are counted. */
const MISTAKES_SHOWN_MAX = 50;

/** Reads a manifest, YAML or JSON, collecting every mistake. */
export function checkManifest(text: string, source: ManifestSource = {}): ManifestResult {
  const file = source.file ?? 'muster.yaml';
  const document = readYaml(text, file);
  if (document.mistakes.length > 0) return { ok: false, mistakes: document.mistakes };
  const shape = checkShape(document.value);
  if (!shape.ok) return { ok: false, mistakes: document.locate(shape.issues) };
  return { ok: true, manifest: fillIn(shape.raw) };
}

/**
 * Reads a manifest, YAML or JSON.
 * @throws invalid, its message listing each mistake as `file:line:column: what is wrong, what was expected`, its fields one each
 */
export function parseManifest(text: string, source: ManifestSource = {}): Manifest {
  const result = checkManifest(text, source);
  if (result.ok) return result.manifest;
  const { mistakes } = result;
  const shown = mistakes.slice(0, MISTAKES_SHOWN_MAX).map((mistake) => mistake.text);
  if (mistakes.length > shown.length) shown.push(`and ${mistakes.length - shown.length} more`);
  throw new MusterError('invalid', shown.join('\n'), {
    reason: 'MANIFEST_INVALID',
    fields: mistakes.slice(0, MISTAKES_SHOWN_MAX).map(({ field, text: description }) => ({ field, description })),
  });
}
