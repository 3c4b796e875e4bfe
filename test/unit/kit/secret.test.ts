import assert from 'node:assert/strict';
import { test } from 'node:test';
import { format, inspect } from 'node:util';
import { Secret } from '../../../src/kit/secret.js';

test('a secret shows itself to nobody who does not ask', () => {
  const secret = new Secret('hunter2');
  const shown = [
    String(secret),
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ deep: { list: [secret] } }, { depth: 10, showHidden: true }),
    format('%s %o %j', secret, secret, secret),
    Object.values(secret).join(),
  ];
  for (const text of shown) assert.equal(text.includes('hunter2'), false, text);
  assert.equal(inspect(secret), '[secret]');
  assert.equal(JSON.stringify({ secret }), '{"secret":"[secret]"}');
  assert.equal(secret.reveal(), 'hunter2');
});

test('a secret holds any type', () => {
  assert.deepEqual(new Secret(Uint8Array.of(1, 2)).reveal(), Uint8Array.of(1, 2));
});
