import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { planAlerts, type AlertRecord } from '../../../../src/center/alerts/alerts.js';
import {
  restartedBy,
  restartsAfter,
  RESTARTS_WINDOW_MS,
  type RestartHistory,
} from '../../../../src/center/alerts/restarts.js';
import { judgeMachine } from '../../../../src/center/alerts/rules.js';
import type { InstanceView } from '../../../../src/center/fleet/instances.js';
import type { ServiceState } from '../../../../src/model/instance.js';
import type { DeployStep } from '../../../../src/model/release.js';

interface Told {
  readonly state: ServiceState;
  readonly restarts: number;
  readonly wanted: boolean;
  readonly known: boolean;
  readonly deploying?: DeployStep | undefined;
}

function viewOf({ state, restarts, wanted, known, deploying }: Told): InstanceView {
  return {
    machine: 'm-1',
    configHeld: 0,
    configApplied: 0,
    unknownSinceMs: known ? undefined : 1,
    report: {
      service: 'orders',
      version: '',
      driver: 'process',
      state,
      sinceMs: 0,
      health: 'UNKNOWN',
      pid: 0,
      wanted,
      reason: state === 'BACKOFF' ? 'exit code 1' : '',
      exitCode: undefined,
      exitSignal: '',
      restarts,
      checks: [],
      generation: 0,
      logDirectory: '',
      startedMs: undefined,
      deploying,
    },
  };
}

/** One instance, watched. */
class Watched {
  nowMs = 0;
  #history: RestartHistory | undefined;
  #alerts: AlertRecord[] = [];

  get raised(): AlertRecord | undefined {
    return this.#alerts.find(({ kind }) => kind === 'service_restarting');
  }

  look(told: Partial<Told> = {}): boolean {
    const view = viewOf({ state: 'RUNNING', restarts: 0, wanted: true, known: true, ...told });
    this.#history = restartsAfter(this.#history, view, this.nowMs);
    const verdicts = judgeMachine({
      machine: 'm-1',
      name: 'web-1',
      online: true,
      silentMs: 0,
      graceMs: 0,
      everConnected: true,
      clockSkewMs: 0,
      duplicate: undefined,
      instances: [{ ...view, restarted: restartedBy(this.#history, this.nowMs) }],
      failedAssignments: [],
    });
    const changed = planAlerts(this.#alerts, { machineName: 'web-1', awaySinceMs: undefined, verdicts }, this.nowMs);
    const byId = new Map([...this.#alerts, ...changed].map((alert) => [alert.id, alert]));
    this.#alerts = [...byId.values()].filter(({ clearedMs }) => clearedMs === undefined);
    return this.raised !== undefined;
  }
}

describe('a service that does not stay up', () => {
  it('is said while it waits for its restart, and until it has stayed up for five minutes', () => {
    const one = new Watched();
    assert.equal(one.look(), false);
    assert.equal(one.look({ state: 'BACKOFF' }), true);
    assert.equal(one.raised?.message, 'service orders on web-1 does not stay up: exit code 1');
    assert.equal(one.raised.severity, 'WARNING');
    assert.equal(one.look({ restarts: 1 }), true);
    one.nowMs += RESTARTS_WINDOW_MS - 1;
    assert.equal(one.look({ restarts: 1 }), true);
    one.nowMs += 1;
    assert.equal(one.look({ restarts: 1 }), false);
  });

  it('is said after three restarts within five minutes, also where no report came in between', () => {
    const one = new Watched();
    one.look({ restarts: 7 });
    for (const restarts of [8, 9, 10]) {
      one.nowMs += 60_000;
      assert.equal(one.look({ restarts }), restarts === 10);
    }
    const slow = new Watched();
    for (let restarts = 0; restarts < 10; restarts += 1) {
      assert.equal(slow.look({ restarts }), false);
      slow.nowMs += RESTARTS_WINDOW_MS / 2;
    }
    const burst = new Watched();
    burst.look();
    assert.equal(burst.look({ restarts: 20 }), true);
  });

  it('is not said of restarts that happened nobody knows when, nor of a start by hand', () => {
    const one = new Watched();
    assert.equal(one.look({ restarts: 50 }), false);
    assert.equal(one.look({ restarts: 50, known: false }), false);
    assert.equal(one.look({ restarts: 90 }), false);
    assert.equal(one.look({ restarts: 0 }), false);
  });

  it('is over when it is stopped on purpose, and begins from nothing after that', () => {
    const one = new Watched();
    one.look();
    assert.equal(one.look({ restarts: 5 }), true);
    assert.equal(one.look({ state: 'STOPPED', wanted: false, restarts: 5 }), false);
    assert.equal(one.look({ restarts: 0 }), false);
  });

  it('is not one that was restarted while a release of it was deployed; what was said before that is over five minutes after it', () => {
    const one = new Watched();
    one.look();
    for (const restarts of [1, 2, 3, 4]) {
      one.nowMs += 1000;
      assert.equal(one.look({ state: 'BACKOFF', restarts, deploying: 'VERIFY' }), false);
    }
    assert.equal(one.look({ restarts: 4 }), false);
    one.nowMs += 1000;
    assert.equal(one.look({ state: 'BACKOFF', restarts: 5 }), true, 'it is judged again');
    one.nowMs += 2 * RESTARTS_WINDOW_MS;
    assert.equal(one.look({ restarts: 5, deploying: 'START' }), true);
    assert.equal(one.look({ restarts: 5 }), true);
    one.nowMs += RESTARTS_WINDOW_MS;
    assert.equal(one.look({ restarts: 5 }), false);
  });

  it('is never said to be well too early, and always in the end, whatever the reports', () => {
    const told = fc.record({
      state: fc.constantFrom<ServiceState>('STARTING', 'RUNNING', 'BACKOFF'),
      more: fc.integer({ min: 0, max: 2 }),
      known: fc.boolean(),
      waitMs: fc.integer({ min: 0, max: RESTARTS_WINDOW_MS }),
    });
    fc.assert(
      fc.property(fc.array(told, { maxLength: 30 }), (steps) => {
        const one = new Watched();
        let restarts = 0;
        let lastMs = 0;
        for (const { state, more, known, waitMs } of steps) {
          one.nowMs += waitMs;
          if (known && more > 0) lastMs = one.nowMs;
          if (known) restarts += more;
          const before: boolean = one.raised !== undefined;
          const raised = one.look({ state, restarts, known });
          const long = one.nowMs - lastMs >= RESTARTS_WINDOW_MS;
          if (!known) assert.equal(raised, before);
          else if (state === 'BACKOFF') assert.ok(raised);
          else if (before) assert.ok(raised || (state === 'RUNNING' && long));
        }
        one.look({ restarts });
        one.nowMs += RESTARTS_WINDOW_MS;
        assert.equal(one.look({ restarts }), false);
      }),
    );
  });
});
