import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Site } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';

const LIBRARY = pathToFileURL(join(import.meta.dirname, '../../../dist/src/counter/index.js')).href;

/** Nothing but the flush keeps this program alive, and what it waits for is the agent. */
const PROGRAM = `
import { Counter, flush } from ${JSON.stringify(LIBRARY)};
new Counter('jobs').increment(3);
await flush();
console.log('after the flush');
`;

test('a program that only waits for flush() is alive until it is answered', async (t) => {
  const site = await Site.start();
  t.after(() => site.close());
  const agent = await site.addAgent('web-1');
  const command = JSON.stringify([process.execPath, '--input-type=module', '-e', PROGRAM]);
  await agent.declare('job', `name: job\nversion: 1.0.0\ncommand: ${command}\nrestart: on-failure\n`);
  const ended = await site.instance('job', 'ended', (one) =>
    ['SERVICE_STATE_EXITED', 'SERVICE_STATE_FATAL'].includes(one.state),
  );
  assert.match(await readFile(join(agent.data, 'logs', 'job', 'job.log'), 'utf8'), /after the flush/);
  assert.equal(ended.state, 'SERVICE_STATE_EXITED', ended.reason);
  await waitFor('the count at the center', async () => {
    const { counter } = (await site.json('counters', 'show', 'jobs')) as { counter?: { value?: number } };
    return counter?.value === 3;
  });
});
