import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { silentLogger, type Logger } from '../../../src/kit/logger.js';
import { Scrub } from '../../../src/queue/scrub.js';
import { TestLog, turns } from '../../support/queue-parts.js';

function scrubbing(log: TestLog): { scrub: Scrub; lines: string[]; stop: AbortController; running: Promise<void> } {
  const lines: string[] = [];
  const logger: Logger = { ...silentLogger, error: (message) => lines.push(message), with: () => logger };
  const scrub = new Scrub(log, logger);
  const stop = new AbortController();
  return { scrub, lines, stop, running: scrub.run(stop.signal) };
}

describe('looking for damage', () => {
  it('logs all, remembers some, and then waits for the end', async () => {
    const log = new TestLog();
    log.damage = Array.from({ length: 25 }, (_, index) => `file ${index} is damaged`);
    const { scrub, lines, stop, running } = scrubbing(log);
    await turns();
    assert.deepEqual([lines.length, scrub.damage.length, scrub.damage[0]], [25, 20, 'file 0 is damaged']);
    let ended = false;
    void running.then(() => (ended = true));
    await turns();
    assert.equal(ended, false);
    stop.abort();
    await running;
  });

  it('that fails is logged, and ends nothing else', async () => {
    const log = new TestLog();
    log.scrub = () => {
      throw new Error('the disk cannot be read');
    };
    const { scrub, lines, stop, running } = scrubbing(log);
    await turns();
    assert.deepEqual([lines, scrub.damage], [['the stored data could not be checked'], []]);
    stop.abort();
    await running;
  });

  it('that is stopped is no failure', async () => {
    const log = new TestLog();
    const { lines, stop, running } = scrubbing(log);
    log.scrub = () => {
      throw new Error('stopped');
    };
    stop.abort();
    await running;
    assert.deepEqual(lines, []);
  });
});
