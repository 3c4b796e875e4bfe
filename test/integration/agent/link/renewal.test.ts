import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CenterService, RunCommandRequest } from '../../../../generated/muster/v1/center.js';
import { certificateRequest, generateKey } from '../../../../src/rpc/certificate-request.js';
import { createClient } from '../../../../src/rpc/client.js';
import { TestCenter } from '../../../support/center.js';
import { joinAs } from '../../../support/fake-agent.js';
import { linkedAgent, temporaryData, writeIdentity } from '../../../support/linked-agent.js';
import { waitFor } from '../../../support/waiting.js';

const RENEWALS = 5;

test('a command runs across renewals of the certificate to its end, and nothing is ever unknown', async (t) => {
  const center = await TestCenter.start(t);
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  const { machine, identity } = await joinAs(center.address, { token: await center.token(), name: 'web-1', caPem });
  const data = await temporaryData(t);
  const member = { data, center: center.address, machine };
  await writeIdentity({ ...member, identity: identity.current() });
  const agent = await linkedAgent(t, { data });
  await waitFor('the instance', () => center.operator.getInstance({ machine: 'web-1', service: 'orders' }));

  let release = (): void => undefined;
  agent.services.before = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const seen = new Set<string>();
  const leaving = new AbortController();
  const watching = (async () => {
    for await (const { instances } of center.operator.watchInstances({ service: '' }, { signal: leaving.signal })) {
      for (const { unknownSince } of instances)
        seen.add(unknownSince ? 'an instance is unknown' : 'an instance is known');
    }
  })().catch(() => undefined);
  const { id } = await center.operator.runCommand(
    RunCommandRequest.fromPartial({ machine: 'web-1', service: 'orders', action: 'ACTION_RESTART' }),
  );
  const following = (async () => {
    for await (const { outcome } of center.operator.watchCommand({ id })) seen.add(outcome);
  })();
  await waitFor('it runs', () => seen.has('OUTCOME_STARTED'));

  const sessions = new Set<string>();
  const session = (): string => (agent.link.state.at === 'live' ? agent.link.state.session : 'none');
  for (let round = 0; round < RENEWALS; round += 1) {
    const before = session();
    sessions.add(before);
    const channel = agent.link.channel();
    assert.ok(channel);
    const key = await generateKey();
    const signed = await createClient(CenterService, channel).renew({
      certificateRequest: Buffer.from(certificateRequest(key)),
    });
    const renewed = { ...identity.current(), certificatePem: signed.certificate, caPem: signed.ca, privateKeyPem: key };
    await writeIdentity({ ...member, identity: renewed });
    await agent.identity.refresh();
    await waitFor('the next session', () => session() !== before);
  }
  assert.equal(sessions.size, RENEWALS);
  assert.ok(!sessions.has('none'));
  release();
  await following;
  leaving.abort();
  await watching;
  assert.deepEqual([...seen].filter((one) => one !== 'OUTCOME_QUEUED' && one !== 'OUTCOME_DELIVERED').sort(), [
    'OUTCOME_STARTED',
    'OUTCOME_SUCCEEDED',
    'an instance is known',
  ]);
  assert.deepEqual(agent.services.calls, ['restart orders']);
});
