import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { programArgs } from '../../support/program.js';

const script = fileURLToPath(new URL('../../support/rpc-life', import.meta.url));
const TIMEOUT_MS = 60_000;

describe('a process that has closed its channels and drained its server', () => {
  it('ends by itself: no socket, server or timer holds it', async () => {
    const child = spawn(process.execPath, programArgs(script), {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    assert.deepEqual({ code, signal }, { code: 0, signal: null }, said);
    assert.match(said, /^left: 0 calls, 0 listeners or files/m);
  });
});
