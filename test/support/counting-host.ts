import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Counter, flush } from '../../src/counter/index.js';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { randomBetween, systemRandom } from '../../src/kit/random.js';
import { startAgentHost, startCenterHost } from './hops.js';

/**
 * One process of a site that counts, to be killed at any moment:
 *   center DIRECTORY SERVICES | agent DIRECTORY CENTER-ADDRESS SERVICES | service
 * A service counts until it reads a line, and says on standard output, a JSON object a line: `counted` before it counts,
 * `acknowledged` after a flush, `paused` once it has stopped and everything is acknowledged.
 */

const TICK_MS = 3;
const FLUSH_INTERVAL_MS = 30;
const FLUSH_TIMEOUT_MS = 2_000;
const INCREMENT_MAX = 5;

function say(fact: Record<string, unknown>): void {
  writeSync(1, `${JSON.stringify(fact)}\n`);
}

async function count(): Promise<void> {
  const counter = new Counter('test');
  const paused = new AbortController();
  createInterface({ input: process.stdin }).once('line', () => {
    paused.abort();
  });
  let counted = 0;
  const tick = async (): Promise<void> => {
    while (!paused.signal.aborted) {
      const by = randomBetween(systemRandom, 1, INCREMENT_MAX);
      counted += by;
      say({ counted });
      counter.increment(by);
      await sleep(systemClock, TICK_MS, paused.signal).catch(() => undefined);
    }
  };
  const ticking = tick();
  while (!paused.signal.aborted) {
    await flushed(() => counted);
    await sleep(systemClock, FLUSH_INTERVAL_MS, paused.signal).catch(() => undefined);
  }
  await ticking;
  while (!(await flushed(() => counted)));
  say({ paused: counted });
}

async function flushed(counted: () => number): Promise<boolean> {
  const before = counted();
  try {
    await flush({ timeoutMs: FLUSH_TIMEOUT_MS });
    say({ acknowledged: before });
    return true;
  } catch {
    return false;
  }
}

const [role, directory = '', ...rest] = process.argv.slice(2);
if (role === 'center') {
  await startCenterHost(directory, (rest[0] ?? '').split(','));
  say({ ready: true });
} else if (role === 'agent') {
  await startAgentHost(directory, { center: rest[0] ?? '', services: (rest[1] ?? '').split(',') });
  say({ ready: true });
} else {
  await count();
}
