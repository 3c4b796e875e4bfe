import assert from 'node:assert/strict';
import { it } from 'node:test';
import { wantsColours } from '../../../src/cli/colours.js';

it('a terminal gets colours, and nothing else unless it asks', () => {
  assert.equal(wantsColours({ TERM: 'xterm' }, true), true);
  assert.equal(wantsColours({ TERM: 'xterm' }, false), false);
  assert.equal(wantsColours({ CI: 'true' }, false), false);
  assert.equal(wantsColours({ FORCE_COLOR: '1' }, false), true);
});

it('a terminal gets none where they are not wanted', () => {
  assert.equal(wantsColours({ TERM: 'dumb' }, true), false);
  assert.equal(wantsColours({ NO_COLOR: '1' }, true), false);
  assert.equal(wantsColours({ NO_COLOR: '1', FORCE_COLOR: '1' }, true), false);
  assert.equal(wantsColours({ NO_COLOR: '', FORCE_COLOR: '0' }, true), false);
});
