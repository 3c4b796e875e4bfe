import assert from 'node:assert/strict';
import { it } from 'node:test';
import { counted } from '../../../src/kit/counted.js';

it('says how many there are of something', () => {
  assert.deepEqual(
    [0, 1, 2].map((count) => counted(count, 'file')),
    ['0 files', '1 file', '2 files'],
  );
});
