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

/** Mistakes in one error's fields. */
const FIELDS_MAX = 50;
/** What a message may be long; a status carries little more. Mistakes that do not fit are counted, and are in the fields. */
const MESSAGE_CHARACTERS_MAX = 900;
const MISTAKES_SHOWN_MAX = 5;

/** Reads a manifest, YAML or JSON, collecting every mistake. */
export function checkManifest(text: string, source: ManifestSource = {}): ManifestResult {
  const file = source.file ?? 'muster.yaml';
  const document = readYaml(text, file);
  if (document.mistakes.length > 0) return { ok: false, mistakes: distinct(document.mistakes) };
  const shape = checkShape(document.value);
  if (!shape.ok) return { ok: false, mistakes: distinct(document.locate(shape.issues)) };
  return { ok: true, manifest: fillIn(shape.raw) };
}

/**
 * Reads a manifest, YAML or JSON.
 * @throws invalid, its message listing the first mistakes as `file:line:column: what is wrong, what was expected` and counting the others, its
 *   fields all of them, one each
 */
export function parseManifest(text: string, source: ManifestSource = {}): Manifest {
  const result = checkManifest(text, source);
  if (result.ok) return result.manifest;
  throw invalidManifest(result.mistakes);
}

/** The failure for a text with these mistakes: as parseManifest throws it. */
export function invalidManifest(mistakes: readonly Mistake[]): MusterError {
  return new MusterError('invalid', firstOf(mistakes), {
    reason: 'MANIFEST_INVALID',
    fields: mistakes.slice(0, FIELDS_MAX).map(({ field, text: description }) => ({ field, description })),
  });
}

function distinct(mistakes: readonly Mistake[]): readonly Mistake[] {
  return [...new Map(mistakes.map((mistake) => [mistake.text, mistake])).values()];
}

/** The first mistakes, whole, as many as fit; at least one. */
function firstOf(mistakes: readonly Mistake[]): string {
  const shown: string[] = [];
  let characters = 0;
  for (const { text } of mistakes.slice(0, MISTAKES_SHOWN_MAX)) {
    characters += text.length + 1;
    if (shown.length > 0 && characters > MESSAGE_CHARACTERS_MAX) break;
    shown.push(text);
  }
  const more = mistakes.length - shown.length;
  return [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}
