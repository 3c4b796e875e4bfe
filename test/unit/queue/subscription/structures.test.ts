import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Heap, type Ranked } from '../../../../src/queue/subscription/heap.js';
import { RangeSet } from '../../../../src/queue/subscription/ranges.js';
import { MessageSizes } from '../../../../src/queue/subscription/sizes.js';
import { Spans } from '../../../../src/queue/subscription/spans.js';

const rangeArbitrary = fc.tuple(fc.nat({ max: 40 }), fc.nat({ max: 12 }));

function integers(from: number, until: number): number[] {
  return Array.from({ length: Math.max(0, until - from) }, (_, index) => from + index);
}

describe('a range set', () => {
  it('is a set of integers', () => {
    const stepsArbitrary = fc.array(fc.record({ adds: fc.boolean(), range: rangeArbitrary }), { maxLength: 30 });
    fc.assert(
      fc.property(stepsArbitrary, rangeArbitrary, (steps, [from, length]) => {
        const ranges = new RangeSet();
        const set = new Set<number>();
        for (const { adds, range } of steps) {
          const [low, count] = range;
          if (adds) ranges.add(low, low + count);
          else ranges.remove(low, low + count);
          for (const value of integers(low, low + count)) {
            if (adds) set.add(value);
            else set.delete(value);
          }
        }
        const values = [...set].sort((a, b) => a - b);
        const list = ranges.list();
        assert.deepEqual(
          list.flatMap((each) => integers(each.from, each.until)),
          values,
        );
        assert.ok(
          list.every((each, index) => each.from > (list[index - 1]?.until ?? -1)),
          'ranges do not touch',
        );
        assert.deepEqual(new RangeSet(list).list(), list);
        assert.equal(ranges.ranges, list.length);
        assert.equal(ranges.first, values[0]);
        assert.equal(ranges.end, values.length === 0 ? undefined : (values.at(-1) ?? 0) + 1);
        assert.equal(ranges.has(from), set.has(from));
        assert.equal(
          ranges.firstFrom(from),
          values.find((value) => value >= from),
        );
        const inside = integers(from, from + length).filter((value) => set.has(value));
        assert.equal(ranges.countIn(from, from + length), inside.length);
        if (set.has(from))
          assert.equal(
            ranges.endOf(from),
            integers(from, 99).find((value) => !set.has(value)),
          );
        else assert.equal(ranges.endOf(from), undefined);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('spans', () => {
  it('are found, added and taken out as in a plain list, whatever the size of a piece', () => {
    const stepArbitrary = fc.record({ takesOut: fc.boolean(), from: fc.nat({ max: 60 }), length: fc.nat({ max: 3 }) });
    fc.assert(
      fc.property(fc.array(stepArbitrary, { maxLength: 80 }), fc.integer({ min: 1, max: 8 }), (steps, pieceMax) => {
        const spans = new Spans<[number, number]>({ from: ([from]) => from, until: ([, until]) => until }, pieceMax);
        let list: [number, number][] = [];
        for (const { takesOut, from, length } of steps) {
          const item: [number, number] = [from, from + length + 1];
          const overlapping = list.filter((other) => other[1] > item[0] && other[0] < item[1]);
          assert.deepEqual(spans.overlapping(...item), overlapping);
          assert.equal(
            spans.firstBehind(from),
            list.find(([, until]) => until > from),
          );
          for (const other of takesOut ? overlapping : []) spans.remove(other);
          if (takesOut) list = list.filter((other) => !overlapping.includes(other));
          else if (overlapping.length === 0) {
            spans.add(item);
            list = [...list, item].sort(([a], [b]) => a - b);
          }
          spans.remove(item.slice(0) as [number, number]);
          assert.deepEqual([...spans], list, 'only the very item is taken out');
          assert.deepEqual([spans.size, spans.first, spans.last], [list.length, list[0], list.at(-1)]);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('a heap', () => {
  it('gives the lowest first, whatever was taken out of it', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 30 }), { maxLength: 60 }), fc.array(fc.nat()), (ranks, picks) => {
        const heap = new Heap<Ranked & { readonly id: number }>();
        let left = ranks.map((rank, id) => ({ rank, id, slot: -1 }));
        for (const item of left) heap.push(item);
        for (const pick of picks) {
          const item = left[pick % Math.max(1, left.length)];
          if (!item) break;
          heap.remove(item);
          assert.equal(item.slot, -1);
          left = left.filter((other) => other !== item);
        }
        const odd = heap.sift(({ id }) => id % 2 === 0).map(({ id }) => id);
        assert.deepEqual(odd.sort(), left.flatMap(({ id }) => (id % 2 === 1 ? [id] : [])).sort());
        left = left.filter(({ id }) => id % 2 === 0);
        const order = [];
        for (let item = heap.peek(); item; item = heap.peek()) {
          order.push(item.rank);
          heap.remove(item);
        }
        assert.deepEqual(
          order,
          left.map(({ rank }) => rank).sort((a, b) => a - b),
        );
      }),
    );
  });
});

describe('message sizes', () => {
  it('are the same in any part of them', () => {
    const sizesArbitrary = fc.array(fc.integer({ min: 2, max: 90 }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(sizesArbitrary, fc.nat(), fc.nat(), fc.nat({ max: 3000 }), (sizes, a, b, bytes) => {
        let end = 0;
        const starts = Uint32Array.from(sizes, (size) => (end += size) - size);
        const all = new MessageSizes(100, starts, end);
        const from = a % sizes.length;
        const count = 1 + (b % (sizes.length - from));
        const part = all.part(100 + from, count);
        const sum = (length: number): number =>
          sizes.slice(from, from + length).reduce((total, size) => total + size, 0);
        assert.equal(part.bytesOf(100 + from, 100 + from + count - 1), sum(count));
        const fitting = part.fitting(100 + from, count, bytes);
        assert.ok(sum(fitting) <= bytes);
        assert.ok(fitting === count || sum(fitting + 1) > bytes);
      }),
    );
  });
});
