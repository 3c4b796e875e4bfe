import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { loggedService } from '../../../../src/agent/logs/files.js';
import { Logs } from '../../../../src/agent/logs/logs.js';
import type { LogText } from '../../../../src/agent/logs/batches.js';
import type { TailOptions } from '../../../../src/agent/logs/tail.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { parseManifest } from '../../../../src/model/manifest.js';
import { unless } from '../../../support/debian.js';
import { Journald } from '../../../support/journald.js';
import { waitFor } from '../../../support/waiting.js';

const MANIFEST = 'name: web\nversion: 1.0.0\ndriver: systemd\nunit: toy\n';

async function open(t: TestContext, journalctl: readonly string[]): Promise<Logs> {
  const data = await mkdtemp(join(tmpdir(), 'muster-journal-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  const service = loggedService(parseManifest(MANIFEST, { file: 'web' }), join(data, 'logs', 'web'));
  return new Logs({
    dataDirectory: data,
    services: () => [service],
    clock: systemClock,
    logger: silentLogger,
    journalctl,
  });
}

async function read(logs: Logs, options: Partial<TailOptions> = {}): Promise<LogText[]> {
  const found: LogText[] = [];
  const how = { lines: 10, follow: false, ...options };
  for await (const text of logs.tail('web', how, new AbortController().signal)) found.push(text);
  return found;
}

const shown = (texts: readonly LogText[]): string[] => texts.map(({ text, notice }) => (notice ? `(${text})` : text));

describe('the log of a systemd unit without files', { skip: unless('root', 'unshare', 'nsenter', 'journald') }, () => {
  it('comes from the journal, goes on behind any line of it, and says what was removed there', async (t) => {
    const journald = await Journald.start();
    t.after(() => journald.close());
    const logs = await open(t, journald.journalctl);
    assert.deepEqual(shown(await read(logs)), ['(the journal of systemd has no entries of toy)']);
    await journald.log('toy', 'one', 'of\nthree\nlines', 'four');
    const all = await read(logs);
    assert.deepEqual(shown(all), ['one', 'of', 'three', 'lines', 'four']);
    assert.ok(all.every(({ file }) => file === 'journal'));
    for (const [index, { position }] of all.entries())
      assert.deepEqual(await read(logs, { position }), all.slice(index + 1), `behind line ${index}`);

    const stop = new AbortController();
    const followed: LogText[] = [];
    const following = (async () => {
      const how = { lines: 0, follow: true, position: all[2]?.position };
      for await (const text of logs.tail('web', how, stop.signal)) followed.push(text);
    })();
    await journald.log('toy', 'five');
    await waitFor('the line', () => followed.some(({ text }) => text === 'five'));
    assert.deepEqual(shown(followed), ['lines', 'four', 'five']);
    stop.abort();
    await following;

    await journald.vacuum(1);
    await journald.log('toy', 'six');
    const [gone, ...rest] = shown(await read(logs, { position: all[0]?.position ?? '' }));
    assert.match(gone ?? '', /entries of the journal were left out here/);
    assert.deepEqual(rest, ['six']);
    for (const wrong of ['j1:', 'j1:x', 'j1:s=1;i=2 --file=x', `${all[0]?.position ?? ''}+`, 'f1:1:1:1:1:1'])
      await assert.rejects(read(logs, { position: wrong }), (error) => isCode(error, 'invalid'), wrong);
  });
});
