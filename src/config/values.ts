/** What a configuration is made of: plain JSON. Immutable once made, so that snapshots can be shared. */

export type ConfigValue = null | boolean | number | string | readonly ConfigValue[] | ConfigValues;

export interface ConfigValues {
  readonly [key: string]: ConfigValue;
}

/** Whether a value is a map: what merges instead of being replaced. */
export function isMap(value: ConfigValue | undefined): value is ConfigValues {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An own value of a map, never one inherited from its prototype. */
export function ownValue(values: ConfigValues, key: string): ConfigValue | undefined {
  return Object.hasOwn(values, key) ? values[key] : undefined;
}
