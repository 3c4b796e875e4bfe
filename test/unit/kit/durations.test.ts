import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../../src/kit/durations.js';

describe('parseDuration', () => {
  for (const [text, ms] of [
    ['250ms', 250],
    ['10s', 10_000],
    ['1.5s', 1500],
    ['1h30m', 5_400_000],
    ['14d', 1_209_600_000],
    ['2w', 1_209_600_000],
    ['0s', 0],
    ['1m1ms', 60_001],
  ] as const) {
    it(`reads ${text}`, () => {
      assert.equal(parseDuration(text), ms);
    });
  }

  for (const text of ['', '10', 's', '10 s', '-5s', '10s ', '10x', '1h-2m', '1e3s', ' 1s', '10S', '1..5s', 'ten']) {
    it(`refuses ${JSON.stringify(text)} and says how to write it`, () => {
      assert.throws(() => parseDuration(text), { code: 'invalid', message: /write it like/ });
    });
  }

  it('refuses what is too long to count', () => {
    assert.throws(() => parseDuration(`${'9'.repeat(400)}d`), { code: 'invalid', message: /too long/ });
  });
});

describe('formatDuration', () => {
  for (const [ms, text] of [
    [-5, '0ms'],
    [0, '0ms'],
    [0.4, '0ms'],
    [999, '999ms'],
    [999.6, '1s'],
    [1000, '1s'],
    [12_345, '12s'],
    [200_000, '3m 20s'],
    [3_600_000, '1h'],
    [3_605_000, '1h 5s'],
    [187_200_000, '2d 4h'],
    [187_265_000, '2d 4h'],
  ] as const) {
    it(`shows ${ms} ms as ${text}`, () => {
      assert.equal(formatDuration(ms), text);
    });
  }

  it('shows nothing that parseDuration cannot read, and loses less than the smaller unit shown', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100 * 86_400_000 }), (ms) => {
        const again = parseDuration(formatDuration(ms).replaceAll(' ', ''));
        assert.ok(again <= ms && ms - again < 3_600_000, `${ms} became ${again}`);
      }),
    );
  });
});

describe('parseSize', () => {
  for (const [text, bytes] of [
    ['4096', 4096],
    ['0', 0],
    ['7B', 7],
    ['50MB', 50_000_000],
    ['1.5 KB', 1500],
    ['64KiB', 65_536],
    ['1GiB', 1_073_741_824],
    ['2TB', 2e12],
  ] as const) {
    it(`reads ${text}`, () => {
      assert.equal(parseSize(text), bytes);
    });
  }

  for (const text of ['', 'MB', '-1', '10 mb', '10M', '1,5MB', '1MB1KB', '0x10']) {
    it(`refuses ${JSON.stringify(text)} and says how to write it`, () => {
      assert.throws(() => parseSize(text), { code: 'invalid', message: /write it like/ });
    });
  }

  it('refuses what is too large to count', () => {
    assert.throws(() => parseSize('9999999999TB'), { code: 'invalid', message: /too large/ });
  });
});

describe('formatSize', () => {
  for (const [bytes, text] of [
    [0, '0 B'],
    [812, '812 B'],
    [999, '999 B'],
    [1000, '1.0 KB'],
    [1_440_000, '1.4 MB'],
    [99_940, '99.9 KB'],
    [99_960, '100 KB'],
    [999_499, '999 KB'],
    [999_950, '1.0 MB'],
    [250e9, '250 GB'],
    [3e18, '3000 PB'],
  ] as const) {
    it(`shows ${bytes} bytes as ${text}`, () => {
      assert.equal(formatSize(bytes), text);
    });
  }

  it('is within a twentieth of the truth', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 999e12 }), (bytes) => {
        const shown = parseSize(formatSize(bytes));
        assert.ok(Math.abs(shown - bytes) <= bytes / 20, `${bytes} became ${shown}`);
      }),
    );
  });
});
