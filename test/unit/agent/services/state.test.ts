import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  BACKOFF_MAX_MS,
  decide,
  FRESH,
  isResting,
  nextTickMs,
  runningOf,
  WELL_MS,
  withoutAdvice,
  type Context,
  type Event,
  type State,
} from '../../../../src/agent/services/state.js';
import { parseManifest, type RestartPolicy } from '../../../../src/model/manifest.js';

const STOPPED: State = { at: 'STOPPED', reason: '' };
const RUNNING = { pid: 7, startedMs: 0 };

function context(nowMs: number, restart: RestartPolicy = 'always', retries = 2): Context {
  return {
    nowMs,
    jitter: 0,
    policy: { name: 'web', start: { settleMs: 1000, retries }, restart, stop: { signal: 'SIGTERM', graceMs: 5000 } },
  };
}

/** A service at the end of these events, each with its time. */
function after(
  events: readonly (readonly [number, Event])[],
  restart?: RestartPolicy,
): { state: State; effects: string[] } {
  let state = STOPPED;
  const effects: string[] = [];
  for (const [nowMs, event] of events) {
    const step = decide(state, event, context(nowMs, restart));
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects };
}

const want: Event = { kind: 'want', run: true };
const stop: Event = { kind: 'want', run: false };
const launched: Event = { kind: 'launched', running: RUNNING };
const tick: Event = { kind: 'tick' };
const ended = (code: number | undefined, rest = false): Event => ({
  kind: 'ended',
  exit: { code, signal: '' },
  reason: 'ended',
  rest,
});

/** Fails each try at once, until it is given up. */
function untilFatal(failure: readonly Event[], at: (nowMs: number) => Context): { tries: number; endMs: number } {
  let { state } = after([[0, want]]);
  let nowMs = 0;
  for (let tries = 1; ; tries += 1) {
    for (const event of failure) state = decide(state, event, at(nowMs)).state;
    if (state.at !== 'BACKOFF') return { tries, endMs: nowMs };
    nowMs = state.retryAtMs;
    state = decide(state, tick, at(nowMs)).state;
    assert.ok(state.at === 'STARTING' && state.tries.restarts === tries, 'each try is counted');
  }
}

describe('the life of an instance', () => {
  it('is RUNNING once it has stayed up for its settle time', () => {
    assert.equal(
      after([
        [0, want],
        [10, launched],
        [1009, tick],
      ]).state.at,
      'STARTING',
    );
    assert.equal(
      after([
        [0, want],
        [10, launched],
        [1010, tick],
      ]).state.at,
      'RUNNING',
    );
  });

  it('is FATAL after its retries, with growing delays between', () => {
    const quick = [
      [0, launched],
      [1, ended(1)],
    ] as const;
    const first = after([[0, want], ...quick]);
    assert.ok(first.state.at === 'BACKOFF' && first.state.retryAtMs === 751);
    const second = after([[0, want], ...quick, [751, tick], ...quick]);
    assert.ok(second.state.at === 'BACKOFF' && second.state.retryAtMs === 1501);
    const third = after([[0, want], ...quick, [751, tick], ...quick, [1501, tick], ...quick]);
    const reason = 'ended; given up after 3 tries: mend it, then "muster start web"';
    assert.deepEqual(third.state, { at: 'FATAL', reason });
    assert.deepEqual(third.effects, ['launch', 'launch', 'launch']);
    assert.equal(withoutAdvice(reason), 'ended; given up after 3 tries');
  });

  it('is given up after about half a minute where its manifest says nothing else, whether it ends or is refused', () => {
    const { retries } = parseManifest('name: web\ncommand: [web]\n').start;
    const failures: readonly (readonly Event[])[] = [
      [launched, ended(1)],
      [{ kind: 'refused', reason: 'port taken', again: true }],
    ];
    for (const failure of failures) {
      for (const jitter of [0, 0.5, 0.999]) {
        const { tries, endMs } = untilFatal(failure, (nowMs) => ({ ...context(nowMs, 'always', retries), jitter }));
        assert.equal(tries, 6);
        assert.ok(endMs >= 20_000 && endMs <= 40_000, `${endMs} ms`);
      }
    }
  });

  it('goes on counting when the next agent finds it', () => {
    const tries = { quick: 2, failures: 2, restarts: 4 };
    const found: Event = { kind: 'found', running: RUNNING, upForMs: 10, tries };
    const { state } = after([
      [0, found],
      [5, ended(1)],
    ]);
    assert.equal(state.at, 'FATAL', 'the third quick end of two retries');
    assert.ok(after([[0, { ...found, upForMs: 5000 }]]).state.at === 'RUNNING');
  });

  it('is given up at once when trying again cannot help', () => {
    const refused: Event = { kind: 'refused', reason: 'no such command', again: false };
    assert.deepEqual(
      after([
        [0, want],
        [1, refused],
      ]).state,
      { at: 'FATAL', reason: 'no such command, then "muster start web"' },
    );
  });

  it('is started again for ever when it dies after a good start, and forgets after a good run', () => {
    let state = after([
      [0, want],
      [0, launched],
      [1000, tick],
    ]).state;
    let now = 1000;
    for (let death = 1; death <= 20; death += 1) {
      state = decide(state, ended(1), context(now)).state;
      assert.ok(state.at === 'BACKOFF', `death ${death}`);
      now = state.retryAtMs;
      for (const event of [tick, launched]) state = decide(state, event, context(now)).state;
      now += 1000;
      state = decide(state, tick, context(now)).state;
      assert.equal(state.at, 'RUNNING');
    }
    assert.ok(state.at === 'RUNNING' && state.tries.failures === 20 && state.tries.restarts === 20);
    state = decide(state, tick, context(now + WELL_MS)).state;
    assert.ok(state.at === 'RUNNING' && state.tries.failures === 0);
  });

  it('follows the restart policy', () => {
    const up = [
      [0, want],
      [0, launched],
      [1000, tick],
    ] as const;
    assert.equal(after([...up, [2000, ended(0)]]).state.at, 'BACKOFF');
    assert.equal(after([...up, [2000, ended(0)]], 'on-failure').state.at, 'EXITED');
    assert.equal(
      after([...up, [2000, ended(undefined)]], 'on-failure').state.at,
      'BACKOFF',
      'an unknown code is no success',
    );
    assert.equal(after([...up, [2000, ended(0)]], 'never').state.at, 'EXITED');
    assert.equal(after([...up, [2000, ended(1)]], 'never').state.at, 'FATAL');
    assert.equal(after([...up, [2000, ended(undefined, true)]]).state.at, 'STOPPED', 'stopped by others');
  });

  it('is asked to end, then made to', () => {
    const stopping = [
      [0, want],
      [0, launched],
      [100, stop],
    ] as const;
    assert.deepEqual(after([...stopping, [5099, tick]]).effects, ['launch', 'terminate']);
    const forced = after([...stopping, [5100, tick], [5101, ended(undefined)]]);
    assert.deepEqual(forced.effects, ['launch', 'terminate', 'kill']);
    assert.deepEqual(forced.state, { at: 'STOPPED', reason: 'it did not end in its grace time and was killed' });
  });

  it('that is stopped while it is being launched is ended as soon as it is there', () => {
    assert.deepEqual(
      after([
        [0, want],
        [1, stop],
        [2, launched],
      ]).effects,
      ['launch', 'terminate'],
    );
    assert.equal(
      after([
        [0, want],
        [1, stop],
        [2, { kind: 'refused', reason: '', again: true }],
      ]).state.at,
      'STOPPED',
    );
  });
});

/** One step of a history. */
interface Moved {
  readonly before: State;
  readonly event: Event;
  readonly state: State;
  readonly effects: readonly string[];
  readonly nowMs: number;
}

describe('whatever happens in whatever order', () => {
  const event: fc.Arbitrary<Event> = fc.oneof(
    fc.record({ kind: fc.constant('want' as const), run: fc.boolean() }),
    fc.constant({ kind: 'restart' as const }),
    fc.constant(launched as Event),
    fc.record({ kind: fc.constant('refused' as const), reason: fc.constant('x'), again: fc.boolean() }),
    fc.record({
      kind: fc.constant('found' as const),
      running: fc.constant(RUNNING),
      upForMs: fc.nat(3000),
      tries: fc.constant(FRESH),
    }),
    fc.record({
      kind: fc.constant('ended' as const),
      exit: fc.record({ code: fc.option(fc.nat(2), { nil: undefined }), signal: fc.constant('') }),
      reason: fc.constant('y'),
      rest: fc.boolean(),
    }),
    fc.constant(tick),
  );
  const history = fc.array(fc.tuple(event, fc.nat(10_000)), { maxLength: 60 });
  const policy = fc.constantFrom('always' as const, 'on-failure' as const, 'never' as const);

  /** Runs a history as the supervisor would see it: a launch is answered by what `launched` or `refused` comes next, nothing ends that does not run. */
  function play(
    events: readonly (readonly [Event, number])[],
    restart: RestartPolicy,
    look: (moved: Moved) => void,
  ): void {
    let state: State = STOPPED;
    let nowMs = 0;
    let launching = false;
    for (const [next, waitMs] of events) {
      nowMs += waitMs;
      if (
        (next.kind === 'launched' || next.kind === 'refused') !== launching &&
        next.kind !== 'want' &&
        next.kind !== 'restart' &&
        next.kind !== 'tick'
      )
        continue;
      const step = decide(state, next, context(nowMs, restart));
      if (next.kind === 'launched' || next.kind === 'refused') launching = false;
      look({ before: state, event: next, state: step.state, effects: step.effects, nowMs });
      if (step.effects.includes('launch')) launching = true;
      state = step.state;
    }
  }

  it('launches one at a time, and only when nothing runs', () => {
    fc.assert(
      fc.property(history, policy, (events, restart) => {
        let launching = false;
        play(events, restart, ({ before, event: next, state, effects }) => {
          if (next.kind === 'launched' || next.kind === 'refused') launching = false;
          if (!effects.includes('launch')) return;
          assert.equal(launching, false, 'a second launch during a launch');
          launching = true;
          assert.equal(effects.length, 1);
          if (next.kind !== 'ended' && next.kind !== 'refused') assert.equal(runningOf(before), undefined);
          assert.equal(state.at, 'STARTING');
        });
      }),
      { numRuns: 1000 },
    );
  });

  it('never starts by itself what was stopped', () => {
    fc.assert(
      fc.property(history, policy, (events, restart) => {
        let stopped = true;
        play(events, restart, ({ event: next, effects }) => {
          if (next.kind === 'want') stopped = !next.run;
          if (next.kind === 'restart' || next.kind === 'found') stopped = false;
          if (effects.includes('launch')) assert.equal(stopped, false);
        });
      }),
      { numRuns: 1000 },
    );
  });

  it('waits for something in every state that is not at rest, and never for long', () => {
    fc.assert(
      fc.property(history, policy, (events, restart) => {
        play(events, restart, ({ state, nowMs }) => {
          const dueMs = nextTickMs(state);
          if (isResting(state)) assert.equal(dueMs, undefined);
          if (state.at === 'BACKOFF') assert.ok(dueMs !== undefined && dueMs <= nowMs + BACKOFF_MAX_MS);
          if (dueMs !== undefined && dueMs <= nowMs)
            assert.notEqual(decide(state, tick, context(nowMs, restart)).state, state);
        });
      }),
      { numRuns: 1000 },
    );
  });
});
