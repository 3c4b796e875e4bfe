import type {
  CenterService,
  Operation,
  SearchLogsResponse,
  StartOperationRequest,
  WatchOperationResponse,
} from '../../../generated/muster/v1/center.js';
import type { Clock, Timer } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { pageOf } from '../../model/paging.js';
import type { Shelf } from '../releases/shelf.js';
import { fromWireSearch } from '../../wire/log-search.js';
import { fromWireOutcome } from '../../wire/instance.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import type { Commands } from '../commands/commands.js';
import { isSettled, type CommandRecord } from '../commands/command.js';
import { toWireCommand } from '../commands/wire.js';
import type { UploadedBatch } from '../output/service.js';
import type { OperationView } from './ledger.js';
import type { Operations } from './operations.js';
import type { Asking, OperationWish } from './records.js';
import { Patterns } from './patterns.js';
import { Searches, type Clipped, type SearchEvent, type SearchRoom } from './searches.js';
import {
  boundHit,
  clipHits,
  pieces,
  fromWireStart,
  fromWireStrategy,
  toWireCoverage,
  toWireOperation,
  toWirePlanned,
  toWireStrategy,
} from './wire.js';
import { checkRequested } from './wishes.js';

export type OperationHandlers = Pick<
  Handlers<typeof CenterService>,
  | 'startOperation'
  | 'planOperation'
  | 'getOperation'
  | 'listOperations'
  | 'listTargets'
  | 'watchOperation'
  | 'pauseOperation'
  | 'resumeOperation'
  | 'cancelOperation'
  | 'retryOperation'
  | 'searchLogs'
>;

/** Searches as the service gives them to callers. */
export type LogSearches = Searches<UploadedBatch>;
export const LogSearches = Searches<UploadedBatch>;

export interface OperationParts {
  readonly operations: Operations;
  readonly commands: Commands;
  readonly searches: LogSearches;
  readonly shelf: Pick<Shelf, 'releases'>;
  readonly clock: Clock;
}

/** Lines of one batch of an agent; agents send about a quarter of that. */
const BATCH_HITS_MAX = 1000;
const NUMBER_DIGITS = 16;
const WORDS_MAX = 1000;
/** Targets of one frame of a watch, and what they may say together beyond the first of them. */
const TARGETS_PER_FRAME = 200;
const FRAME_BYTES_MAX = 1024 * 1024;
/** How long a watch waits for outcomes that are unknown when the operation has ended. */
const UNKNOWN_LINGER_MS = 3000;

/** What of an agent's batch goes to whoever searches. @throws invalid for more than an honest agent sends */
export function clipUploaded({ hits: given }: UploadedBatch, room: SearchRoom): Clipped<UploadedBatch> {
  if (given.length > BATCH_HITS_MAX) {
    throw new MusterError('invalid', `its agent sent more than ${BATCH_HITS_MAX} lines at once`, { reason: 'HITS' });
  }
  const { hits, matching, clipped } = clipHits(given, room.lines);
  const context = hits.length - matching;
  const most = (room.hitsBefore + matching + 1) * room.around;
  if (room.contextBefore + context > most) {
    throw new MusterError('invalid', 'its agent sent more lines around those that match than were asked for', {
      reason: 'HITS',
    });
  }
  return { batch: { lines: [], hits: hits.map(boundHit) }, hits: matching, context, clipped };
}

/** Operations: start, plan, look, follow, decide; and searches in logs. */
export function operationHandlers(parts: OperationParts): OperationHandlers {
  const { operations, shelf } = parts;
  const { ledger } = operations;
  const patterns = new Patterns();
  const shown = (view: OperationView): Operation =>
    toWireOperation(view, {
      holder: ledger.holder(view.record.service),
      rolledBackBy: ledger.rolledBackBy(view.record.id),
    });
  return {
    startOperation: async (request, context) => shown(await operations.start(wishOf(request, context))),
    // eslint-disable-next-line @typescript-eslint/require-await -- a failure must reject, not throw
    planOperation: async (request, context) => {
      const { record, targets } = operations.plan(wishOf(request, context));
      const holder = ledger.holder(request.service);
      return {
        targets: targets.map(toWirePlanned),
        strategy: toWireStrategy(record.strategy),
        holder: holder && shown(holder),
      };
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- as above
    getOperation: async ({ id }) => shown(ledger.require(id)),
    // eslint-disable-next-line @typescript-eslint/require-await -- as above
    listOperations: async (request) => {
      const ofService = ledger
        .list()
        .filter(({ record }) => request.service === '' || record.service === request.service);
      // One that is gone may still be named by its operations.
      if (request.service !== '' && ofService.length === 0) shelf.releases.requireService(request.service);
      const wanted = ofService.filter(({ record }) => !request.openOnly || record.endedMs === undefined);
      const page = pageOf(
        wanted,
        { size: request.pageSize, token: request.pageToken },
        { keyOf: ({ record }) => digits(record.number), reverse: true },
      );
      return { operations: page.items.map(shown), nextPageToken: page.nextToken };
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- as above
    listTargets: async (request) => {
      ledger.require(request.operation);
      const outcomes = new Set(request.outcomes.map(fromWireOutcome));
      const page = pageOf(
        ledger.targetsOf(request.operation).filter(({ outcome }) => outcomes.size === 0 || outcomes.has(outcome)),
        { size: request.pageSize, token: request.pageToken },
        { keyOf: ({ turn }) => digits(turn?.position ?? 0), weightOf },
      );
      return { targets: page.items.map(toWireCommand), nextPageToken: page.nextToken };
    },
    watchOperation: ({ id }, { signal }) => watchOperation(parts, shown, { id, signal }),
    pauseOperation: async ({ id }, { principal }) => shown(await operations.pause(id, describePrincipal(principal))),
    resumeOperation: async ({ id }) => shown(await operations.unpause(id)),
    cancelOperation: async ({ id }, { principal }) => shown(await operations.cancel(id, describePrincipal(principal))),
    retryOperation: async (request, context) =>
      shown(await operations.retry(request.id, askingOf(request, context), request.includeCancelled)),
    searchLogs: (request, context) => searchLogs(parts, patterns, request, context),
  };
}

function digits(number: number): string {
  return String(number).padStart(NUMBER_DIGITS, '0');
}

/** Bytes that a target says, about. */
function weightOf({ message, result }: CommandRecord): number {
  return message.length + (result ? Buffer.byteLength(JSON.stringify(result)) : 0);
}

function askingOf(
  request: { readonly reason: string; readonly requestId: string; readonly wait: boolean },
  { principal, peer }: CallContext,
): Asking {
  const { reason, requestId, wait } = request;
  return { by: describePrincipal(principal), from: peer, reason: reason.slice(0, WORDS_MAX), requestId, wait };
}

/** @throws invalid naming the field that cannot be used */
function wishOf(request: StartOperationRequest, context: CallContext): OperationWish {
  return {
    ...askingOf(request, context),
    ...checkRequested(fromWireStart(request)),
    service: request.service,
    selector: request.selector,
    strategy: fromWireStrategy(request.strategy),
    search: undefined,
  };
}

interface Watching {
  readonly id: string;
  readonly signal: AbortSignal;
}

/** A target may be told twice, no change is missed: what is told is read after the listening began. */
async function* watchOperation(
  { operations, clock }: OperationParts,
  shown: (view: OperationView) => Operation,
  { id, signal }: Watching,
): AsyncGenerator<WatchOperationResponse> {
  const { ledger } = operations;
  const enough = new AbortController();
  const changed = ledger.changes.watch(AbortSignal.any([signal, enough.signal]));
  const linger: { timer?: Timer } = {};
  const isOver = (): boolean => {
    if (ledger.require(id).record.endedMs === undefined) return false;
    linger.timer ??= clock.after(UNKNOWN_LINGER_MS, () => {
      enough.abort();
    });
    return ledger.targetsOf(id).every(isSettled);
  };
  try {
    yield* frames(shown(ledger.require(id)), ledger.targetsOf(id), true);
    if (isOver()) return;
    for await (const ids of changed) {
      const mine = ids.flatMap((one) => ledger.target(one) ?? []).filter(({ turn }) => turn?.operation === id);
      if (mine.length > 0 || ids.includes(id) || ids.length === 0)
        yield* frames(shown(ledger.require(id)), mine, false);
      if (isOver()) return;
    }
  } finally {
    linger.timer?.cancel();
    await changed.return?.();
  }
}

function* frames(
  operation: Operation,
  targets: readonly CommandRecord[],
  snapshot: boolean,
): Generator<WatchOperationResponse> {
  let piece: CommandRecord[] = [];
  let room = FRAME_BYTES_MAX;
  let first = snapshot;
  for (const target of targets) {
    room -= weightOf(target);
    if (piece.length === TARGETS_PER_FRAME || (room < 0 && piece.length > 0)) {
      yield { snapshot: first, operation, targets: piece.map(toWireCommand) };
      first = false;
      piece = [];
      room = FRAME_BYTES_MAX - weightOf(target);
    }
    piece.push(target);
  }
  yield { snapshot: first, operation, targets: piece.map(toWireCommand) };
}

type SearchRequest = Parameters<OperationHandlers['searchLogs']>[0];

async function* searchLogs(
  { searches }: OperationParts,
  patterns: Patterns,
  request: SearchRequest,
  context: CallContext,
): AsyncGenerator<SearchLogsResponse> {
  const search = fromWireSearch(request.search);
  await patterns.check(search);
  if (context.signal.aborted) return;
  const wish = {
    ...askingOf({ reason: request.reason, requestId: '', wait: false }, context),
    action: 'SEARCH' as const,
    service: request.service,
    selector: request.selector,
    strategy: fromWireStrategy(request.strategy),
    search,
  };
  for await (const event of searches.run(wish, context.signal)) yield* responsesOf(event);
}

function* responsesOf(event: SearchEvent<UploadedBatch>): Generator<SearchLogsResponse> {
  const nothing: SearchLogsResponse = { operation: undefined, hits: [], ended: [], coverage: undefined };
  switch (event.kind) {
    case 'begun':
      yield { ...nothing, operation: toWireOperation(event.operation) };
      return;
    case 'hits': {
      // Of whom a hit is, the order says, whatever its agent says.
      const { machineName, service } = event.target;
      for (const hits of pieces(event.batch.hits)) {
        yield { ...nothing, hits: hits.map((hit) => ({ ...hit, machineName, service })) };
      }
      return;
    }
    case 'ended':
      yield { ...nothing, ended: [toWireCommand(event.target)] };
      return;
    case 'over':
      yield { ...nothing, coverage: toWireCoverage(event.targets, event.hits, event.clipped) };
  }
}
