import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseStat, readBootId, readProcess } from '../../../src/kit/proc.js';

describe('what /proc says', () => {
  it('of a process, whatever its name', () => {
    const fields = ['S', '1', '42', '43', ...Array.from({ length: 15 }, () => '0'), '98765', '0'].join(' ');
    assert.deepEqual(parseStat(`42 (a) R 1 (b) ${fields}\n`), {
      pid: 42,
      name: 'a) R 1 (b',
      status: 'S',
      group: 42,
      session: 43,
      startTicks: 98765,
    });
    assert.equal(parseStat('nonsense'), undefined);
  });

  it('of this process, and nothing of one that has ended', async () => {
    const facts = await readProcess(process.pid);
    assert.equal(facts?.pid, process.pid);
    assert.ok(facts.startTicks > 0);
    const child = spawn('true');
    await once(child, 'exit');
    assert.equal(await readProcess(child.pid ?? 0), undefined);
  });

  it('of this boot', async (t) => {
    const proc = await mkdtemp(join(tmpdir(), 'muster-proc-'));
    t.after(() => rm(proc, { recursive: true, force: true }));
    await mkdir(join(proc, 'sys/kernel/random'), { recursive: true });
    await writeFile(join(proc, 'sys/kernel/random/boot_id'), 'b7a0a3a2-0000-4000-8000-000000000000\n');
    assert.equal(await readBootId(proc), 'b7a0a3a2-0000-4000-8000-000000000000');
    await assert.rejects(readBootId(join(proc, 'none')));
  });
});
