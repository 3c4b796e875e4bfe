import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MACHINE_NAME_PATTERN, NAME_PATTERN, newId, newSecret } from '../../../src/kit/ids.js';

describe('newId and newSecret', () => {
  it('are of the promised shape and never repeat', () => {
    const ids = new Set<string>();
    for (let count = 0; count < 1000; count += 1) {
      const id = newId('m');
      assert.match(id, /^m-[0-9abcdefghjkmnpqrstvwxyz]{16}$/);
      ids.add(id);
      assert.match(newSecret(), /^[0-9abcdefghjkmnpqrstvwxyz]{32}$/);
    }
    assert.equal(ids.size, 1000);
  });

  it('use the whole alphabet in every place', () => {
    const seen = Array.from({ length: 32 }, () => new Set<string>());
    for (let count = 0; count < 2000; count += 1) {
      const secret = newSecret();
      seen.forEach((place, index) => place.add(secret.charAt(index)));
    }
    assert.deepEqual(
      seen.map((place) => place.size),
      seen.map(() => 32),
    );
  });
});

describe('names', () => {
  const long = 'a'.repeat(63);

  it('of services are lower-case labels of at most 63 characters', () => {
    for (const name of ['a', '7', 'web', 'web-1', 'a--b', long]) assert.match(name, NAME_PATTERN, name);
    for (const name of ['', '-a', 'a-', 'Web', 'a.b', 'a_b', 'a b', `${long}a`, 'a\n', '../a', 'é']) {
      assert.doesNotMatch(name, NAME_PATTERN, name);
    }
  });

  it('of machines are host names of at most 253 characters', () => {
    for (const name of ['a', 'Web-1.example.org', 'x'.repeat(253)]) assert.match(name, MACHINE_NAME_PATTERN, name);
    for (const name of ['', '.', 'a.', '.a', 'a/b', 'a_b', 'x'.repeat(254), 'a\n']) {
      assert.doesNotMatch(name, MACHINE_NAME_PATTERN, name);
    }
  });
});
