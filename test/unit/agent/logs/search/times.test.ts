import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timeOf } from '../../../../../src/agent/logs/search/times.js';

const REFERENCE = Date.UTC(2026, 10, 24);
const NOON = Date.UTC(2026, 10, 23, 12, 0, 0);
const LOCAL_NOON = new Date(2026, 10, 23, 12, 0, 0).getTime();

const KNOWN: readonly (readonly [string, number, number])[] = [
  ['2026-11-23T12:00:00Z start', NOON, 1000],
  ['2026-11-23T12:00:00.123Z start', NOON + 123, 1],
  ['2026-11-23T12:00:00.123456789Z start', NOON + 123, 1],
  ['2026-11-23T14:00:00+02:00 start', NOON, 1000],
  ['2026-11-23T06:30:00-0530 start', NOON, 1000],
  ['2026-11-23 12:00:00,5 UTC start', NOON + 500, 1],
  ['2026-11-23 12:00:00 +0000 start', NOON, 1000],
  ['2026-11-23 12:00:00 start', LOCAL_NOON, 1000],
  ['2026-11-23 12:00 start', LOCAL_NOON, 60_000],
  ['[2026-11-23T12:00:00Z] INFO start', NOON, 1000],
  ['INFO  [main] 2026-11-23 12:00:00,250 - start', LOCAL_NOON + 250, 1],
  ['time="2026-11-23T12:00:00Z" level=info', NOON, 1000],
  ['10.0.0.1 - bob [23/Nov/2026:12:00:00 +0000] "GET /?from=2020-01-01T00:00:00Z HTTP/1.1" 200 1', NOON, 1000],
  ['2001:db8::1 - - [23/Nov/2026:13:00:00 +0100] "GET / HTTP/1.1" 200 1', NOON, 1000],
  ['2026/11/23 12:00:00 [error] 12#12: *1 open() failed', LOCAL_NOON, 1000],
  ['[Mon Nov 23 12:00:00.250000 2026] [core:error] [pid 1] x', LOCAL_NOON + 250, 1],
  ['1:M 23 Nov 2026 12:00:00.250 * Ready', LOCAL_NOON + 250, 1],
  ['Nov 23 12:00:00 host app[1]: x', LOCAL_NOON, 1000],
  ['<34>Nov 23 12:00:00 host app: x', LOCAL_NOON, 1000],
  ['{"level":30,"time":1795435200123,"msg":"x"}', 1_795_435_200_123, 1],
  ['{"level":"info","ts":1795435200.5,"msg":"x"}', 1_795_435_200_500, 1],
  ['{"msg":"x","timestamp":"2026-11-23T12:00:00Z"}', NOON, 1000],
  ['{"@timestamp": "2026-11-23T12:00:00.001Z"}', NOON + 1, 1],
  ['1795435200 start', 1_795_435_200_000, 1000],
  ['1795435200123 start', 1_795_435_200_123, 1],
  ['1795435200.25 start', 1_795_435_200_250, 1],
];

for (const [line, ms, precisionMs] of KNOWN) {
  test(`the time of ${line}`, () => {
    assert.deepEqual(timeOf(line, REFERENCE), { ms, precisionMs });
  });
}

for (const line of [
  '',
  'no time at all',
  '    at Object.<anonymous> (/srv/app.js:12:3) 2026-11-23T12:00:00Z',
  '\tat com.example.Main(Main.java:1)',
  '2026-13-01 12:00:00 no such month',
  '2026-02-30 12:00:00 no such day',
  '2026-11-23 25:00:00 no such hour',
  '12345678901 is no time',
  '{"message":"2026-11-23T12:00:00Z"}',
  `${'x'.repeat(100)} 2026-11-23T12:00:00Z`,
  '[muster: earlier lines are in app.log.000001]',
]) {
  test(`no time in "${line.slice(0, 50)}"`, () => {
    assert.equal(timeOf(line, REFERENCE), undefined);
  });
}

test('a time without a year is of the last year where this year has not come to it', () => {
  const january = Date.UTC(2027, 0, 5);
  assert.equal(timeOf('Dec 31 23:59:59 host x', january)?.ms, new Date(2026, 11, 31, 23, 59, 59).getTime());
  assert.equal(timeOf('Jan  4 23:59:59 host x', january)?.ms, new Date(2027, 0, 4, 23, 59, 59).getTime());
});

test('a time that is part of what the line tells is not its own', () => {
  assert.equal(timeOf('2026-11-23T12:00:00Z until 2026-12-01T00:00:00Z', REFERENCE)?.ms, NOON);
});

test('no line takes long to look at', () => {
  for (const line of ['['.repeat(5000), '1'.repeat(5000), '2026-11-23 '.repeat(500), '{"time":'.repeat(500)]) {
    const startedMs = performance.now();
    for (let round = 0; round < 200; round += 1) timeOf(line, REFERENCE);
    assert.ok(performance.now() - startedMs < 500, line.slice(0, 20));
  }
});
