import type { Batch, Point, SeriesDefinition } from '../../src/counter/series.js';

export function definition(name: string, more: Partial<SeriesDefinition> = {}): SeriesDefinition {
  return { name, kind: 'counter', help: '', unit: '', labels: {}, ...more };
}

/** A batch of one process, from values by name. */
export function batch(uid: string, values: Readonly<Record<string, number>>, more: Partial<Batch> = {}): Batch {
  const points: Point[] = Object.entries(values).map(([name, value]) => ({
    definition: definition(name),
    value,
    timeMs: 1_000,
  }));
  return { uid, service: 'orders', startedMs: 0, resumed: false, final: false, points, ...more };
}
