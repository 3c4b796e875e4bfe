import { NAME_PATTERN } from '../kit/ids.js';
import { didYouMean } from '../kit/suggest.js';
import { invalidManifest, type ManifestSource } from './manifest.js';
import { NAME_EXPECTED, VERSION_EXPECTED, VERSION_PATTERN } from './manifest-schema.js';
import { readYaml, type Issue } from './manifest-text.js';

/** Where a module says what it is, in its archive. */
export const MODULE_MANIFEST = 'module.yaml';

/** What a module is, from its `module.yaml`. */
export interface ModuleManifest {
  readonly name: string;
  readonly version: string;
}

const FIELDS = [
  { field: 'name', pattern: NAME_PATTERN, expected: NAME_EXPECTED },
  { field: 'version', pattern: VERSION_PATTERN, expected: VERSION_EXPECTED },
] as const;
const KNOWN = FIELDS.map(({ field }) => field);

/**
 * Reads what a module says of itself, YAML or JSON.
 * @throws invalid as parseManifest does
 */
export function parseModuleManifest(text: string, { file = MODULE_MANIFEST }: ManifestSource = {}): ModuleManifest {
  const document = readYaml(text, file);
  if (document.mistakes.length > 0) throw invalidManifest(document.mistakes);
  const { value } = document;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidManifest(document.locate([{ path: [], text: `expected a mapping of ${KNOWN.join(', ')}` }]));
  }
  const fields = new Map<string, unknown>(Object.entries(value));
  const issues = [...unknownFields(fields), ...FIELDS.flatMap((one) => wrong(one, fields.get(one.field)))];
  if (issues.length > 0) throw invalidManifest(document.locate(issues));
  return { name: String(fields.get('name')), version: String(fields.get('version')) };
}

function unknownFields(fields: ReadonlyMap<string, unknown>): Issue[] {
  const unknown = [...fields.keys()].filter((field) => !KNOWN.some((known) => known === field));
  return unknown.map((field) => ({
    path: [field],
    text: `there is no such field.${didYouMean(field, KNOWN) || ` Known here: ${KNOWN.join(', ')}`}`,
    atKey: true,
  }));
}

function wrong({ field, pattern, expected }: (typeof FIELDS)[number], value: unknown): Issue[] {
  if (typeof value === 'string' && pattern.test(value)) return [];
  if (value === undefined) return [{ path: [field], text: `missing: expected ${expected}` }];
  const shown = typeof value === 'string' || typeof value === 'number' ? JSON.stringify(value) : 'this';
  return [{ path: [field], text: `${shown} is wrong: expected ${expected}` }];
}
