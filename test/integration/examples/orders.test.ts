import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startQueueFixture } from '../../support/queue-client.js';
import { waitFor } from '../../support/waiting.js';

const ORDERS = fileURLToPath(new URL('../../../examples/orders', import.meta.url));
const LIBRARY = fileURLToPath(new URL('../../../dist/src/client/queue/index.js', import.meta.url));

interface Program {
  readonly process: ChildProcessByStdio<null, Readable, Readable>;
  readonly said: { out: string; err: string };
  /** Its exit code. */
  readonly ended: Promise<number | null>;
}

function run(t: TestContext, queue: string, ...argv: string[]): Program {
  const child = spawn(process.execPath, argv, {
    cwd: ORDERS,
    env: { PATH: process.env['PATH'], MUSTER_QUEUE: queue },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.after(() => child.kill('SIGKILL'));
  const said = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (said.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said.err += chunk.toString()));
  return { process: child, said, ended: once(child, 'close').then(([code]) => code as number | null) };
}

describe('the orders example', { skip: !existsSync(LIBRARY) && 'needs npm run build' }, () => {
  it('bills every order once, over two workers, and ends by itself when told to', async (t) => {
    const { address, stats } = await startQueueFixture(t);
    const workers = [run(t, address, 'worker.mjs'), run(t, address, 'worker.mjs')];
    const billed = (): string[] => workers.flatMap(({ said }) => said.out.trim().split('\n').filter(Boolean));
    for (let round = 0; round < 2; round += 1) {
      const publisher = run(t, address, 'publish.mjs', '500');
      assert.equal(await publisher.ended, 0, publisher.said.err);
      assert.equal(publisher.said.out, 'published 500 orders\n');
    }
    await waitFor('every order to be billed', () => billed().length >= 500);
    await stats('billing', ({ backlog, consumers }) => backlog === 0 && consumers.length === 2);
    for (const worker of workers) worker.process.kill('SIGTERM');
    for (const worker of workers) assert.equal(await worker.ended, 0, worker.said.err);
    assert.equal(billed().length, 500);
    assert.equal(new Set(billed()).size, 500);
    await stats('billing', ({ backlog, consumers }) => backlog === 0 && consumers.length === 0);
  });
});
