import assert from 'node:assert/strict';
import { chmod, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Site } from '../../support/site.js';

test('a service that is not root writes to its log and shared directories', async (t) => {
  if (process.getuid?.() !== 0) {
    t.skip('needs root, to run a service as another user');
    return;
  }
  const site = await Site.start();
  t.after(() => site.close());
  // Scratch folders are closed to others.
  await chmod(site.directory, 0o711);
  const agent = await site.addAgent('web-1');
  // The first rotation look makes a folder of its own beside the services' logs: it must not close the way to them.
  await agent.process.end('SIGTERM');
  await agent.process.start();
  const script = 'touch "$MUSTER_LOG_DIR/own.log" "$MUSTER_SHARED_DIR/own.data"';
  const command = JSON.stringify(['sh', '-c', script]);
  await agent.declare('job', `name: job\nversion: 1.0.0\ncommand: ${command}\nuser: nobody\nrestart: on-failure\n`);
  const ended = await site.instance('job', 'ended', (one) =>
    ['SERVICE_STATE_EXITED', 'SERVICE_STATE_BACKOFF', 'SERVICE_STATE_FATAL'].includes(one.state),
  );
  assert.equal(ended.state, 'SERVICE_STATE_EXITED', ended.reason);
  assert.ok((await readdir(join(agent.data, 'logs', 'job'))).includes('own.log'));
});
