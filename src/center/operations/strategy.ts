import { formatDuration } from '../../kit/durations.js';
import { MusterError, type FieldViolation } from '../../kit/errors.js';
import type { CommandKind } from '../../model/instance.js';

/** A count, or a share of the targets. */
export type Amount =
  { readonly kind: 'count'; readonly count: number } | { readonly kind: 'percent'; readonly percent: number };

export type Order =
  { readonly by: 'name' } | { readonly by: 'random' } | { readonly by: 'label'; readonly key: string };

/** In which order and how fast the targets of an operation have their turns. */
export interface Strategy {
  /** Targets under way at once. */
  readonly batch: Amount;
  /** So many go first; the others wait until all of them succeeded. */
  readonly canary: number;
  /** How long the canaries are looked at before the others, milliseconds. */
  readonly bakeMs: number;
  /** Failed targets the operation bears. */
  readonly budget: Amount;
  /** Targets out of reach that the operation bears. */
  readonly unreachableBudget: Amount;
  readonly order: Order;
  /** A target that takes longer is given up. */
  readonly targetTimeoutMs: number;
  /** Of the whole operation. */
  readonly timeoutMs: number;
  /** How long a target waits for a machine that is not connected when its turn comes. */
  readonly queueForMs: number;
}

/** A strategy as it is asked for: what is undefined or empty takes its default. */
export interface StrategyWish {
  readonly batch?: string | undefined;
  readonly canary?: number | undefined;
  readonly bakeMs?: number | undefined;
  readonly budget?: string | undefined;
  readonly unreachableBudget?: string | undefined;
  readonly order?: string | undefined;
  readonly targetTimeoutMs?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly queueForMs?: number | undefined;
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

const ALL: Amount = { kind: 'percent', percent: 100 };

/** For an action on a service: the first failure stops it, machines that are away do not. */
export const ACTION_STRATEGY: Strategy = {
  batch: { kind: 'count', count: 10 },
  canary: 0,
  bakeMs: 0,
  budget: { kind: 'count', count: 0 },
  unreachableBudget: ALL,
  order: { by: 'name' },
  targetTimeoutMs: 10 * MINUTE_MS,
  timeoutMs: DAY_MS,
  queueForMs: MINUTE_MS,
};

/** For a deploy or a rollback: downloads and hooks take their time. */
export const DEPLOY_STRATEGY: Strategy = { ...ACTION_STRATEGY, targetTimeoutMs: 30 * MINUTE_MS };

/** For a restore, which may move many files. */
export const RESTORE_STRATEGY: Strategy = { ...ACTION_STRATEGY, targetTimeoutMs: 6 * 60 * MINUTE_MS };

/** For what reads a service's files: one that fails is no reason to leave out the others. */
export const BACKUP_STRATEGY: Strategy = { ...RESTORE_STRATEGY, budget: ALL };

/** For a search, which changes nothing: it goes on whatever happens, and does not wait for machines that are away. */
export const SEARCH_STRATEGY: Strategy = {
  ...ACTION_STRATEGY,
  batch: { kind: 'count', count: 50 },
  budget: ALL,
  queueForMs: 1000,
};

export const BATCH_MAX = 1000;
const BAKE_MS_MAX = DAY_MS;
const TARGET_TIMEOUT_MS_MAX = DAY_MS;
const TIMEOUT_MS_MAX = 7 * DAY_MS;
const LABEL_ORDER = 'label:';
const LABEL_KEY_CHARACTERS_MAX = 200;

/** What is taken where nothing is said. */
export function strategyFor(action: CommandKind): Strategy {
  switch (action) {
    case 'START':
    case 'STOP':
    case 'RESTART':
      return ACTION_STRATEGY;
    case 'SEARCH':
      return SEARCH_STRATEGY;
    case 'DEPLOY':
    case 'ROLLBACK':
      return DEPLOY_STRATEGY;
    case 'BACKUP':
    case 'VERIFY_BACKUP':
      return BACKUP_STRATEGY;
    case 'RESTORE':
      return RESTORE_STRATEGY;
  }
}

/** Collects what is wrong, so that all of it can be said at once. */
class Reading {
  readonly fields: FieldViolation[] = [];

  amount(field: string, text: string | undefined, otherwise: Amount, least: number): Amount {
    if (text === undefined || text === '') return otherwise;
    const [, digits, percent] = /^(\d{1,7})(%)?$/.exec(text.trim()) ?? [];
    const number = Number(digits);
    const inRange = digits !== undefined && number >= least && (percent === undefined || number <= 100);
    if (!inRange) {
      this.fields.push({
        field: `strategy.${field}`,
        description: `"${text}" is not a count from ${least} on, or a share up to 100%: write 3 or 25%`,
      });
      return otherwise;
    }
    return percent === undefined ? { kind: 'count', count: number } : { kind: 'percent', percent: number };
  }

  time(field: string, ms: number | undefined, rule: { readonly otherwise: number; readonly max: number }): number {
    if (ms === undefined || ms === 0) return rule.otherwise;
    if (ms > 0 && ms <= rule.max) return ms;
    this.fields.push({
      field: `strategy.${field}`,
      description: `must be above 0 and at most ${formatDuration(rule.max)}`,
    });
    return rule.otherwise;
  }

  canary(count: number | undefined): number {
    if (count === undefined || (Number.isInteger(count) && count >= 0)) return count ?? 0;
    this.fields.push({ field: 'strategy.canary', description: 'must be 0 or more' });
    return 0;
  }

  order(text: string | undefined, otherwise: Order): Order {
    if (text === undefined || text === '') return otherwise;
    if (text === 'name' || text === 'random') return { by: text };
    const key = text.startsWith(LABEL_ORDER) ? text.slice(LABEL_ORDER.length) : '';
    if (key !== '' && key.length <= LABEL_KEY_CHARACTERS_MAX) return { by: 'label', key };
    this.fields.push({
      field: 'strategy.order',
      description: `"${text.slice(0, LABEL_KEY_CHARACTERS_MAX)}" is not name, random or label:KEY`,
    });
    return otherwise;
  }
}

/**
 * Fills in the defaults.
 * @throws invalid naming each field that cannot be used
 */
export function readStrategy(wish: StrategyWish, defaults: Strategy): Strategy {
  const reading = new Reading();
  const strategy: Strategy = {
    batch: reading.amount('batch', wish.batch, defaults.batch, 1),
    canary: reading.canary(wish.canary),
    bakeMs: reading.time('bake', wish.bakeMs, { otherwise: defaults.bakeMs, max: BAKE_MS_MAX }),
    budget: reading.amount('budget', wish.budget, defaults.budget, 0),
    unreachableBudget: reading.amount('unreachable_budget', wish.unreachableBudget, defaults.unreachableBudget, 0),
    order: reading.order(wish.order, defaults.order),
    targetTimeoutMs: reading.time('target_timeout', wish.targetTimeoutMs, {
      otherwise: defaults.targetTimeoutMs,
      max: TARGET_TIMEOUT_MS_MAX,
    }),
    timeoutMs: reading.time('timeout', wish.timeoutMs, { otherwise: defaults.timeoutMs, max: TIMEOUT_MS_MAX }),
    queueForMs: reading.time('queue_for', wish.queueForMs, { otherwise: defaults.queueForMs, max: TIMEOUT_MS_MAX }),
  };
  if (strategy.bakeMs > 0 && strategy.canary === 0) {
    reading.fields.push({ field: 'strategy.bake', description: 'there is nothing to bake without canaries' });
  }
  if (reading.fields.length === 0) return strategy;
  const text = reading.fields.map(({ field, description }) => `${field}: ${description}`).join('; ');
  throw new MusterError('invalid', `this strategy cannot be used: ${text}`, {
    reason: 'STRATEGY',
    fields: reading.fields,
  });
}

/** So many targets of `total` may be under way at once: at least 1, at most BATCH_MAX. */
export function batchOf(amount: Amount, total: number): number {
  const wanted = amount.kind === 'count' ? amount.count : Math.ceil((total * amount.percent) / 100);
  return Math.min(Math.max(wanted, 1), BATCH_MAX);
}

/** So many targets of `total` may go wrong. */
export function budgetOf(amount: Amount, total: number): number {
  return amount.kind === 'count' ? amount.count : Math.floor((total * amount.percent) / 100);
}

export function formatAmount(amount: Amount): string {
  return amount.kind === 'count' ? String(amount.count) : `${amount.percent}%`;
}

export function formatOrder(order: Order): string {
  return order.by === 'label' ? `${LABEL_ORDER}${order.key}` : order.by;
}
