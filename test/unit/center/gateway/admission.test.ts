import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decideAdmission, type Knock } from '../../../../src/center/gateway/admission.js';
import { heartbeatInterval } from '../../../../src/center/gateway/pace.js';

const live = { epoch: 5, processId: 'old' };

function verdict(knock: Partial<Knock>): string {
  const admission = decideAdmission({
    machineName: 'web-1',
    newcomer: { epoch: 6, processId: 'new' },
    storedEpoch: 5,
    live: undefined,
    liveAnswered: false,
    ...knock,
  });
  return admission.kind === 'admit' ? 'admit' : `${admission.kind} ${admission.refusal.reason ?? ''}`;
}

describe('admission', () => {
  it('admits a higher epoch', () => {
    assert.equal(verdict({}), 'admit');
    assert.equal(verdict({ live, newcomer: { epoch: 6, processId: 'old' } }), 'admit');
  });

  it('admits a restarted agent whose former session no longer answers', () => {
    assert.equal(verdict({ live, liveAnswered: false }), 'admit');
  });

  it('refuses a second agent while the first is alive, whatever its epoch', () => {
    for (const epoch of [1, 5, 6, 1000]) {
      assert.equal(
        verdict({ live, liveAnswered: true, newcomer: { epoch, processId: 'new' } }),
        'duplicate DUPLICATE_IDENTITY',
      );
    }
  });

  it('refuses an epoch that was used before and says which is the newest', () => {
    assert.equal(verdict({ newcomer: { epoch: 5, processId: 'new' } }), 'stale STALE_EPOCH');
    assert.equal(verdict({ live, newcomer: { epoch: 4, processId: 'old' } }), 'stale STALE_EPOCH');
    const admission = decideAdmission({
      machineName: 'web-1',
      newcomer: { epoch: 2, processId: 'new' },
      storedEpoch: 9,
      live: undefined,
      liveAnswered: false,
    });
    assert.ok(admission.kind === 'stale');
    assert.equal(admission.refusal.metadata['epoch'], '9');
  });

  it('never lets an epoch come twice', () => {
    const epoch = fc.integer({ min: 0, max: 20 });
    fc.assert(
      fc.property(fc.array(fc.tuple(epoch, fc.boolean()), { maxLength: 30 }), (knocks) => {
        let stored = 0;
        for (const [next, sameProcess] of knocks) {
          const newcomer = { epoch: next, processId: sameProcess ? 'old' : 'new' };
          if (verdict({ newcomer, storedEpoch: stored, live: { epoch: stored, processId: 'old' } }) !== 'admit')
            continue;
          assert.ok(next > stored);
          stored = next;
        }
      }),
    );
  });
});

describe('heartbeat pace', () => {
  it('beats every 5 s in a small fleet and keeps the center at about 100 beats a second in a large one', () => {
    assert.equal(heartbeatInterval(0), 5000);
    assert.equal(heartbeatInterval(100), 5000);
    assert.equal(heartbeatInterval(500), 5000);
    assert.equal(heartbeatInterval(1000), 10_000);
    assert.equal(heartbeatInterval(5000), 50_000);
    assert.equal(heartbeatInterval(50_000), 60_000);
  });
});
