import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { isCode, type Code } from '../../../src/kit/errors.js';
import { Documents } from '../../../src/store/documents.js';
import { openMemoryStore } from '../../../src/store/memory.js';

interface Machine {
  readonly name: string;
  readonly labels?: Record<string, string>;
}

const codec = {
  decode: (parsed: unknown): Machine => {
    if (typeof parsed !== 'object' || parsed === null || !('name' in parsed) || typeof parsed.name !== 'string')
      throw new Error('name is missing');
    return parsed as Machine;
  },
};

const withCode = (code: Code) => (error: unknown) => isCode(error, code);

async function machines() {
  const store = await openMemoryStore();
  return { store, documents: new Documents(store, 'machines/', codec) };
}

it('puts, gets, lists and deletes', async () => {
  const { store, documents } = await machines();
  assert.equal(await documents.get('m-1'), undefined);
  assert.equal(await documents.put('m-1', { name: 'one' }), 1);
  await documents.put('m-2', { name: 'two' }, { expect: 0 });
  assert.deepEqual(await documents.get('m-1'), { id: 'm-1', value: { name: 'one' }, revision: 1 });
  assert.deepEqual(await documents.all(), [
    { id: 'm-1', value: { name: 'one' }, revision: 1 },
    { id: 'm-2', value: { name: 'two' }, revision: 2 },
  ]);
  await assert.rejects(documents.put('m-1', { name: 'x' }, { expect: 7 }), withCode('conflict'));
  await assert.rejects(documents.delete('m-1', { expect: 7 }), withCode('conflict'));
  await documents.delete('m-1', { expect: 1 });
  await documents.delete('m-1');
  assert.equal(await documents.get('m-1'), undefined);
  assert.equal((await store.get('machines/m-2'))?.revision, 2);
});

it('pages in both directions, by prefix and limit', async () => {
  const { documents } = await machines();
  for (const id of ['a', 'b/1', 'b/2', 'b/3', 'c']) await documents.put(id, { name: id });
  const ids = async (...options: Parameters<typeof documents.all>) =>
    (await documents.all(...options)).map(({ id }) => id);
  assert.deepEqual(await ids({ limit: 2 }), ['a', 'b/1']);
  assert.deepEqual(await ids({ after: 'b/1', limit: 2 }), ['b/2', 'b/3']);
  assert.deepEqual(await ids({ reverse: true, limit: 2 }), ['c', 'b/3']);
  assert.deepEqual(await ids({ reverse: true, after: 'b/3', limit: 2 }), ['b/2', 'b/1']);
  assert.deepEqual(await ids({ prefix: 'b/' }), ['b/1', 'b/2', 'b/3']);
  assert.deepEqual(await ids({ prefix: 'b/', after: 'b/2' }), ['b/3']);
  assert.deepEqual(await ids({ limit: 0 }), []);
});

it('keeps every id below its prefix, and apart from the others', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }), { maxLength: 8 }),
      async (ids) => {
        const { store, documents } = await machines();
        for (const id of [...ids, '../x', 'a/b', 'a%2Fb', '%', '%25']) await documents.put(id, { name: id });
        for await (const { key } of store.range()) assert.match(key, /^machines\/[^/]+$/);
        for (const { id, value } of await documents.all()) assert.equal(id, value.name);
        for (const id of ids) assert.equal((await documents.get(id))?.value.name, id);
      },
    ),
    { numRuns: 200 },
  );
});

it('does not see documents of a deeper prefix', async () => {
  const { store, documents } = await machines();
  const deeper = new Documents<string>(store, 'machines/labels/');
  const controller = new AbortController();
  const changes = documents.watch(controller.signal)[Symbol.asyncIterator]();
  await deeper.put('m-1', 'x');
  await documents.put('m-2', { name: 'two' });
  await documents.delete('m-2');
  assert.deepEqual(
    (await documents.all()).map(({ id }) => id),
    [],
  );
  assert.deepEqual((await changes.next()).value, { id: 'm-2', value: { name: 'two' }, revision: 2 });
  assert.deepEqual((await changes.next()).value, { id: 'm-2', value: undefined, revision: 3 });
  controller.abort();
  assert.equal((await changes.next()).done, true);
});

it('updates with compare-and-set, and tries again when another was faster', async () => {
  const store = await openMemoryStore();
  const counts = new Documents<number>(store, 'counts/');
  await Promise.all(Array.from({ length: 10 }, () => counts.update('n', (count = 0) => count + 1)));
  assert.deepEqual((await counts.get('n'))?.value, 10);
  assert.equal(await counts.update('n', (count) => count).then((document) => document?.value), 10);
  assert.equal(store.revision, 10);
  assert.equal(await counts.update('n', () => undefined), undefined);
  assert.equal(await counts.get('n'), undefined);
  assert.equal(await counts.update('n', () => undefined), undefined);
  await assert.rejects(
    counts.update('n', () => {
      throw new Error('mine');
    }),
    /mine/,
  );
});

it('gives up an update that always loses', async () => {
  const store = await openMemoryStore();
  const counts = new Documents<number>(store, 'counts/');
  let runs = 0;
  const losing: typeof store = Object.create(store, {
    get: { value: (key: string) => store.get(key) },
    write: {
      value: async (mutations: Parameters<typeof store.write>[0]) => {
        runs += 1;
        await counts.put('n', runs);
        return store.write(mutations);
      },
    },
  }) as typeof store;
  await assert.rejects(
    new Documents<number>(losing, 'counts/').update('n', () => -1),
    withCode('conflict'),
  );
  assert.equal(runs, 32);
});

it('makes batches over several collections', async () => {
  const { store, documents } = await machines();
  const names = new Documents<string>(store, 'names/');
  await store.write([documents.putting('m-1', { name: 'one' }, 0), names.putting('one', 'm-1', 0)]);
  await assert.rejects(
    store.write([documents.putting('m-2', { name: 'one' }, 0), names.putting('one', 'm-2', 0)]),
    withCode('conflict'),
  );
  assert.equal(await documents.get('m-2'), undefined);
  await store.write([documents.deleting('m-1', 1), names.deleting('one')]);
  assert.deepEqual(await names.all(), []);
});

it('refuses __proto__ wherever it is, and passes the word as a value', async () => {
  const { store, documents } = await machines();
  const labels = JSON.parse('{"a":{"__proto__":{"polluted":true}}}') as Record<string, string>;
  await assert.rejects(
    documents.put('m-1', { name: 'x', labels }),
    (error) => isCode(error, 'invalid') && error.message.includes('$.labels.a.__proto__'),
  );
  await documents.put('m-1', { name: '__proto__', labels: { x: '__proto__' } });
  assert.equal((await documents.get('m-1'))?.value.name, '__proto__');
  await documents.put('__proto__', { name: 'an id may be so' });
  assert.equal((await documents.get('__proto__'))?.value.name, 'an id may be so');
  for (const text of ['{"name":"x","__proto__":{}}', '{"name":"x","\\u005f_proto__":{}}']) {
    await store.write([{ kind: 'put', key: 'machines/bad', value: Buffer.from(text) }]);
    await assert.rejects(documents.get('bad'), withCode('invalid'));
  }
});

it('says which document cannot be read or stored', async () => {
  const { store, documents } = await machines();
  await store.write([
    { kind: 'put', key: 'machines/shape', value: Buffer.from('{"nome":"x"}') },
    { kind: 'put', key: 'machines/text', value: Buffer.from('not json') },
  ]);
  await assert.rejects(
    documents.get('shape'),
    (error) => isCode(error, 'internal') && error.message.includes('machines/shape'),
  );
  await assert.rejects(documents.get('text'), withCode('data_loss'));
  const any = new Documents<unknown>(store, 'any/');
  await assert.rejects(any.put('a', undefined), withCode('invalid'));
  await assert.rejects(any.put('a', 1n), withCode('invalid'));
  await assert.rejects(any.put('', 1), withCode('invalid'));
  assert.throws(() => new Documents(store, 'machines'), withCode('invalid'));
  assert.throws(() => new Documents(store, '/'), withCode('invalid'));
});

it('stores what the codec makes of a value', async () => {
  const store = await openMemoryStore();
  const times = new Documents<Date>(store, 'times/', {
    decode: (parsed) => new Date(String(parsed)),
    encode: (time) => time.toISOString(),
  });
  await times.put('a', new Date(5));
  assert.deepEqual((await times.get('a'))?.value, new Date(5));
});
