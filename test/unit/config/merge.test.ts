import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { canonicalJson, hashValues } from '../../../src/config/canonical.js';
import { mergeLayers, mergeValues } from '../../../src/config/merge.js';
import { isMap, type ConfigValue, type ConfigValues } from '../../../src/config/values.js';

const key = fc.oneof(
  fc.constantFrom('a', 'b', 'c', '__proto__', 'constructor', 'toString', ''),
  fc.string({ maxLength: 3 }),
);
const { values: anyValues } = fc.letrec<{ value: ConfigValue; values: ConfigValues }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.boolean(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ maxLength: 4 }),
    fc.array(tie('value'), { maxLength: 3 }),
    tie('values'),
  ),
  values: fc
    .array(fc.tuple(key, tie('value')), { maxLength: 5 })
    .map((pairs): ConfigValues => Object.fromEntries<ConfigValue>(pairs)),
}));

function hasNullOutsideLists(value: ConfigValue): boolean {
  return value === null || (isMap(value) && Object.values(value).some(hasNullOutsideLists));
}

describe('merging', () => {
  it('merges maps, replaces lists and scalars, deletes by null', () => {
    const base = { greeting: 'Hello', limits: { rps: 10, burst: 20 }, hosts: ['a', 'b'], old: 1 };
    const over = { limits: { rps: 5 }, hosts: ['c'], old: null, added: { deep: null, kept: [null] } };
    assert.deepEqual(mergeValues(base, over), {
      greeting: 'Hello',
      limits: { rps: 5, burst: 20 },
      hosts: ['c'],
      added: { kept: [null] },
    });
  });

  it('replaces a map by a scalar and a scalar by a map', () => {
    assert.deepEqual(mergeValues({ a: { b: 1 }, c: 1 }, { a: 2, c: { d: 3 } }), { a: 2, c: { d: 3 } });
  });

  it('keeps __proto__ as data and changes no prototype', () => {
    const evil = JSON.parse(
      '{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}',
    ) as ConfigValues;
    const merged = mergeValues({ constructor: { a: 1 } }, evil);
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
    assert.equal(Object.getPrototypeOf(merged), Object.prototype);
    assert.deepEqual(Object.keys(merged).sort(), ['__proto__', 'constructor']);
  });

  it('holds for any values: laying on twice is laying on once, nothing is lost, no null is left', () => {
    fc.assert(
      fc.property(anyValues, anyValues, (base, over) => {
        const before = canonicalJson([base, over]);
        const merged = mergeValues(base, over);
        assert.equal(canonicalJson(mergeValues(merged, over)), canonicalJson(merged));
        assert.equal(canonicalJson([base, over]), before);
        assert.ok(!Object.values(merged).some(hasNullOutsideLists));
        for (const name of Object.keys(base)) {
          if (!Object.hasOwn(over, name) && base[name] !== null) assert.ok(Object.hasOwn(merged, name));
        }
        for (const [name, value] of Object.entries(over)) {
          assert.equal(Object.hasOwn(merged, name), value !== null);
          if (value !== null && !isMap(value)) assert.deepEqual(merged[name], value);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('says which scope each top-level key came from', () => {
    const { values, provenance } = mergeLayers([
      { scope: 'service', values: { a: 1, b: { c: 1 }, d: 1 } },
      { scope: 'machine web-1', values: { b: { e: 2 }, d: null, f: 3 } },
    ]);
    assert.deepEqual(values, { a: 1, b: { c: 1, e: 2 }, f: 3 });
    assert.deepEqual(provenance, { a: 'service', b: 'machine web-1', f: 'machine web-1' });
  });
});

describe('canonical JSON', () => {
  it('is the same for the same values in any order', () => {
    assert.equal(canonicalJson({ b: [1, { d: null, c: 'x' }], a: -0 }), '{"a":0,"b":[1,{"c":"x","d":null}]}');
    assert.equal(hashValues({ a: 1, b: 2 }), hashValues({ b: 2, a: 1 }));
    assert.notEqual(hashValues({ a: 1 }), hashValues({ a: '1' }));
  });

  it('is JSON of an equal value, for any values', () => {
    fc.assert(
      fc.property(anyValues, (values) => {
        const text = canonicalJson(values);
        assert.equal(canonicalJson(JSON.parse(text) as ConfigValues), text);
      }),
      { numRuns: 300 },
    );
  });
});
