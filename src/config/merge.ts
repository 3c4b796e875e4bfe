import { isMap, ownValue, type ConfigValue, type ConfigValues } from './values.js';

/** One document of a service's configuration, with the place it applies to, for people. */
export interface Layer {
  readonly scope: string;
  readonly values: ConfigValues;
}

export interface Merged {
  readonly values: ConfigValues;
  /** Of each top-level key, the scope of the last layer that contributed to it. */
  readonly provenance: Readonly<Record<string, string>>;
}

/**
 * `over` laid on `base`: maps merge key by key, lists and scalars replace, `null` deletes. A `null` inside a list is a value.
 * The result holds no `null` outside lists. Neither argument is changed; parts of them may be shared by the result.
 */
export function mergeValues(base: ConfigValues, over: ConfigValues): ConfigValues {
  const merged = new Map<string, ConfigValue>();
  for (const [key, value] of Object.entries(base)) {
    if (value !== null) merged.set(key, isMap(value) ? mergeValues({}, value) : value);
  }
  for (const [key, value] of Object.entries(over)) {
    if (value === null) merged.delete(key);
    else merged.set(key, isMap(value) ? mergeValues(mapOrEmpty(ownValue(base, key)), value) : value);
  }
  // fromEntries defines own properties, so that a key like __proto__ stays data.
  return Object.fromEntries(merged);
}

/** All layers, each laid on those before it. */
export function mergeLayers(layers: readonly Layer[]): Merged {
  let values: ConfigValues = {};
  const scopes = new Map<string, string>();
  for (const layer of layers) {
    values = mergeValues(values, layer.values);
    for (const key of Object.keys(layer.values)) scopes.set(key, layer.scope);
  }
  return { values, provenance: Object.fromEntries([...scopes].filter(([key]) => Object.hasOwn(values, key))) };
}

function mapOrEmpty(value: ConfigValue | undefined): ConfigValues {
  return isMap(value) ? value : {};
}
