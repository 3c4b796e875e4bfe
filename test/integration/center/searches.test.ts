import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { SearchLogsRequest } from '../../../generated/muster/v1/center.js';
import { isCode } from '../../../src/kit/errors.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs } from '../../support/fake-agent.js';
import { waitFor } from '../../support/waiting.js';

test('an expression that grep refuses is refused before there is an operation', async (t) => {
  const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  const identified = await joinAs(center.address, { token: await center.token(), name: 'a', caPem });
  const stream = await new FakeAgent(t, center.address, 'a', identified).connect();
  await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
  await waitFor('the instance', () => center.operator.getInstance({ machine: 'a', service: 'orders' }));
  const request = SearchLogsRequest.fromPartial({ service: 'orders', search: { pattern: '[', regex: true } });
  await assert.rejects(
    async () => {
      for await (const message of center.operator.searchLogs(request)) assert.fail(JSON.stringify(message));
    },
    (error) => isCode(error, 'invalid') && error.reason === 'PATTERN' && error.message.includes('grep: '),
  );
  const { operations } = await center.operator.listOperations({
    pageSize: 10,
    pageToken: '',
    service: '',
    openOnly: false,
  });
  assert.deepEqual(operations, []);
});
