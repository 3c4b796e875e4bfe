import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CenterService, TailLogRequest, UploadOutputRequest } from '../../../generated/muster/v1/center.js';
import { createClient, openChannel } from '../../../src/rpc/client.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs } from '../../support/fake-agent.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

const MIB = 1024 * 1024;

describe('a log whose upload breaks off', () => {
  it('is not taken for a lost machine', async (t) => {
    const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
    const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
    const identified = await joinAs(center.address, { token: await center.token(), name: 'a', caPem });
    const stream = await new FakeAgent(t, center.address, 'a', identified).connect();
    await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
    await waitFor('the instance', () => center.operator.getInstance({ machine: 'a', service: 'orders' }));
    const channel = openChannel({
      address: center.address,
      tls: { identity: identified.identity },
      messageBytesMax: 16 * MIB,
    });
    t.after(() => {
      channel.close();
    });
    const reading = failureOf(
      (async () => {
        const wish = TailLogRequest.fromPartial({ machine: 'a', service: 'orders' });
        for await (const line of center.operator.tailLog(wish)) assert.equal(line.text, 'never');
      })(),
    );
    const { command } = await stream.awaited('command');
    const uploading = failureOf(
      createClient(CenterService, channel).uploadOutput(
        (async function* () {
          yield UploadOutputRequest.fromPartial({ command });
          await Promise.resolve();
          yield UploadOutputRequest.fromPartial({ lines: [{ text: 'x'.repeat(5 * MIB) }] });
        })(),
      ),
    );
    const { message } = await reading;
    assert.equal(message, 'the agent stopped sending before the end: try again');
    assert.match((await uploading).message, /larger than/);
  });
});
