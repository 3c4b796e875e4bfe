import assert from 'node:assert/strict';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Patterns } from '../../../../src/center/operations/patterns.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';

describe('an expression, before machines are asked', () => {
  it('is refused in the words of grep', async () => {
    for (const pattern of ['[', '(', 'a\\', '[[:nosuch:]]']) {
      await assert.rejects(new Patterns().check({ pattern, regex: true }), (error) => {
        assert.ok(isCode(error, 'invalid') && error.reason === 'PATTERN', pattern);
        return /^this pattern cannot be searched for: grep: ./.test(error.message);
      });
    }
  });

  it('is taken where grep takes it, and plain text always', async () => {
    for (const pattern of ['fail(ed|ing)', '--help', '-f/nosuch', '\u00e9+', '$(exit 2)']) {
      await new Patterns().check({ pattern, regex: true });
    }
    await new Patterns().check({ pattern: '[', regex: false });
  });

  it('is never read by a shell', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'muster-'));
    try {
      const path = join(directory, 'made');
      for (const pattern of [`$(touch ${path})`, `"; touch ${path}; "`, `\`touch ${path}\``]) {
        await new Patterns().check({ pattern, regex: true });
      }
      await assert.rejects(access(path));
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('is left to the agents where it takes long to prepare, or many are tried at once', async () => {
    const patterns = new Patterns();
    const beganMs = systemClock.monotonic();
    const costly = [1, 2, 3, 4].map(() =>
      patterns.check({ pattern: '((((a{1,255}){1,255}){1,255}){1,255})', regex: true }),
    );
    await patterns.check({ pattern: '[', regex: true });
    await Promise.all(costly);
    assert.ok(systemClock.monotonic() - beganMs < 15_000);
    await assert.rejects(patterns.check({ pattern: '[', regex: true }));
  });
});
