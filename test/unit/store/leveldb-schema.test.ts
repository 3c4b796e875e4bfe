import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { crc32 } from 'node:zlib';
import { Level } from 'level';
import type { Mutation } from '../../../src/store/port.js';
import type { Migration, Schema } from '../../../src/store/schema.js';
import { Directory, failing, put, recordingLogger, text } from './support.js';

const schema = (...migrations: Migration[]): Schema => ({ name: 'center', migrations });

/** Renames every `old/...` to `new/...`. */
const rename: Migration = async (from) => {
  const mutations: Mutation[] = [];
  for await (const { key, value } of from.range({ prefix: 'old/' })) {
    mutations.push({ kind: 'delete', key }, { kind: 'put', key: key.replace('old/', 'new/'), value });
  }
  return mutations;
};

const count: Migration = async (from) => {
  let keys = 0;
  for await (const { key } of from.range()) keys += key === '' ? 0 : 1;
  for await (const { key } of from.range({ limit: 0 })) assert.fail(key);
  return [put('count', `${keys} ${(await text(from, 'new/1')) ?? 'none'}`)];
};

describe('migrations', () => {
  it('run in order, once, and not on a new store', async (t) => {
    const directory = await Directory.make(t);
    const first = await directory.open({ schema: schema() });
    await first.write([put('old/1', 'a'), put('old/2', 'b')]);
    await first.close();
    const logger = recordingLogger();
    const second = await directory.open({ schema: schema(rename, count), logger });
    assert.equal(await text(second, 'new/1'), 'a');
    assert.equal(await text(second, 'old/1'), undefined);
    assert.equal(await text(second, 'count'), '2 a');
    assert.equal(second.revision, 3);
    assert.equal(logger.lines.filter((line) => line.includes('new version')).length, 2);
    await second.close();
    const third = await directory.open({ schema: schema(rename, count) });
    assert.equal(third.revision, 3);

    const fresh = await Directory.make(t);
    assert.equal((await fresh.open({ schema: schema(rename, count) })).revision, 0);
  });

  it('that fail leave the data in the version before, and can run again', async (t) => {
    const directory = await Directory.make(t);
    const first = await directory.open({ schema: schema() });
    await first.write([put('old/1', 'a')]);
    await first.close();
    const broken: Migration = () => Promise.reject(new Error('no such luck'));
    await assert.rejects(
      directory.open({ schema: schema(rename, broken) }),
      failing('internal', /from version 2 to 3 \(no such luck\); it is unchanged/),
    );
    const third = await directory.open({ schema: schema(rename, count) });
    assert.equal(await text(third, 'count'), '1 a');
  });

  it('are atomic with their version: a failed batch changes neither', async (t) => {
    const directory = await Directory.make(t);
    const first = await directory.open({ schema: schema() });
    await first.write([put('old/1', 'a')]);
    await first.close();
    mock.method(Level.prototype, 'batch', () => Promise.reject(new Error('IO error: injected')), { times: 1 });
    await assert.rejects(directory.open({ schema: schema(rename) }), failing('unavailable'));
    mock.restoreAll();
    const store = await directory.open({ schema: schema() });
    assert.equal(await text(store, 'old/1'), 'a');
  });

  it('that change nothing still move the version', async (t) => {
    const directory = await Directory.make(t);
    await (await directory.open({ schema: schema() })).close();
    const nothing: Migration = () => Promise.resolve([]);
    await (await directory.open({ schema: schema(nothing) })).close();
    await assert.rejects(directory.open({ schema: schema() }), failing('precondition'));
  });

  it('wait for disk space and respect expectations', async (t) => {
    const directory = await Directory.make(t);
    await (await directory.open({ schema: schema() })).close();
    const migration: Migration = () => Promise.resolve([put('a', '1')]);
    await assert.rejects(
      directory.open({ schema: schema(migration), freeBytes: () => Promise.resolve(0) }),
      failing('exhausted'),
    );
    await assert.rejects(
      directory.open({ schema: schema(() => Promise.resolve([put('a', '1', 5)])) }),
      failing('conflict'),
    );
    assert.equal(await text(await directory.open({ schema: schema(migration) }), 'a'), '1');
  });
});

describe('versions', () => {
  it('newer than this program are refused', async (t) => {
    const directory = await Directory.make(t);
    await (await directory.open({ schema: schema(count, count) })).close();
    await assert.rejects(
      directory.open({ schema: schema(count) }),
      failing('precondition', /newer Muster \(schema version 3; this one knows up to 2\)/),
    );
    await (await directory.open({ schema: schema(count, count) })).close();
  });

  it('of the format, too', async (t) => {
    const directory = await Directory.make(t);
    await (await directory.open()).close();
    await directory.bare(async (db) => {
      const json = Buffer.from('{"format":2}');
      const head = Buffer.alloc(4);
      head.writeUInt32LE(crc32(json, crc32('m')));
      await db.put(Buffer.from('m'), Buffer.concat([head, json]));
    });
    await assert.rejects(
      directory.open(),
      failing('precondition', /newer Muster \(format 2; this one knows up to 1\)/),
    );
  });

  it('of another owner are refused', async (t) => {
    const directory = await Directory.make(t);
    await (await directory.open({ schema: schema() })).close();
    await assert.rejects(
      directory.open({ schema: { name: 'agent', migrations: [] } }),
      failing('precondition', /holds the data of "center", not of "agent"/),
    );
  });
});
