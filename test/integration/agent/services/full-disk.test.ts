import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MusterError } from '../../../../src/kit/errors.js';
import { readProcess } from '../../../../src/kit/proc.js';
import { script, Supervised } from '../../../support/supervised.js';

it('a service is stopped though its store takes nothing, and it is said what that means', async (t) => {
  const s = await Supervised.open(t, { 'web.yaml': script('web', 'exec sleep 1000') });
  const { pid } = await s.state('web', 'RUNNING');
  const { store } = s;
  const write = store.write.bind(store);
  t.after(() => {
    store.write = write;
  });
  store.write = () => Promise.reject(new MusterError('exhausted', 'the disk is almost full: free some space'));
  await assert.rejects(s.services.stop('web'), {
    code: 'exhausted',
    reason: 'STOP_NOT_STORED',
    message: /^web is stopped, but that cannot be stored, so it will run again .* free some space$/,
  });
  assert.equal(s.services.get('web').state, 'STOPPED');
  assert.equal(await readProcess(pid), undefined);
  store.write = write;
  await s.services.stop('web');
  assert.equal(s.services.get('web').wanted, false);
});
