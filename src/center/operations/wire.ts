import type {
  DeployWish as WireDeployWish,
  Operation,
  OperationCounts,
  OperationState as WireState,
  PlannedTarget as WirePlanned,
  SearchCoverage,
  SearchGap,
  StartOperationRequest,
  Strategy as WireStrategy,
} from '../../../generated/muster/v1/center.js';
import type { LogHit } from '../../../generated/muster/v1/types.js';
import { HIT_BYTES_MAX, type SearchLimit } from '../../model/log-search.js';
import { ROLLBACK_SCOPES, type DeployWish, type RollbackScope } from '../../model/release.js';
import { toWireBackupOrder } from '../../wire/backup.js';
import { fromWireCommandKind, toWireAction, toWireOutcome, toWireState } from '../../wire/instance.js';
import { HIT_FILE_CHARACTERS_MAX, toWireLimit, toWireSearch } from '../../wire/log-search.js';
import { toWireRelease } from '../../wire/release.js';
import { fromDate, fromDuration, toDate, toDuration } from '../../wire/time.js';
import type { CommandRecord } from '../commands/command.js';
import type { OperationView } from './ledger.js';
import { totalOf, type OperationRecord, type OperationState, type OutcomeCounts } from './operation.js';
import type { PlannedTarget } from './operations.js';
import { formatAmount, formatOrder, type Strategy, type StrategyWish } from './strategy.js';
import type { Requested } from './wishes.js';

const toWireOperationState = (state: OperationState): WireState => `OPERATION_STATE_${state}`;

export function toWireStrategy(strategy: Strategy): WireStrategy {
  return {
    batch: formatAmount(strategy.batch),
    canary: strategy.canary,
    bake: toDuration(strategy.bakeMs),
    budget: formatAmount(strategy.budget),
    unreachableBudget: formatAmount(strategy.unreachableBudget),
    order: formatOrder(strategy.order),
    targetTimeout: toDuration(strategy.targetTimeoutMs),
    timeout: toDuration(strategy.timeoutMs),
    queueFor: toDuration(strategy.queueForMs),
  };
}

export function fromWireStrategy(wire: WireStrategy | undefined): StrategyWish {
  if (!wire) return {};
  const { batch, canary, budget, unreachableBudget, order } = wire;
  return {
    batch,
    canary,
    budget,
    unreachableBudget,
    order,
    bakeMs: fromDuration(wire.bake),
    targetTimeoutMs: fromDuration(wire.targetTimeout),
    timeoutMs: fromDuration(wire.timeout),
    queueForMs: fromDuration(wire.queueFor),
  };
}

function toWireCounts(counts: OutcomeCounts): OperationCounts {
  return {
    total: totalOf(counts),
    pending: counts.PENDING,
    queued: counts.QUEUED,
    delivered: counts.DELIVERED,
    started: counts.STARTED,
    succeeded: counts.SUCCEEDED,
    failed: counts.FAILED,
    expired: counts.EXPIRED,
    cancelled: counts.CANCELLED,
    unknown: counts.UNKNOWN,
  };
}

/** What of other operations is shown with one. */
export interface Beside {
  /** Who has its service now. */
  readonly holder?: OperationView | undefined;
  readonly rolledBackBy?: string | undefined;
}

export function toWireOperation({ record, state, counts }: OperationView, beside: Beside = {}): Operation {
  return {
    id: record.id,
    action: toWireAction(record.action),
    service: record.service,
    selector: record.selector,
    strategy: toWireStrategy(record.strategy),
    state: toWireOperationState(state),
    message: messageOf(record, state, beside.holder),
    created: toDate(record.createdMs),
    started: toDate(record.startedMs),
    ended: toDate(record.endedMs),
    bakeUntil: toDate(record.bakeUntilMs),
    createdBy: record.createdBy,
    createdFrom: record.createdFrom,
    reason: record.reason,
    counts: toWireCounts(counts),
    retryOf: record.retryOf ?? '',
    search: record.search && toWireSearch(record.search),
    deploy: record.deploy && toWireDeployWish(record.deploy),
    backup: record.backup && toWireBackupOrder(record.backup),
    rollbackOf: record.rollbackOf ?? '',
    rolledBackBy: beside.rolledBackBy ?? '',
  };
}

function messageOf(
  { id, stop, paused, bakeUntilMs }: OperationRecord,
  state: OperationState,
  holder: OperationView | undefined,
): string {
  if (stop) return stop.message;
  if (state === 'PAUSED' && paused) return `paused by ${paused.by}`;
  // The first of those that wait has the service already, and is about to begin.
  if (state === 'WAITING' && holder && holder.record.id !== id)
    return `waits for operation ${holder.record.id} by ${holder.record.createdBy}`;
  return state === 'RUNNING' && bakeUntilMs !== undefined ? 'the canaries succeeded' : '';
}

/** What is asked for, as it came: whoever checks it says what is wrong. */
export function fromWireStart({ action, service, deploy, backup }: StartOperationRequest): Requested {
  return {
    action: fromWireCommandKind(action),
    service,
    deploy: deploy && { version: deploy.version, onFailure: fromWireScope(deploy) },
    backup,
  };
}

function fromWireScope({ onFailure }: WireDeployWish): RollbackScope | undefined {
  if (onFailure === 'ROLLBACK_SCOPE_UNSPECIFIED') return 'TARGET';
  return ROLLBACK_SCOPES.find((scope) => `ROLLBACK_SCOPE_${scope}` === onFailure);
}

function toWireDeployWish({ version, onFailure }: DeployWish): WireDeployWish {
  return { version, onFailure: `ROLLBACK_SCOPE_${onFailure}` };
}

export function toWirePlanned({ candidate, why, canary, problem, from, to, changes }: PlannedTarget): WirePlanned {
  return {
    machine: candidate.id,
    machineName: candidate.name,
    why,
    online: candidate.online,
    canary,
    state: candidate.state === undefined ? 'SERVICE_STATE_UNSPECIFIED' : toWireState(candidate.state),
    problem: problem ?? '',
    from: from && toWireRelease(from),
    to: to && toWireRelease(to),
    changes: [...changes],
  };
}

/** The front of the hits with at most `room` matching lines; context lines behind the last of them go with what is left out. */
export function clipHits(
  hits: readonly LogHit[],
  room: number,
): { hits: LogHit[]; matching: number; clipped: boolean } {
  let matching = 0;
  for (const [index, { context }] of hits.entries()) {
    if (context) continue;
    if (matching === room) return { hits: hits.slice(0, index), matching, clipped: true };
    matching += 1;
  }
  return { hits: [...hits], matching, clipped: false };
}

/** Characters of the version of a service that a hit carries. */
const RELEASE_CHARACTERS_MAX = 200;
/** Bytes of the hits of one message, about. */
const PIECE_BYTES_MAX = 512 * 1024;
/** Bytes of a hit beside its text: each character of its words may take 3, its numbers and marks take less than 100. */
const HIT_WORDS_BYTES_MAX = 3 * (HIT_FILE_CHARACTERS_MAX + RELEASE_CHARACTERS_MAX) + 1000;

/** So much of a hit as is promised, whatever an agent sends. */
export function boundHit(hit: LogHit): LogHit {
  const text = startOf(hit.text, HIT_BYTES_MAX);
  return {
    ...hit,
    file: hit.file.slice(0, HIT_FILE_CHARACTERS_MAX),
    line: bounded(hit.line, Number.MAX_SAFE_INTEGER),
    time: toDate(fromDate(hit.time)),
    text,
    truncated: hit.truncated || text.length < hit.text.length,
    release: hit.release.slice(0, RELEASE_CHARACTERS_MAX),
  };
}

/** The front of a text, at most so many bytes of UTF-8. */
function startOf(text: string, bytesMax: number): string {
  if (text.length * 3 <= bytesMax) return text;
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  let end = bytesMax;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}

/** Bounded hits in pieces of which each fits into a message. */
export function pieces(hits: readonly LogHit[]): LogHit[][] {
  const found: LogHit[][] = [];
  let room = 0;
  for (const hit of hits) {
    const bytes = HIT_WORDS_BYTES_MAX + Buffer.byteLength(hit.text);
    if (found.length === 0 || bytes > room) {
      found.push([]);
      room = PIECE_BYTES_MAX;
    }
    found.at(-1)?.push(hit);
    room -= bytes;
  }
  return found;
}

const INT32_MAX = 2 ** 31 - 1;

function bounded(count: number, max: number): number {
  return Math.min(Math.max(count, 0), max);
}

/** Never more than the field holds. */
function sumOf(counts: readonly number[], max: number): number {
  return counts.reduce((sum, count) => bounded(sum + bounded(count, max), max), 0);
}

/** What a search saw of what it was asked for, from how each target ended. */
export function toWireCoverage(
  targets: readonly CommandRecord[],
  hits: number,
  clipped: ReadonlySet<string>,
): SearchCoverage {
  const reports = targets.flatMap(({ result }) => result?.search ?? []);
  const limitsOf = ({ machine, result }: CommandRecord): readonly SearchLimit[] => [
    ...new Set([...(result?.search?.limits ?? []), ...(clipped.has(machine) ? (['LINES'] as const) : [])]),
  ];
  const incomplete = targets.filter((target) => target.outcome !== 'SUCCEEDED' || limitsOf(target).length > 0);
  const times = reports.flatMap(({ firstMs, lastMs }) => [firstMs, lastMs]).filter((time) => time !== undefined);
  return {
    machines: targets.length,
    machinesComplete: targets.length - incomplete.length,
    machinesPartial: incomplete.filter(({ result }) => result?.search !== undefined).length,
    files: sumOf(
      reports.map(({ files }) => files),
      INT32_MAX,
    ),
    bytes: sumOf(
      reports.map(({ bytes }) => bytes),
      Number.MAX_SAFE_INTEGER,
    ),
    hits,
    first: toDate(times.length === 0 ? undefined : times.reduce((a, b) => Math.min(a, b))),
    last: toDate(times.length === 0 ? undefined : times.reduce((a, b) => Math.max(a, b))),
    gaps: incomplete.map((target) => toWireGap(target, limitsOf(target), GAPS_BYTES_MAX / incomplete.length)),
  };
}

/** Bytes of what all gaps of a coverage say. */
const GAPS_BYTES_MAX = 512 * 1024;

function toWireGap(
  { machineName, outcome, message, result }: CommandRecord,
  limits: readonly SearchLimit[],
  bytesMax: number,
): SearchGap {
  const problems = result?.search?.problems ?? [];
  return {
    machineName,
    outcome: toWireOutcome(outcome),
    limits: limits.map(toWireLimit),
    message: startOf([message, ...problems].filter((text) => text !== '').join('; '), Math.floor(bytesMax)),
  };
}
