import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Counter, Gauge, Registry } from '../../../src/counter/index.js';
import { HANDLES_MAX, OTHER } from '../../../src/counter/registry.js';
import { seriesKey } from '../../../src/counter/series.js';

function valuesOf(registry: Registry): Record<string, number> {
  return Object.fromEntries([...registry.series()].map(({ definition, value }) => [seriesKey(definition), value]));
}

describe('counters', () => {
  it('count from zero, by one or by more', () => {
    const registry = new Registry();
    const test = new Counter('test', { help: 'Tests' }, registry);
    assert.deepEqual(valuesOf(registry), { '["test"]': 0 });
    test.increment();
    test.increment(2.5);
    new Counter('test', {}, registry).increment();
    assert.deepEqual(valuesOf(registry), { '["test"]': 4.5 });
  });

  it('bind labels to a handle once', () => {
    const registry = new Registry();
    const requests = new Counter('requests', { labels: ['route', 'status'] }, registry);
    const home = requests.with({ route: '/', status: 200 });
    assert.equal(requests.with({ status: '200', route: '/' }), home);
    home.increment();
    requests.with({ route: '/x', status: 404 }).increment(3);
    assert.deepEqual(valuesOf(registry), {
      '["requests","route","/","status","200"]': 1,
      '["requests","route","/x","status","404"]': 3,
    });
  });

  it('leave out what cannot be counted, say so once and count it', () => {
    const registry = new Registry();
    const said: string[] = [];
    registry.onMisuse((message) => said.push(message));
    const test = new Counter('test', {}, registry);
    const gauge = new Gauge('level', {}, registry);
    for (const wrong of [NaN, -1, Infinity, -Infinity]) test.increment(wrong);
    gauge.set(NaN);
    gauge.add(Infinity);
    assert.deepEqual(valuesOf(registry), { '["test"]': 0, '["level"]': 0, '["muster_counter_errors"]': 6 });
    assert.equal(said.length, 2);
    assert.match(said[0] ?? '', /"test" was incremented by NaN/);
    assert.match(said[1] ?? '', /"level" was set to NaN/);
  });

  it('refuse wrong names, labels and kinds where they are made', () => {
    const registry = new Registry();
    new Counter('test', { labels: ['a'] }, registry);
    assert.throws(() => new Counter('no spaces', {}, registry), { code: 'invalid', reason: 'INVALID_NAME' });
    assert.throws(() => new Counter('x', { labels: ['__proto__'] }, registry), { reason: 'INVALID_LABELS' });
    assert.throws(() => new Counter('y', { labels: ['a', 'a'] }, registry), { code: 'invalid' });
    assert.throws(() => new Gauge('test', { labels: ['a'] }, registry), /already a counter/);
    assert.throws(() => new Counter('test', { labels: ['b'] }, registry), /already a counter with labels \(a\)/);
    const test = new Counter<'a' | 'b'>('two', { labels: ['a', 'b'] }, registry);
    assert.throws(() => test.with(JSON.parse('{"a": "1"}') as { a: string; b: string }), /a, b/);
    assert.throws(() => test.with(JSON.parse('{"a":"1","b":"2","c":"3"}') as { a: string; b: string }), /a, b/);
  });

  it('fold only the exploding label into __other__', () => {
    const registry = new Registry();
    const requests = new Counter('requests', { labels: ['route', 'user'] }, registry);
    for (let user = 0; user < 1000; user += 1) {
      requests.with({ route: user % 2 === 0 ? '/even' : '/odd', user }).increment();
    }
    const values = valuesOf(registry);
    assert.equal(Object.keys(values).length, HANDLES_MAX + 2);
    assert.equal(values[`["requests","route","/even","user","${OTHER}"]`], 400);
    assert.equal(values[`["requests","route","/odd","user","${OTHER}"]`], 400);
    assert.equal(values['["requests","route","/even","user","0"]'], 1);
    assert.equal(
      Object.values(values).reduce((sum, value) => sum + value, 0),
      1000,
    );
  });

  it('stay bounded when every label explodes', () => {
    const registry = new Registry();
    const requests = new Counter('requests', { labels: ['a', 'b', 'c'] }, registry);
    for (let n = 0; n < 5000; n += 1) requests.with({ a: n, b: n, c: n }).increment();
    const values = valuesOf(registry);
    assert.ok(Object.keys(values).length <= HANDLES_MAX + 51, String(Object.keys(values).length));
    assert.equal(
      Object.values(values).reduce((sum, value) => sum + value, 0),
      5000,
    );
  });

  it('start the reporter with the first counter, not before', () => {
    const registry = new Registry();
    let started = 0;
    registry.onFirstUse(() => {
      started += 1;
    });
    assert.equal(started, 0);
    new Gauge('a', {}, registry);
    new Gauge('b', {}, registry);
    assert.equal(started, 1);
  });
});

describe('gauges', () => {
  it('are set and moved', () => {
    const registry = new Registry();
    const level = new Gauge('level', { unit: 'm', labels: ['tank'] }, registry);
    level.with({ tank: 'a' }).set(5);
    level.with({ tank: 'a' }).add(-7);
    assert.deepEqual(valuesOf(registry), { '["level","tank","a"]': -2 });
  });
});
