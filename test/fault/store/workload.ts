/**
 * The load that fault tests put on a store, and the judge of what is left. Each lane writes batches of two keys:
 * its counter `lane/L` and a new log entry `log/L/N`. So a lost, torn or invented write shows, whatever else happened.
 */
import assert from 'node:assert/strict';
import { randomBetween, seededRandom } from '../../../src/kit/random.js';
import type { Mutation, Store } from '../../../src/store/port.js';

export const LANES = 8;
const PAYLOAD_BYTES_MAX = 600;

export function payload(seed: number, lane: number, n: number): Uint8Array {
  const random = seededRandom(seed ^ Math.imul(lane + 1, 0x9e3779b1) ^ Math.imul(n, 0x85ebca6b));
  return Uint8Array.from({ length: randomBetween(random, 0, PAYLOAD_BYTES_MAX) }, () => randomBetween(random, 0, 256));
}

function logKey(lane: number, n: number): string {
  return `log/${lane}/${String(n).padStart(8, '0')}`;
}

export function batchOf(seed: number, lane: number, n: number): readonly Mutation[] {
  return [
    { kind: 'put', key: `lane/${lane}`, value: Buffer.from(String(n)) },
    { kind: 'put', key: logKey(lane, n), value: payload(seed, lane, n) },
  ];
}

/** The last number of a lane that was written; 0: none. */
export async function laneEnd(store: Store, lane: number): Promise<number> {
  const entry = await store.get(`lane/${lane}`);
  return entry ? Number(Buffer.from(entry.value).toString()) : 0;
}

/** The highest number acknowledged per lane. */
export type Acknowledgements = Map<number, number>;

export function acknowledge(acknowledged: Acknowledgements, lane: number, n: number): void {
  acknowledged.set(lane, Math.max(n, acknowledged.get(lane) ?? 0));
}

/** @throws when an acknowledged write is missing, a batch is torn, or a value is not what was written */
export async function judge(store: Store, seed: number, acknowledged: Acknowledgements): Promise<void> {
  const found = new Map<string, Uint8Array>();
  for await (const { key, value } of store.range({ prefix: 'log/' })) found.set(key, value);
  let total = 0;
  for (let lane = 0; lane < LANES; lane += 1) {
    const end = await laneEnd(store, lane);
    const wanted = acknowledged.get(lane) ?? 0;
    assert.ok(end >= wanted, `lane ${lane} ends at ${end}, but ${wanted} was acknowledged`);
    for (let n = 1; n <= end; n += 1) {
      const value = found.get(logKey(lane, n));
      assert.ok(value, `entry ${n} of lane ${lane} is missing below its end ${end}`);
      assert.deepEqual(Buffer.from(value), Buffer.from(payload(seed, lane, n)));
    }
    total += end;
  }
  assert.equal(found.size, total, 'there are entries that no counter knows');
}
