import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { readdir, readFile, watch } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createGunzip } from 'node:zlib';
import { unless } from '../../support/debian.js';
import { Site, type TestAgent } from '../../support/site.js';
import { WAIT_MS, waitFor } from '../../support/waiting.js';
import { adopted, pidOf, running } from './observe.js';

const WRITER = fileURLToPath(new URL('programs/writer.mjs', import.meta.url));
const KILLS = 6;
/** Rotated files that must be there at the end at least; a rotation that is killed early is undone. */
const ROTATIONS_AT_LEAST = 4;
/** Without the end of the line. */
const LINE_CHARACTERS = 99;
const FEW = 10;
const UNFINISHED = /^\.writer\.log\.\d+\.part$/;
const ROTATED = /^writer\.log\.\d+$/;
/** The first line of a file says where the earlier ones are: it is not the service's own. */
const MARK = '[muster: earlier lines are in ';

describe('kill -9 of the agent under a service that writes 5 MB/s', { skip: unless('curl') }, () => {
  let site: Site;
  let agent: TestAgent;
  let note: string;
  let logs: string;

  before(async () => {
    site = await Site.start();
    agent = await site.addAgent('scribe');
    note = join(site.directory, 'written');
    logs = join(agent.data, 'logs', 'writer');
    await agent.declare(
      'writer',
      [
        'name: writer',
        `command: [${process.execPath}, ${WRITER}, ${note}]`,
        'start: { settle: 200ms }',
        'logs: { max_size: 8MB, keep: 1000 }',
      ].join('\n'),
    );
  });

  after(() => site.close());

  it('keeps its process, has it back within 5 seconds, and loses or repeats no line', async () => {
    const first = await site.instance('writer', 'RUNNING', running);
    for (let kill = 1; kill <= KILLS; kill += 1) {
      // In the middle of the copy, and when the copy stands but the live file may not have been shortened yet.
      await appears(logs, kill % 2 === 0 ? UNFINISHED : ROTATED);
      await agent.process.end('SIGKILL');
      const { instance, tookMs, boundMs } = await adopted(agent, 'writer');
      assert.equal(instance.pid, first.pid, `kill ${kill}`);
      assert.ok(tookMs < boundMs, `kill ${kill}: adopted after ${tookMs} ms of ${boundMs}`);
    }
    const seen = await site.instance('writer', 'RUNNING', running);
    assert.equal(pidOf(seen), pidOf(first));
    assert.equal(seen.restarts ?? 0, 0);
    await waitFor('rotations', async () => (await rotated(logs)) >= ROTATIONS_AT_LEAST);
    assert.equal((await site.cli('stop', 'writer')).status, 0);
    const written = Number(await readFile(note, 'utf8'));
    // The newest rotated file stays as it is, for those who follow the log.
    await waitFor('what was rotated to be compressed', async () => {
      const left = (await readdir(logs)).filter((name) => name !== 'writer.log' && !name.endsWith('.gz'));
      return left.length <= 1 && left.every((name) => ROTATED.test(name));
    });
    await agent.process.end('SIGTERM');
    assert.deepEqual(await countLines(logs, written), { lost: [], repeated: [], other: [] });
  });
});

/** Resolves as soon as a file of such a name is made. */
async function appears(directory: string, name: RegExp): Promise<void> {
  const seen = new Set(await readdir(directory));
  for await (const { filename } of watch(directory, { signal: AbortSignal.timeout(WAIT_MS) })) {
    if (filename !== null && name.test(filename) && !seen.has(filename)) return;
  }
}

/** Files beside the one that is written. */
async function rotated(directory: string): Promise<number> {
  return (await readdir(directory)).filter((name) => name.startsWith('writer.log') && name !== 'writer.log').length;
}

interface Count {
  readonly lost: readonly string[];
  readonly repeated: readonly string[];
  readonly other: readonly string[];
}

/** Every number from 1 to `written` must be on exactly one line of all files together. A few of each that is wrong are named. */
async function countLines(directory: string, written: number): Promise<Count> {
  const seen = new Uint8Array(written + 1);
  const other: string[] = [];
  for (const name of await readdir(directory)) {
    for await (const line of linesOf(join(directory, name))) {
      if (line.startsWith(MARK)) continue;
      const number = numberOf(line);
      if (number === 0 || number > written) other.push(`${name}: ${line}`);
      else seen[number] = Math.min(2, (seen[number] ?? 0) + 1);
    }
  }
  const having = (count: number): string[] =>
    Array.from(seen, (times, number) => (number > 0 && times === count ? String(number) : '')).filter(Boolean);
  return { lost: few(having(0)), repeated: few(having(2)), other: few(other) };
}

function linesOf(path: string): AsyncIterable<string> {
  const file = createReadStream(path);
  return createInterface({ input: path.endsWith('.gz') ? file.pipe(createGunzip()) : file });
}

/** The number on a whole line of the writer; 0 for anything else. */
function numberOf(line: string): number {
  const digits = /^(\d+)\.*$/.exec(line)?.[1];
  return digits === undefined || line.length !== LINE_CHARACTERS ? 0 : Number(digits);
}

function few(all: readonly string[]): readonly string[] {
  return all.length > FEW ? [...all.slice(0, FEW), `... ${all.length} in all`] : all;
}
