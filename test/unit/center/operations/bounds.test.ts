import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SearchCoverage, SearchLogsResponse } from '../../../../generated/muster/v1/center.js';
import { LogHit, SearchReport } from '../../../../generated/muster/v1/types.js';
import type { CommandRecord } from '../../../../src/center/commands/command.js';
import { clipUploaded } from '../../../../src/center/operations/service.js';
import { ACTION_STRATEGY, readStrategy } from '../../../../src/center/operations/strategy.js';
import { pieces, toWireCoverage } from '../../../../src/center/operations/wire.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { HIT_BYTES_MAX } from '../../../../src/model/log-search.js';
import { fromWireReport } from '../../../../src/wire/log-search.js';

const MESSAGE_BYTES = 1024 * 1024;
const ROOM = { lines: 1000, around: 0, hitsBefore: 0, contextBefore: 0 };

function take(hits: readonly LogHit[], room = ROOM): readonly LogHit[] {
  return clipUploaded({ lines: [], hits: [...hits] }, room).batch.hits;
}

function target(position: number, report: Partial<SearchReport>): CommandRecord {
  return {
    id: `c-${position}`,
    number: position,
    requestId: '',
    machine: `m-${position}`,
    machineName: `web-${position}`,
    service: 'orders',
    action: 'SEARCH',
    outcome: 'SUCCEEDED',
    message: 'm'.repeat(1000),
    createdMs: 0,
    expiresMs: 0,
    deliveredMs: 0,
    startedMs: 0,
    endedMs: 0,
    unknownSinceMs: undefined,
    createdBy: 'ann',
    reason: '',
    turn: { operation: 'op-1', position, canary: false },
    result: { search: fromWireReport(SearchReport.fromPartial(report)) },
  };
}

describe('what an agent sends to a search', () => {
  it('has times that a message can carry', () => {
    const [hit] = take([LogHit.fromPartial({ time: new Date(Number.NaN), line: -1 })]);
    assert.ok(hit);
    assert.deepEqual([hit.time, hit.line], [undefined, 0]);
    SearchLogsResponse.encode(SearchLogsResponse.fromPartial({ hits: [hit] })).finish();
  });

  it('is cut to what a hit may carry, between characters', () => {
    const [hit, fits] = take([
      LogHit.fromPartial({ text: `x${'€'.repeat(20_000)}`, file: 'f'.repeat(5000), release: 'r'.repeat(5000) }),
      LogHit.fromPartial({ text: 'x'.repeat(HIT_BYTES_MAX) }),
    ]);
    assert.ok(hit && fits);
    assert.equal(hit.text, `x${'€'.repeat(Math.floor((HIT_BYTES_MAX - 1) / 3))}`);
    assert.deepEqual([hit.truncated, hit.file.length, hit.release.length], [true, 1024, 200]);
    assert.deepEqual([fits.truncated, fits.text.length], [false, HIT_BYTES_MAX]);
  });

  it('is refused beyond what honest agents send', () => {
    const hits = (count: number, context: boolean): LogHit[] =>
      Array.from({ length: count }, () => LogHit.fromPartial({ context }));
    assert.throws(() => take(hits(1001, false)), MusterError);
    assert.equal(take(hits(1000, false)).length, 1000);
    assert.throws(() => take(hits(1, true)), /more lines around/);
    const room = { ...ROOM, around: 4, hitsBefore: 2, contextBefore: 10 };
    assert.equal(take(hits(2, true), room).length, 2);
    assert.throws(() => take(hits(3, true), room), /more lines around/);
    assert.equal(take([...hits(1, false), ...hits(6, true)], room).length, 7);
  });

  it('goes on in messages that are no larger than they may be', () => {
    const text = '€'.repeat(HIT_BYTES_MAX);
    const words = { text, file: '€'.repeat(2000), release: '€'.repeat(2000), machineName: 'm', service: 's' };
    const given = take(Array.from({ length: 200 }, (_, line) => LogHit.fromPartial({ ...words, line })));
    const found = pieces(given);
    assert.deepEqual(found.flat(), given);
    assert.ok(found.length > 1);
    for (const hits of found) {
      const bytes = SearchLogsResponse.encode(SearchLogsResponse.fromPartial({ hits })).finish().length;
      assert.ok(bytes < MESSAGE_BYTES, `${bytes} bytes`);
    }
    assert.deepEqual(pieces([]), []);
  });

  it('adds up to no more than a coverage can carry', () => {
    const most = { files: 2 ** 31 - 1, bytes: Number.MAX_SAFE_INTEGER, hits: 1, first: new Date(Number.NaN) };
    const targets = [target(0, most), target(1, most), target(2, { files: -5, bytes: -7, hits: -1 })];
    const wire = toWireCoverage(targets, 2, new Set());
    const { files, bytes } = SearchCoverage.decode(SearchCoverage.encode(wire).finish());
    assert.deepEqual([files, bytes], [2 ** 31 - 1, Number.MAX_SAFE_INTEGER]);
    assert.equal(targets[2]?.result?.search?.files, 0);
  });

  it('leaves gaps that fit into a message, however many', () => {
    const targets = Array.from({ length: 5000 }, (_, index) =>
      target(index, { limits: ['SEARCH_LIMIT_PROBLEM'], problems: Array.from({ length: 20 }, () => 'p'.repeat(500)) }),
    );
    const { length } = SearchCoverage.encode(toWireCoverage(targets, 0, new Set())).finish();
    assert.ok(length < MESSAGE_BYTES, `${length} bytes`);
  });
});

describe('the order of turns', () => {
  it('is by no endless label', () => {
    const order = `label:${'k'.repeat(201)}`;
    assert.throws(() => readStrategy({ order }, ACTION_STRATEGY), { code: 'invalid' });
    readStrategy({ order: order.slice(0, -1) }, ACTION_STRATEGY);
  });
});
