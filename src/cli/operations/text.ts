import { Strategy, type Command, type Operation, type OperationCounts } from '../../../generated/muster/v1/center.js';
import { counted } from '../../kit/counted.js';
import { formatDuration, formatSize } from '../../kit/durations.js';
import { fromDuration } from '../../wire/time.js';
import { clockTime, enumWord } from '../output.js';
import { deploySummary, saysCode, stepText } from './deploy-text.js';

/** Operations, targets and commands in words. */

/** `SUCCEEDED`; what is unknown with since when. */
export function outcomeText(command: Pick<Command, 'outcome' | 'unknownSince'>, nowMs: number): string {
  const word = enumWord('OUTCOME', command.outcome);
  return command.unknownSince === undefined ? word : `${word} since ${clockTime(command.unknownSince, nowMs)}`;
}

/** The step that a target of a deploy is at, else its outcome. */
export function placeText(command: Pick<Command, 'outcome' | 'unknownSince' | 'deploy'>, nowMs: number): string {
  return stepText(command) ?? outcomeText(command, nowMs);
}

export function stateOf(operation: Operation): string {
  return enumWord('OPERATION_STATE', operation.state);
}

/** What an operation is called where its action's word is not enough. */
const TITLES: Readonly<Record<string, (service: string) => string>> = {
  search: (service) => `search of the logs of ${service}`,
  verify_backup: (service) => `verify of a backup of ${service}`,
  restore: (service) => `restore of a backup of ${service}`,
};

/** `restart of orders`, `deploy of orders 1.4.2`, `rollback of orders to 1.4.1`. */
export function titleOf({ action, service, deploy }: TitledOperation): string {
  const word = enumWord('ACTION', action).toLowerCase();
  const version = deploy?.version ?? '';
  if (version !== '') return `${word} of ${service}${word === 'rollback' ? ' to' : ''} ${version}`;
  return TITLES[word]?.(service) ?? `${word} of ${service}`;
}

type TitledOperation = Pick<Operation, 'action' | 'service'> & { readonly deploy?: Operation['deploy'] };

/** Outcomes that people have to look at, in the order they are told of. */
const TROUBLES = ['failed', 'unknown', 'expired', 'cancelled'] as const;

function troublesOf(counts: OperationCounts): string[] {
  return TROUBLES.filter((name) => counts[name] > 0).map((name) => `${counts[name]} ${name}`);
}

/** Succeeded of all, and what went wrong: `7/10, 1 failed`. */
export function progressText(counts: OperationCounts | undefined): string {
  if (counts === undefined || counts.total === 0) return '-';
  return [`${counts.succeeded}/${counts.total}`, ...troublesOf(counts)].join(', ');
}

/** Every count that is not zero: `7 succeeded, 1 failed, 2 to come`. */
export function countsText(counts: OperationCounts): string {
  const { succeeded, started, delivered, queued, pending } = counts;
  const some = (count: number, text: string): string[] => (count > 0 ? [`${count} ${text}`] : []);
  return [
    ...some(succeeded, 'succeeded'),
    ...troublesOf(counts),
    ...some(started + delivered, 'under way'),
    ...some(queued, 'not connected'),
    ...some(pending, 'to come'),
  ].join(', ');
}

/** From the start of its run to its end; empty where one of them is not known. */
export function tookText({ started, ended, outcome }: Pick<Command, 'started' | 'ended' | 'outcome'>): string {
  if (started === undefined || ended === undefined || outcome === 'OUTCOME_UNKNOWN') return '';
  const ms = ended.getTime() - started.getTime();
  return ms < 0 ? '' : formatDuration(ms);
}

/** Whole seconds, for what is counted on while one looks. */
export function elapsedText(ms: number): string {
  return ms < 1000 ? '0s' : formatDuration(Math.floor(ms / 1000) * 1000);
}

function searchText({ search }: Command): string {
  if (search === undefined) return '';
  const { hits, files, filesTotal, bytes, limits } = search;
  const cut = limits.map((limit) => enumWord('SEARCH_LIMIT', limit).toLowerCase()).join(', ');
  return `${hits} found in ${files} of ${filesTotal} files, ${formatSize(bytes)}${cut === '' ? '' : `; cut short: ${cut}`}`;
}

function waitText({ outcome, expires }: Command, nowMs: number): string {
  return outcome === 'OUTCOME_QUEUED' ? `not connected, waits until ${clockTime(expires, nowMs)}` : '';
}

function codeText({ exitCode, message }: Command): string {
  const told = exitCode === undefined || exitCode === 0 || saysCode(message, exitCode);
  return told ? '' : `exit code ${exitCode}`;
}

/** Which backup it was about, where its agent has not said it itself. */
function backupText({ backup, outcome, message }: Command): string {
  if (backup === undefined || outcome !== 'OUTCOME_SUCCEEDED' || message.includes(backup.id)) return '';
  const { id, bytes, files, status } = backup;
  const word = status === 'BACKUP_STATUS_OK' ? '' : `, ${enumWord('BACKUP_STATUS', status)}`;
  return `${id}, ${counted(files, 'file')}, ${formatSize(bytes)}${word}`;
}

/** What is said of a target beside its outcome; may have several lines. */
export function messageText(target: Command, nowMs: number): string {
  // What a search says of itself when it ended well, its figures say too.
  const message = target.search !== undefined && target.outcome === 'OUTCOME_SUCCEEDED' ? '' : target.message;
  const parts = [
    waitText(target, nowMs),
    searchText(target),
    backupText(target),
    deploySummary(target),
    codeText(target),
    message,
  ];
  return parts.filter((part) => part !== '').join(': ');
}

function durationOf(name: string, duration: Strategy['bake']): string[] {
  const ms = fromDuration(duration);
  return ms === undefined || ms === 0 ? [] : [`${name} ${formatDuration(ms)}`];
}

/** `batch 3, budget 0, ...`: what is set, in the words of the options. */
export function strategyText(strategy: Strategy | undefined): string {
  if (strategy === undefined) return '-';
  const word = (name: string, text: string): string[] => (text === '' ? [] : [`${name} ${text}`]);
  return [
    ...word('batch', strategy.batch),
    ...word('canary', strategy.canary > 0 ? String(strategy.canary) : ''),
    ...durationOf('bake', strategy.bake),
    ...word('budget', strategy.budget),
    ...word('unreachable budget', strategy.unreachableBudget),
    ...word('order', strategy.order),
    ...durationOf('target timeout', strategy.targetTimeout),
    ...durationOf('timeout', strategy.timeout),
    ...durationOf('queue for', strategy.queueFor),
  ].join(', ');
}

/** What is most worth knowing of it while it goes on. */
export function paceText({ batch, canary, budget }: Strategy): string {
  return strategyText(Strategy.fromPartial({ batch, canary, budget }));
}

/** Lines shown of what a service printed before it failed. */
const OUTPUT_LINES_SHOWN = 10;

/** The last lines a failed target printed; empty where there are none, or its message holds them. */
export function outputLines({ output, message }: Pick<Command, 'output' | 'message'>): string[] {
  const text = output.trimEnd();
  const lines = text.split('\n');
  // What the message tells already is not told again.
  const said = new Set(message.split('\n').map((line) => line.trim()));
  if (text === '' || lines.every((line) => said.has(line.trim()))) return [];
  const cut = lines.length - OUTPUT_LINES_SHOWN;
  return [...(cut > 0 ? [`(${cut} lines before)`] : []), ...lines.slice(-OUTPUT_LINES_SHOWN)];
}
