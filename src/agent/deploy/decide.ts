import { unreachable } from '../../kit/errors.js';
import { DEPLOY_STEPS, type DeployStep } from '../../model/release.js';
import type { Deploy, Position } from './deploy.js';

/** What comes next in a deploy, decided without effects. */

/**
 * What became of the step a deploy is at:
 *   done     it, or there was nothing to do
 *   failed   it was begun
 *   found    a process of the agent has ended meanwhile: it may have happened, in part or whole
 */
export type Happened = 'done' | 'failed' | 'found';

/** As many processes of the agent may end in one deploy; the next one that finds it unfinished undoes it. */
export const FOUND_MAX = 2;

/** The steps of an undo, in their order. */
const UNDO_STEPS: readonly DeployStep[] = ['STOP', 'SWITCH', 'START', 'VERIFY'];
const FAILED: Position = { phase: 'ended', outcome: 'FAILED' };
const SUCCEEDED: Position = { phase: 'ended', outcome: 'SUCCEEDED' };

/** A rollback to what is on the machine needs nothing before the stop. */
export function firstPosition({ kind }: Pick<Deploy, 'kind'>, { held }: Pick<Facts, 'held'>): Position {
  return { phase: 'forward', step: kind === 'ROLLBACK' && held ? 'STOP' : 'FETCH' };
}

/** The position after what happened. One that has ended stays as it is. */
export function next(at: Position, happened: Happened, found = 0): Position {
  if (at.phase === 'ended') return at;
  if (at.phase === 'undo') return nextOfUndo(at.step, happened);
  switch (happened) {
    case 'done':
      return behind(at.step);
    case 'failed':
      return AFTER_FAILURE[at.step];
    case 'found':
      return resumed(at.step, found);
    default:
      return unreachable(happened);
  }
}

function behind(step: DeployStep): Position {
  const following = DEPLOY_STEPS[DEPLOY_STEPS.indexOf(step) + 1];
  return following ? { phase: 'forward', step: following } : SUCCEEDED;
}

/** What follows the failure of a step. */
const AFTER_FAILURE: Readonly<Record<DeployStep, Position>> = {
  // Up to here the service has not been touched.
  FETCH: FAILED,
  BACKUP: FAILED,
  MODULES: FAILED,
  UNPACK: FAILED,
  INSTALL: FAILED,
  // It may have ended, and nothing else: it runs from what it ran from.
  STOP: { phase: 'undo', step: 'START' },
  SWITCH: { phase: 'undo', step: 'STOP' },
  START: { phase: 'undo', step: 'STOP' },
  VERIFY: { phase: 'undo', step: 'STOP' },
  // The release is verified: what is left over does not make it worse.
  PRUNE: SUCCEEDED,
};

/** What was begun is done again; an install hook in a new directory. A verified release is not undone for what is left over. */
function resumed(step: DeployStep, found: number): Position {
  if (found > FOUND_MAX && step !== 'PRUNE') return AFTER_FAILURE[step];
  return { phase: 'forward', step: step === 'INSTALL' ? 'UNPACK' : step };
}

/**
 * What to do where the entry of a step cannot be written because the disk is full. Nothing of the step has happened.
 *   Position  there: up to SWITCH the service runs from what it ran from, and does so again
 *   go on     a later process would come to the same step from the entry before, and a service that is down waits for no disk
 *   wait      for room: the release is verified
 */
export function withoutEntry(at: Position): Position | 'go on' | 'wait' {
  if (at.phase === 'ended') return at;
  if (at.phase === 'undo' || at.step === 'START' || at.step === 'VERIFY') return 'go on';
  if (at.step === 'PRUNE') return 'wait';
  return at.step === 'SWITCH' ? AFTER_FAILURE.STOP : FAILED;
}

/** An undo is gone on with. It has failed for good where the service cannot be stopped or started: putting back what it runs from cannot fail. */
function nextOfUndo(step: DeployStep, happened: Happened): Position {
  switch (happened) {
    case 'found':
      return { phase: 'undo', step };
    case 'failed':
      return FAILED;
    case 'done': {
      const following = UNDO_STEPS[UNDO_STEPS.indexOf(step) + 1];
      return following ? { phase: 'undo', step: following } : FAILED;
    }
  }
}

/** What says whether a step has anything to do. */
export interface Facts {
  /** The release is complete on the machine. */
  readonly held: boolean;
  /** Its manifest has an install hook; known once it is unpacked. */
  readonly hook: boolean;
}

type Skips = Pick<Deploy, 'at' | 'kind' | 'before' | 'to' | 'steps'>;

/** Why there is nothing to do in the step that a deploy is at; undefined: there is. */
export function skipped(deploy: Skips, facts: Facts): string | undefined {
  const { at } = deploy;
  if (at.phase === 'ended') return undefined;
  if (at.step === 'START' || at.step === 'VERIFY') return running(deploy, at.phase === 'undo');
  return at.phase === 'undo' ? undefined : preparing(at.step, deploy, facts);
}

function running({ before }: Skips, undo: boolean): string | undefined {
  if (undo && before?.source === undefined) return 'there was no such service before';
  return before?.wanted === false ? 'the service was stopped, and stays so' : undefined;
}

/** The same for the steps of which START and VERIFY are not. */
function preparing(step: DeployStep, deploy: Skips, { held, hook }: Facts): string | undefined {
  const { kind, to } = deploy;
  if (step === 'BACKUP') return kind === 'ROLLBACK' ? 'a rollback makes no backup' : undefined;
  if (step === 'INSTALL') return hook ? undefined : withoutHook(deploy);
  if (step === 'MODULES' && to.modules.length === 0) return 'it pins no modules';
  return held && MADE.has(step) ? HELD : undefined;
}

/** A hook runs once, when its release is unpacked. */
function withoutHook({ steps }: Skips): string {
  const unpack = steps.find(({ step, undo }) => step === 'UNPACK' && !undo);
  return unpack?.outcome === 'SKIPPED' ? HELD : 'there is no install hook to run';
}

const HELD = 'the release is on this machine';

/** What makes a release complete. */
const MADE: ReadonlySet<DeployStep> = new Set<DeployStep>(['FETCH', 'MODULES', 'UNPACK']);
