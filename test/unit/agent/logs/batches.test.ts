import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { UploadOutputRequest } from '../../../../generated/muster/v1/center.js';
import { toWireLine } from '../../../../src/agent/link/tails.js';
import { BATCH_BYTES, BATCH_LINES } from '../../../../src/agent/logs/batches.js';
import { tailJournal } from '../../../../src/agent/logs/journal-tail.js';
import { Logs } from '../../../../src/agent/logs/logs.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';

/** Names and positions besides, of a full batch. */
const BESIDES = 64 * 1024;

async function messagesOf(t: TestContext, content: Buffer, lines: number): Promise<readonly UploadOutputRequest[]> {
  const data = await mkdtemp(join(tmpdir(), 'muster-batches-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  const root = join(data, 'logs', 'orders');
  await mkdir(root, { recursive: true });
  await writeFile(join(root, 'p.log'), content);
  const limits = { files: ['*.log'], maxSizeBytes: 1e9, keep: 9, maxAgeMs: 1e12 };
  const logs = new Logs({
    dataDirectory: data,
    services: () => [{ service: 'orders', root, logs: limits }],
    clock: systemClock,
    logger: silentLogger,
    freeSpaceFloorBytes: 0,
    journalctl: ['no-such-journalctl'],
  });
  const messages: UploadOutputRequest[] = [];
  const how = { file: 'p.log', lines, follow: false };
  for await (const batch of logs.tailBatches('orders', how, new AbortController().signal)) {
    const wire = batch.map((line) => toWireLine(line, 'orders', 'web-1'));
    messages.push(UploadOutputRequest.fromPartial({ lines: wire }));
  }
  return messages;
}

function checkSizes(messages: readonly UploadOutputRequest[]): void {
  const sizes = messages.map((message) => UploadOutputRequest.encode(message).finish().length);
  assert.ok(Math.max(...sizes) <= BATCH_BYTES + BESIDES, `sizes are ${sizes.join(', ')}`);
  assert.ok(messages.every(({ lines }) => lines.length > 0 && lines.length <= BATCH_LINES));
}

const textOf = (messages: readonly UploadOutputRequest[]): string =>
  messages.flatMap(({ lines }) => lines.map(({ text }) => text)).join('');

describe('the messages of a log with long lines are bounded', () => {
  it('where one line is of 5 MB', async (t) => {
    const messages = await messagesOf(t, Buffer.from(`first\n${'b'.repeat(5_000_000)}\nlast\n`), 10);
    checkSizes(messages);
    assert.ok(textOf(messages) === `first${'b'.repeat(5_000_000)}last`);
  });

  it('where there are a hundred lines of 65 KB', async (t) => {
    const messages = await messagesOf(t, Buffer.from(`${'x'.repeat(65_000)}\n`.repeat(100)), 100);
    checkSizes(messages);
    assert.equal(messages.flatMap(({ lines }) => lines).length, 100);
  });

  it('where bytes are no UTF-8, each of which takes three in a message', async (t) => {
    const messages = await messagesOf(t, Buffer.alloc(6_500_000, 0xff), 10);
    checkSizes(messages);
    assert.ok(textOf(messages) === '\ufffd'.repeat(6_500_000));
  });

  it('where characters are of several bytes', async (t) => {
    const messages = await messagesOf(t, Buffer.from(`${'\u20ac'.repeat(10_000)}\n`.repeat(100)), 100);
    checkSizes(messages);
    assert.ok(textOf(messages) === '\u20ac'.repeat(1_000_000));
  });

  it('and short lines still go together', async (t) => {
    const messages = await messagesOf(t, Buffer.from('line\n'.repeat(1000)), 1000);
    checkSizes(messages);
    assert.equal(messages.length, 4);
  });
});

describe('the messages of an entry of the journal', () => {
  it('are bounded, however many lines it is of, and it is read on behind any of them', async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'muster-batches-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    const message = `${'a'.repeat(200_000)}${'\n'.repeat(5000)}${'c'.repeat(200_000)}\nend\n`;
    await writeFile(join(directory, 'entries'), `${JSON.stringify({ __CURSOR: 's=1', MESSAGE: message })}\n`);
    const program = join(directory, 'journalctl');
    await writeFile(program, `#!/bin/sh\ncat ${directory}/entries\n`);
    await chmod(program, 0o755);
    const read = async (position: string): Promise<readonly UploadOutputRequest[]> => {
      const messages: UploadOutputRequest[] = [];
      const source = { unit: 'app', clock: systemClock, journalctl: [program] };
      for await (const batch of tailJournal(source, { lines: 10, follow: false, position }, t.signal)) {
        const wire = batch.map((line) => toWireLine(line, 'app', 'web-1'));
        messages.push(UploadOutputRequest.fromPartial({ lines: wire }));
      }
      return messages;
    };
    const messages = await read('');
    checkSizes(messages);
    const lines = messages.flatMap((one) => one.lines);
    assert.equal(lines.filter(({ text }) => text === '').length, 4999);
    assert.ok(textOf(messages) === message.replaceAll('\n', ''));
    for (const at of [0, 1, 4000, lines.length - 2, lines.length - 1]) {
      const rest = (await read(lines[at]?.position ?? '')).flatMap((one) => one.lines);
      assert.ok(JSON.stringify(rest) === JSON.stringify(lines.slice(at + 1)), `behind line ${at}`);
    }
  });
});
