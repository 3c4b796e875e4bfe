import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MusterError } from '../../../src/kit/errors.js';
import { newSecret } from '../../../src/kit/ids.js';
import { Secret } from '../../../src/kit/secret.js';
import { formatToken, parseToken } from '../../../src/model/token.js';

const caHash = 'a1'.repeat(32);

test('a token survives being written, wrapped by a terminal and read', () => {
  const secret = newSecret();
  const text = formatToken({ secret: new Secret(secret), caHash });
  for (const pasted of [text, `  ${text}\n`, `${text.slice(0, 40)}\n${text.slice(40)}`, text.toUpperCase()]) {
    const read = parseToken(pasted);
    assert.equal(read.secret.reveal(), secret);
    assert.equal(read.caHash, caHash);
  }
});

test('what is not a token is refused without repeating it', () => {
  const secret = newSecret();
  for (const bad of ['', secret, `${secret}.`, `${secret}.abc`, `${secret}.${caHash}.x`, `short.${caHash}`]) {
    assert.throws(
      () => parseToken(bad),
      (error) =>
        error instanceof MusterError &&
        error.code === 'invalid' &&
        error.reason === 'TOKEN_FORMAT' &&
        !error.message.includes(secret) &&
        error.message.includes('muster token create'),
    );
  }
});

test('no text makes the reader fail in another way', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      try {
        parseToken(text);
      } catch (error) {
        assert.ok(error instanceof MusterError);
      }
    }),
  );
});
