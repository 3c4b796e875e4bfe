import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { createLogger, type LogLevel, silentLogger } from '../../../src/kit/logger.js';
import { Secret } from '../../../src/kit/secret.js';
import { NODE_FLAGS, moduleUrl } from '../../support/program.js';

function capture(level: LogLevel = 'debug') {
  const lines: string[] = [];
  const logger = createLogger(level, { write: (line: string) => void lines.push(line) });
  return { logger, lines, parsed: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('createLogger', () => {
  it('writes one JSON line per call with time, level, message and facts', () => {
    const { logger, lines, parsed } = capture();
    logger.debug('a');
    logger.info('b', { port: 7400 });
    logger.warn('c');
    logger.error('d');
    assert.ok(lines.every((line) => line.endsWith('\n') && !line.slice(0, -1).includes('\n')));
    assert.deepEqual(
      parsed().map(({ level, msg }) => [level, msg]),
      [
        ['debug', 'a'],
        ['info', 'b'],
        ['warn', 'c'],
        ['error', 'd'],
      ],
    );
    assert.equal(parsed()[1]?.port, 7400);
    assert.match(String(parsed()[0]?.time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it('says nothing below its level', () => {
    const { logger, lines } = capture('warn');
    logger.info('no');
    logger.warn('yes');
    assert.equal(lines.length, 1);
    silentLogger.error('no');
  });

  it('with() adds facts to every line and leaves its parent alone', () => {
    const { logger, parsed } = capture();
    const child = logger.with({ service: 'web' }).with({ pid: 7 });
    child.info('x', { port: 1 });
    logger.info('y');
    assert.deepEqual([parsed()[0]?.service, parsed()[0]?.pid, parsed()[0]?.port], ['web', 7, 1]);
    assert.equal('service' in (parsed()[1] ?? {}), false);
  });

  it('never writes a secret, however deep it is and however it got there', () => {
    const { logger, lines } = capture();
    const token = new Secret('hunter2');
    const holder = { deep: [{ token }] };
    logger
      .with({ token })
      .info(`token ${token.toString()}`, { token, holder, error: new Error(`bad ${String(token)}`) });
    assert.equal(lines.join('').includes('hunter2'), false);
    assert.equal(lines.join('').split('[secret]').length - 1, 6);
  });
});

describe('errors in the log', () => {
  it('show code and reason where they were on purpose, and the cause below', () => {
    const { logger, parsed } = capture();
    const cause = Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    logger.error('write failed', {
      error: new MusterError('unavailable', 'the disk is full', { reason: 'DISK_FULL', cause }),
    });
    const shown = parsed()[0]?.error as Record<string, unknown>;
    assert.equal(shown.code, 'unavailable');
    assert.equal(shown.reason, 'DISK_FULL');
    assert.equal(shown.message, 'the disk is full');
    assert.equal('stack' in shown, false);
    assert.match(String((shown.cause as Record<string, unknown>).stack), /ENOSPC/);
  });

  it('show the stack where they are bugs, and anything else as it is', () => {
    const { logger, parsed } = capture();
    logger.error('bug', { error: new TypeError('x is undefined') });
    logger.error('odd', { error: 'just text' });
    assert.match(String((parsed()[0]?.error as Record<string, unknown>).stack), /TypeError: x is undefined/);
    assert.equal(parsed()[1]?.error, 'just text');
  });

  it('end where causes go in a circle', () => {
    const { logger, lines } = capture();
    const first = new Error('first');
    first.cause = new Error('second', { cause: first });
    logger.error('circle', { error: first });
    assert.equal(lines.length, 1);
  });
});

describe('the default destination', () => {
  it('is standard error: standard output stays the program’s own', () => {
    const module = moduleUrl('src/kit/logger');
    const script = `import { createLogger } from ${JSON.stringify(module)}; createLogger('info').info('hello');`;
    const child = spawnSync(process.execPath, [...NODE_FLAGS, '--input-type=module', '--eval', script], {
      encoding: 'utf8',
    });
    assert.equal(child.stdout, '');
    assert.match(child.stderr, /"msg":"hello"/);
  });
});
