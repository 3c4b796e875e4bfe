import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { parseModuleManifest } from '../../../src/model/module-manifest.js';

function mistakes(text: string): string {
  try {
    parseModuleManifest(text);
  } catch (error) {
    if (error instanceof MusterError && error.code === 'invalid') return error.message;
    throw error;
  }
  return 'none';
}

describe('the manifest of a module', () => {
  it('says its name and version', () => {
    const expected = { name: 'shared-lib', version: '2.3.1' };
    assert.deepEqual(parseModuleManifest('name: shared-lib\nversion: "2.3.1"\n'), expected);
    assert.deepEqual(parseModuleManifest('{"name": "shared-lib", "version": "2.3.1"}'), expected);
  });

  it('names each mistake with line and column', () => {
    assert.match(
      mistakes('name: Shared\nversion: 2.3'),
      /^module\.yaml:1:7: name: "Shared" is wrong: expected lower-case/,
    );
    assert.match(
      mistakes('name: Shared\nversion: 2.3'),
      /^module\.yaml:2:10: version: 2\.3 is wrong: expected a version/m,
    );
    assert.match(mistakes('version: "1"'), /^module\.yaml:1:1: name: missing: expected/);
    assert.match(
      mistakes('name: a\nversion: "1"\nvresion: "2"'),
      /^module\.yaml:3:1: vresion: .*Did you mean "version"\?$/,
    );
    assert.match(
      mistakes('name: a\nversion: "1"\nfiles: []'),
      /^module\.yaml:3:1: files: .*Known here: name, version$/,
    );
    assert.match(mistakes('name: a\nname: b\nversion: "1"'), /^module\.yaml:2:1: this key is written twice/);
    assert.match(mistakes('[1, 2]'), /^module\.yaml:1:1: expected a mapping of name, version$/);
    assert.match(mistakes(''), /^module\.yaml:1:1: expected a mapping of name, version$/);
    assert.match(mistakes('name: [a]\nversion: "1"'), /^module\.yaml:1:7: name: this is wrong/);
  });
});
