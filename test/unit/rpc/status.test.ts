import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metadata, status as GrpcStatus } from '@grpc/grpc-js';
import fc from 'fast-check';
import { Any } from '../../../generated/google/protobuf/any.js';
import { Status } from '../../../generated/google/rpc/status.js';
import { CODES, MusterError } from '../../../src/kit/errors.js';
import { asMusterError, codeOf, fromStatus, statusOf, toStatus } from '../../../src/rpc/status.js';

describe('status', () => {
  it('takes every code to gRPC and back', () => {
    for (const code of CODES) assert.equal(codeOf(statusOf(code)), code);
    assert.equal(new Set(CODES.map(statusOf)).size, CODES.length);
  });

  it('knows every status of gRPC', () => {
    for (const status of Object.values(GrpcStatus).filter((value) => typeof value === 'number')) {
      assert.ok(CODES.includes(codeOf(status)), String(status));
    }
    assert.equal(codeOf(GrpcStatus.UNKNOWN), 'internal');
    assert.equal(codeOf(GrpcStatus.OUT_OF_RANGE), 'invalid');
    for (const strange of [-1, 17, 999, Number.NaN]) assert.equal(codeOf(strange), 'internal');
  });

  it('carries all that a failure says', () => {
    const text = fc.string({ maxLength: 100 }).map((value) => Buffer.from(value, 'utf8').toString('utf8'));
    const failure = fc.record({
      code: fc.constantFrom(...CODES),
      message: text,
      reason: fc.option(fc.stringMatching(/^[A-Z][A-Z_]{1,30}$/), { nil: undefined }),
      fields: fc.array(fc.record({ field: text, description: text }, { noNullPrototype: true }), { maxLength: 5 }),
      retryAfterMs: fc.option(fc.nat(100_000_000), { nil: undefined }),
      metadata: fc.dictionary(fc.stringMatching(/^[a-z]{1,10}$/), text, { maxKeys: 5 }),
    });
    fc.assert(
      fc.property(failure, ({ code, message, reason, fields, retryAfterMs, metadata }) => {
        const sent = new MusterError(code, message, {
          ...(reason === undefined ? {} : { reason }),
          ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
          fields,
          metadata,
        });
        const got = fromStatus(toStatus(sent));
        assert.equal(got.code, code);
        assert.equal(got.message, message);
        assert.equal(got.reason, reason);
        assert.deepEqual(got.fields, fields);
        assert.equal(got.retryAfterMs, retryAfterMs);
        assert.deepEqual({ ...got.metadata }, { ...metadata });
      }),
    );
  });

  it('keeps what goes into headers small and encodable, whatever the failure says', () => {
    const huge = '\ud800é\n'.repeat(50_000);
    const { details, metadata } = toStatus(
      new MusterError('invalid', huge, {
        reason: 'R',
        fields: Array.from({ length: 1000 }, () => ({ field: huge, description: huge })),
        metadata: Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`k${index}`, huge])),
      }),
    );
    const size = encodeURI(details).length + JSON.stringify(metadata.toHttp2Headers()).length;
    assert.ok(size < 60 * 1024, `${size} bytes of headers`);
    assert.ok(details.endsWith('…'));
  });

  it('reads a status whose details are damaged or of other kinds', () => {
    const damaged = new Metadata();
    damaged.set('grpc-status-details-bin', Buffer.from([0xff, 0xff]));
    assert.equal(fromStatus({ code: 5, details: 'gone', metadata: damaged }).message, 'gone');
    const foreign = new Metadata();
    const any = Any.fromPartial({ typeUrl: 'type.googleapis.com/google.rpc.Help', value: Buffer.from('x') });
    foreign.set(
      'grpc-status-details-bin',
      Buffer.from(Status.encode({ code: 5, message: '', details: [any] }).finish()),
    );
    assert.equal(fromStatus({ code: 5, details: 'gone', metadata: foreign }).code, 'not_found');
    assert.equal(fromStatus({ code: 5, details: 'gone' }).reason, undefined);
  });

  it('makes anything thrown a failure', () => {
    const own = new MusterError('exists', 'there is one');
    assert.equal(asMusterError(own), own);
    const bug = asMusterError(new TypeError('oops'));
    assert.equal(bug.code, 'internal');
    assert.ok(bug.cause instanceof TypeError);
    assert.equal(asMusterError('text').message, 'text');
  });
});
