import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  firstPosition,
  FOUND_MAX,
  next,
  skipped,
  withoutEntry,
  type Happened,
} from '../../../../src/agent/deploy/decide.js';
import type { Position } from '../../../../src/agent/deploy/deploy.js';
import { DEPLOY_STEPS, type DeployStep } from '../../../../src/model/release.js';

const happenings: fc.Arbitrary<Happened> = fc.constantFrom<Happened>('done', 'done', 'done', 'failed', 'found');
const orderOf = (step: DeployStep): number => DEPLOY_STEPS.indexOf(step);

/** The positions of a deploy to which all that happens, then nothing but success. */
function walk(kind: 'DEPLOY' | 'ROLLBACK', held: boolean, happened: readonly Happened[]): Position[] {
  const walked = [firstPosition({ kind }, { held })];
  let found = 0;
  for (let n = 0; n < 200; n += 1) {
    const at = walked.at(-1);
    if (!at || at.phase === 'ended') return walked;
    const what = happened[n] ?? 'done';
    if (what === 'found') found += 1;
    walked.push(next(at, what, found));
  }
  throw new Error('it never ends');
}

describe('the next step of a deploy', () => {
  const walks = fc.tuple(
    fc.constantFrom<'DEPLOY' | 'ROLLBACK'>('DEPLOY', 'ROLLBACK'),
    fc.boolean(),
    fc.array(happenings, { maxLength: 40 }),
  );

  it('ends, never goes forward again from an undo, and stops the new release before it switches back', () => {
    fc.assert(
      fc.property(walks, ([kind, held, happened]) => {
        const walked = walk(kind, held, happened);
        const undone = walked.findIndex(({ phase }) => phase === 'undo');
        const behind = undone < 0 ? [] : walked.slice(undone);
        assert.ok(behind.every(({ phase }) => phase !== 'forward'));
        const last = walked.at(-1);
        assert.equal(
          last?.phase === 'ended' && last.outcome,
          undone < 0 ? last?.phase === 'ended' && last.outcome : 'FAILED',
        );
        const switched = behind.some((at) => at.phase === 'undo' && at.step === 'SWITCH');
        const first = behind[0];
        assert.ok(!switched || (first?.phase === 'undo' && first.step === 'STOP'));
      }),
    );
  });

  it('succeeds only through a verify that was done, and fails untouched only before the stop', () => {
    fc.assert(
      fc.property(walks, ([kind, held, happened]) => {
        const walked = walk(kind, held, happened);
        const steps = walked.flatMap((at) => (at.phase === 'forward' ? [at.step] : []));
        const last = walked.at(-1);
        if (last?.phase === 'ended' && last.outcome === 'SUCCEEDED') assert.ok(steps.includes('PRUNE'));
        const untouched =
          last?.phase === 'ended' && last.outcome === 'FAILED' && !walked.some(({ phase }) => phase === 'undo');
        if (untouched) assert.ok(steps.every((step) => orderOf(step) < orderOf('STOP')));
      }),
    );
  });

  it('is undone by the third process that finds it unfinished, unless it was verified', () => {
    const at = (step: DeployStep): Position => ({ phase: 'forward', step });
    for (const step of DEPLOY_STEPS) {
      const again = next(at(step), 'found', FOUND_MAX);
      assert.deepEqual(again, at(step === 'INSTALL' ? 'UNPACK' : step));
      const given = next(at(step), 'found', FOUND_MAX + 1);
      assert.equal(given.phase, step === 'PRUNE' ? 'forward' : orderOf(step) < orderOf('STOP') ? 'ended' : 'undo');
    }
    for (const step of ['STOP', 'SWITCH', 'START', 'VERIFY'] as const) {
      assert.deepEqual(next({ phase: 'undo', step }, 'found', 99), { phase: 'undo', step }, 'an undo goes on undoing');
    }
  });

  it('without its entry, touches nothing that still runs, and leaves nothing down', () => {
    const of = (step: DeployStep) => withoutEntry({ phase: 'forward', step });
    assert.deepEqual(of('STOP'), { phase: 'ended', outcome: 'FAILED' });
    assert.deepEqual(of('SWITCH'), { phase: 'undo', step: 'START' });
    assert.deepEqual([of('START'), of('VERIFY'), of('PRUNE')], ['go on', 'go on', 'wait']);
    assert.equal(withoutEntry({ phase: 'undo', step: 'SWITCH' }), 'go on');
  });

  it('leaves a stopped service stopped, forward and back', () => {
    const before = { source: { manifestText: '', folder: '' }, wanted: false, pinned: false };
    const to = { service: 'a', version: '1', digest: '', modules: [], configRevision: 0 };
    for (const phase of ['forward', 'undo'] as const) {
      for (const step of ['START', 'VERIFY'] as const) {
        const facts = { held: true, hook: false };
        assert.match(skipped({ at: { phase, step }, kind: 'DEPLOY', before, to, steps: [] }, facts) ?? '', /stays so/);
      }
    }
  });

  it('says why no install hook is run', () => {
    const to = { service: 'a', version: '1', digest: '', modules: [], configRevision: 0 };
    const why = (outcome: 'SKIPPED' | 'DONE'): string | undefined => {
      const unpack = { step: 'UNPACK', undo: false, outcome, message: '', startedMs: 0, tookMs: 0 } as const;
      const at = { phase: 'forward', step: 'INSTALL' } as const;
      return skipped({ at, kind: 'DEPLOY', before: undefined, to, steps: [unpack] }, { held: true, hook: false });
    };
    assert.equal(why('SKIPPED'), 'the release is on this machine', 'it was run when that came');
    assert.equal(why('DONE'), 'there is no install hook to run');
  });
});
