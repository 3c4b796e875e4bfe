import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { WatchAlertsResponse } from '../../../generated/muster/v1/center.js';
import { ScriptedCenter, STARTED } from '../../support/scripted-center.js';
import { waitFor } from '../../support/waiting.js';

const alert = (id: string, kind: string): object => ({
  id,
  kind,
  severity: 'SEVERITY_WARNING',
  machineName: 'web-1',
  service: 'orders',
  message: `${kind} of orders`,
  raised: STARTED,
});

describe('muster alerts -f', () => {
  it('goes on over an end of the center, and says so', async (t) => {
    const frames = [
      { snapshot: true, alerts: [] },
      { snapshot: false, alerts: [alert('a', 'port_down')] },
    ];
    const center = await ScriptedCenter.start(t, {
      watchAlerts: async function* (_request, { signal }) {
        for (const frame of frames) yield WatchAlertsResponse.fromPartial(frame);
        await new Promise((resolve) => {
          signal.addEventListener('abort', resolve);
        });
      },
    });
    const enough = new AbortController();
    const { io, done } = center.begin(['alerts', '-f'], { signal: enough.signal });
    await waitFor('the alert', () => io.written().includes('port_down'));
    assert.match(io.complained(), /No alerts now/);
    await center.stop();
    await waitFor('the end to be seen', () => io.complained().includes('cannot be reached since'));
    frames.splice(0, 2, { snapshot: true, alerts: [alert('b', 'ping_failing')] });
    await center.start();
    await waitFor('the next alert', () => io.written().includes('ping_failing'));
    assert.match(io.complained(), /the center is back/);
    assert.equal(io.written().match(/port_down {2}web-1\/orders {2}raised/g)?.length, 1);
    enough.abort();
    assert.equal(await done, 0);
  });

  it('ends where there is no center from the start', async (t) => {
    const center = await ScriptedCenter.start(t);
    await center.stop();
    const { status, io } = await center.run(['alerts', '-f']);
    assert.equal(status, 1);
    assert.match(io.complained(), /cannot reach/);
  });
});
