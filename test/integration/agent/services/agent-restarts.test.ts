import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { freePort, manifestText, script, Supervised } from '../../../support/supervised.js';
import { waitFor } from '../../../support/waiting.js';

describe('the next agent', () => {
  it('knows since when a service runs, how often it was started again and how it ended', async (t) => {
    const s = await Supervised.open(t, {
      // Ends once with code 7 after it was RUNNING, then stays.
      'web.yaml': script('web', 'test -e seen && exec sleep 1000; touch seen; sleep 0.5; exit 7'),
    });
    const before = await waitFor('its second run', () => {
      const report = s.services.get('web');
      return report.state === 'RUNNING' && report.restarts === 1 ? report : undefined;
    });
    assert.equal(before.exitCode, 7);
    await s.again();
    const after = s.services.get('web');
    const facts = ({ state, pid, sinceMs, startedMs, restarts, exitCode }: typeof after): unknown[] => {
      return [state, pid, sinceMs, startedMs, restarts, exitCode];
    };
    assert.deepEqual(facts(after), facts(before));
  });

  it('leaves alone what was given up, until somebody starts it or the machine boots', async (t) => {
    const s = await Supervised.open(t, { 'bad.yaml': script('bad', 'echo run; exit 3') });
    const before = await s.state('bad', 'FATAL');
    assert.equal(before.restarts, 1);
    const runs = async (): Promise<number> => (await s.log('bad')).split('\n').length - 1;
    assert.equal(await runs(), 2);
    for (let agents = 0; agents < 2; agents += 1) {
      await s.again();
      const after = s.services.get('bad');
      assert.deepEqual(
        [after.state, after.reason, after.sinceMs, after.restarts, after.exitCode, after.wanted],
        ['FATAL', before.reason, before.sinceMs, 1, 3, true],
      );
    }
    assert.equal(await runs(), 2);
    await assert.rejects(s.services.start('bad'), /given up after 2 tries/);
    assert.equal(await runs(), 4);
    await s.again('another-boot');
    await waitFor('tries after a boot', async () => (await runs()) === 6);
  });

  it('tries what was given up by a manifest that has changed since', async (t) => {
    const port = await freePort();
    const holder = createServer();
    await new Promise<void>((done) => holder.listen(port, '127.0.0.1', done));
    t.after(() => holder.close());
    const web = (ports: unknown[]): string =>
      script('web', 'exec sleep 1000', { ports, start: { settle: '100ms', retries: 0 } });
    const s = await Supervised.open(t, { 'web.yaml': web([{ name: 'http', port }]) });
    const { reason, restarts } = await s.state('web', 'FATAL');
    assert.match(
      reason,
      /port http .* is taken by .*; given up after the first try: mend it, then "muster start web"$/,
    );
    assert.equal(restarts, 0);
    // While it runs, and while it does not.
    await s.write('web.yaml', web([]));
    await s.state('web', 'RUNNING');
    await s.write('web.yaml', web([{ name: 'http', port }]));
    await waitFor('the change', () => s.services.manifest('web').ports.length === 1);
    await assert.rejects(s.services.restart('web'), /is taken by/);
    await s.letGo();
    await s.write('web.yaml', web([]));
    await s.again();
    await s.state('web', 'RUNNING');
  });

  it('goes on with the tries of the one before', async (t) => {
    const s = await Supervised.open(t, {
      'bad.yaml': manifestText({
        name: 'bad',
        command: ['/bin/sh', '-c', 'exit 3'],
        start: { settle: '200ms', retries: 2 },
      }),
    });
    await waitFor('the second try', () => s.services.get('bad').state === 'BACKOFF' && s.services.get('bad').restarts);
    await s.again();
    assert.match((await s.state('bad', 'FATAL')).reason, /given up after 3 tries/);
    assert.equal(s.services.get('bad').restarts, 2);
  });

  it('starts what was stopped with the agent', async (t) => {
    const s = await Supervised.open(t, {
      'deaf.yaml': script('deaf', 'trap "" TERM; while :; do sleep 0.05; done', { stop: { grace: '300ms' } }),
    });
    await s.state('deaf', 'RUNNING');
    await s.services.stopAll();
    await s.again();
    await s.state('deaf', 'RUNNING');
  });
});
