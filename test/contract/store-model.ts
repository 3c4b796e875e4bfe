import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isCode, type Code } from '../../src/kit/errors.js';
import type { Entry, KeyRange, Mutation } from '../../src/store/port.js';
import type { Driver, Place } from './store-driver.js';

const keyArbitrary = fc.constantFrom('a', 'a/1', 'a/2', 'b', 'é', '\uffee', '\u{1f600}');
const mutationArbitrary = fc.record({
  key: keyArbitrary,
  value: fc.option(fc.uint8Array({ maxLength: 20 })),
  // Relative to the key's revision, so that most expectations hold.
  expect: fc.constantFrom('none', 'right', 'wrong', 'absent'),
});
type WantedMutation = typeof mutationArbitrary extends fc.Arbitrary<infer T> ? T : never;
const rangeArbitrary = fc.record(
  {
    prefix: fc.constantFrom('', 'a', 'a/', 'é'),
    after: keyArbitrary,
    before: keyArbitrary,
    reverse: fc.boolean(),
    limit: fc.nat({ max: 5 }),
  },
  { requiredKeys: [] },
);
const stepArbitrary = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      batches: fc.array(fc.array(mutationArbitrary, { maxLength: 4 }), { maxLength: 4 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('range' as const), range: rangeArbitrary }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
);
type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** A store as its contract reads: a map, and a counter. */
class Model {
  readonly entries = new Map<string, Entry>();
  revision = 0;

  mutation({ key, value, expect }: WantedMutation): Mutation {
    const now = this.entries.get(key)?.revision ?? 0;
    const expected = { none: {}, right: { expect: now }, wrong: { expect: now + 1 }, absent: { expect: 0 } }[expect];
    return value ? { kind: 'put', key, value, ...expected } : { kind: 'delete', key, ...expected };
  }

  /** The revision, or the code of the refusal. */
  write(batch: readonly Mutation[]): number | Code {
    if (batch.length === 0) return this.revision;
    if (new Set(batch.map(({ key }) => key)).size < batch.length) return 'invalid';
    const holds = batch.every(
      ({ key, expect }) => expect === undefined || expect === (this.entries.get(key)?.revision ?? 0),
    );
    if (!holds) return 'conflict';
    this.revision += 1;
    for (const mutation of batch) {
      if (mutation.kind === 'put')
        this.entries.set(mutation.key, { key: mutation.key, value: mutation.value, revision: this.revision });
      else this.entries.delete(mutation.key);
    }
    return this.revision;
  }

  range({ prefix = '', after, before, reverse, limit }: KeyRange): Entry[] {
    const bytes = (key: string): Buffer => Buffer.from(key);
    const found = [...this.entries.values()]
      .filter(({ key }) => key.startsWith(prefix))
      .filter(({ key }) => after === undefined || Buffer.compare(bytes(key), bytes(after)) > 0)
      .filter(({ key }) => before === undefined || Buffer.compare(bytes(key), bytes(before)) < 0)
      .sort((a, b) => Buffer.compare(bytes(a.key), bytes(b.key)));
    return (reverse ? found.reverse() : found).slice(0, limit);
  }
}

async function compare(place: Place, durable: boolean, steps: readonly Step[]): Promise<void> {
  const model = new Model();
  let store = await place.open();
  for (const step of steps) {
    if (step.kind === 'range') {
      assert.deepEqual(await gather(store.range(step.range)), model.range(step.range));
    } else if (step.kind === 'write') {
      const batches = step.batches.map((batch) => batch.map((wanted) => model.mutation(wanted)));
      const expected = batches.map((batch) => model.write(batch));
      // All at once, so that they share a group; a batch that is refused before it is queued takes no place in the order.
      const results = await Promise.allSettled(batches.map((batch) => store.write(batch)));
      const actual = results.map((result) =>
        result.status === 'fulfilled' ? result.value : isCode(result.reason) && result.reason.code,
      );
      assert.deepEqual(actual, expected);
    } else if (durable) {
      await store.close();
      store = await place.open();
    }
    assert.equal(store.revision, model.revision);
  }
  assert.deepEqual(await gather(store.range()), model.range({}));
  for (const [key, entry] of model.entries) assert.deepEqual(await store.get(key), entry);
  await store.close();
}

async function gather(entries: AsyncIterable<Entry>): Promise<Entry[]> {
  const all: Entry[] = [];
  for await (const entry of entries) all.push(entry);
  return all;
}

/** Random steps on a driver and on the model; fast-check prints the seed and the shortest failing steps. */
export async function compareWithModel(driver: Driver, runs: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 30 }), async (steps) => {
      const place = await driver.place();
      try {
        await compare(place, driver.durable, steps);
      } finally {
        await place.remove();
      }
    }),
    { numRuns: runs },
  );
}
