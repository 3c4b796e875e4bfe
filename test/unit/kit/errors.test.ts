import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CODES, errnoOf, isCode, messageOf, MusterError, unreachable } from '../../../src/kit/errors.js';

describe('MusterError', () => {
  it('has empty details where none are given', () => {
    const error = new MusterError('not_found', 'no service "web" on this machine');
    assert.equal(error.name, 'MusterError');
    assert.equal(error.code, 'not_found');
    assert.equal(error.reason, undefined);
    assert.deepEqual(error.fields, []);
    assert.equal(error.retryAfterMs, undefined);
    assert.deepEqual(error.metadata, {});
    assert.equal('cause' in error, false);
  });

  it('carries all details', () => {
    const cause = new Error('disk');
    const details = {
      reason: 'STORE_FULL',
      fields: [{ field: 'ports[0].port', description: 'must be below 65536' }],
      retryAfterMs: 500,
      metadata: { machine: 'web-1' },
      cause,
    };
    const error = new MusterError('unavailable', 'the disk is full', details);
    assert.equal(error.reason, details.reason);
    assert.equal(error.fields, details.fields);
    assert.equal(error.retryAfterMs, 500);
    assert.equal(error.metadata, details.metadata);
    assert.equal(error.cause, cause);
  });
});

describe('isCode', () => {
  it('knows a MusterError from anything else, and its code among those asked for', () => {
    const error = new MusterError('conflict', 'moved');
    assert.equal(isCode(error), true);
    assert.equal(isCode(error, 'conflict'), true);
    assert.equal(isCode(error, 'invalid', 'conflict'), true);
    assert.equal(isCode(error, 'invalid'), false);
    assert.equal(isCode(new Error('conflict'), 'conflict'), false);
    assert.equal(isCode({ code: 'conflict' }, 'conflict'), false);
    assert.equal(isCode(undefined), false);
  });

  it('has no code twice', () => {
    assert.equal(new Set(CODES).size, CODES.length);
  });
});

describe('messageOf and errnoOf', () => {
  it('say what can be said of anything thrown', () => {
    assert.equal(messageOf(new Error('broken')), 'broken');
    assert.equal(messageOf('text'), 'text');
    assert.equal(messageOf(undefined), 'undefined');
    assert.equal(errnoOf(Object.assign(new Error('x'), { code: 'ENOENT' })), 'ENOENT');
    assert.equal(errnoOf(Object.assign(new Error('x'), { code: 14 })), undefined);
    assert.equal(errnoOf(new Error('x')), undefined);
    assert.equal(errnoOf({ code: 'ENOENT' }), undefined);
  });
});

describe('unreachable', () => {
  it('throws an internal error that shows the value', () => {
    assert.throws(() => unreachable({ at: 'nowhere' } as never), { code: 'internal', message: /nowhere/ });
  });
});
