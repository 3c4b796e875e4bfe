import { counted } from '../../kit/counted.js';
import { messageOf, MusterError } from '../../kit/errors.js';
import { formatSize } from '../../kit/durations.js';
import { NO_RESULT } from '../../model/command-result.js';
import type { CommandKind } from '../../model/instance.js';
import { Documents } from '../../store/documents.js';
import type { Store } from '../../store/port.js';
import type { CommandEnd } from '../commands/lifecycle.js';
import type { CommandOrder, Performer, Tell } from '../commands/runner.js';
import type { Archives } from './archives.js';
import type { BackupMaker } from './maker.js';
import { shownOf, type BackupRecord, type BackupRecords } from './records.js';
import type { Restores } from './restores.js';

export interface BackupPerformersOptions {
  readonly store: Store;
  readonly records: BackupRecords;
  readonly maker: Pick<BackupMaker, 'make'>;
  readonly archives: Pick<Archives, 'verify'>;
  readonly restores: Pick<Restores, 'restore' | 'left'>;
  /** Aborts when the agent ends. */
  readonly signal: AbortSignal;
}

/** A verify that is under way, so that the next process of the agent can do it again. */
interface Verifying {
  readonly backup: string;
}

export type BackupPerformers = Readonly<
  Record<Extract<CommandKind, 'BACKUP' | 'VERIFY_BACKUP' | 'RESTORE'>, Performer>
>;

/** Carries out the center's orders on backups. @throws as Store.range */
export async function backupPerformers(options: BackupPerformersOptions): Promise<BackupPerformers> {
  const verifying = new Documents<Verifying>(options.store, 'backup-verify/');
  const begun = new Map((await verifying.all()).map(({ id, value }) => [id, value]));
  return {
    BACKUP: backing(options),
    VERIFY_BACKUP: verification(options, verifying, begun),
    RESTORE: restoring(options),
  };
}

function backing({ records, maker, signal }: BackupPerformersOptions): Performer {
  const made = (command: string): BackupRecord | undefined =>
    records.all().find(({ orderedBy }) => orderedBy === command);
  return {
    perform: async ({ command, service }, tell) => {
      const onBegun = (record: BackupRecord): void => {
        tell(resultOf(record));
      };
      return endOf(await maker.make({ service, trigger: 'MANUAL', deploy: '', orderedBy: command, onBegun }, signal));
    },
    // Its record is written before anything else: without one, nothing was begun.
    holds: (command) => made(command) !== undefined,
    resume: (command) => {
      const record = made(command);
      return record ? Promise.resolve(endOf(record)) : Promise.reject(unknown(command));
    },
  };
}

function verification(
  { records, archives, signal }: BackupPerformersOptions,
  verifying: Documents<Verifying>,
  begun: ReadonlyMap<string, Verifying>,
): Performer {
  const verify = async (command: string, record: BackupRecord, tell: Tell): Promise<CommandEnd> => {
    tell(resultOf(record));
    const verified = await archives.verify(record, signal);
    await verifying.delete(command);
    const { id, files, verifyProblem } = verified.backup;
    if (verifyProblem !== '') return failed(`backup ${id} is damaged: ${verifyProblem}`, verified);
    return succeeded(`backup ${id} was read back: ${counted(files, 'file')} as its manifest says`, verified);
  };
  return {
    perform: async (order, tell) => {
      const record = chosen(records, order);
      await verifying.put(order.command, { backup: record.backup.id });
      return verify(order.command, record, tell);
    },
    holds: (command) => begun.has(command),
    resume: async (command, tell) => {
      const record = records.find(begun.get(command)?.backup ?? '');
      if (!record) throw unknown(command);
      return verify(command, record, tell);
    },
  };
}

function restoring({ records, restores, signal }: BackupPerformersOptions): Performer {
  return {
    perform: async (order, tell) => {
      const record = chosen(records, order);
      const wanted = order.backup?.();
      if (!wanted) throw new MusterError('invalid', 'the order does not say what to restore');
      tell(resultOf(record));
      try {
        return succeeded(await restores.restore(record, wanted, order.command, signal), record);
      } catch (error) {
        if (!(error instanceof MusterError)) throw error;
        return failed(messageOf(error), record);
      }
    },
    // Its entry is written before anything else, and kept until the outcome is on the disk: without one, nothing was begun.
    holds: () => true,
    resume: (command) => {
      const { ok, backup, message } = restores.left(command);
      const record = records.find(backup);
      return Promise.resolve(ok ? succeeded(message, record) : failed(message, record));
    },
  };
}

/** The one that is named, or the latest. @throws not_found */
function chosen(records: BackupRecords, { service, backup: order }: CommandOrder): BackupRecord {
  const id = order?.().backup ?? '';
  return id === '' ? records.latest(service) : records.require(service, id);
}

function endOf(record: BackupRecord): CommandEnd {
  const { id, status, problems, files, bytes } = record.backup;
  if (status === 'ERROR') return failed(problems[0] ?? 'it failed', record);
  const known = problems.length === 0 ? '' : `. To be known: ${problems.join('; ')}`;
  return succeeded(`backup ${id}: ${counted(files, 'file')}, ${formatSize(bytes)}${known}`, record);
}

function succeeded(message: string, record: BackupRecord | undefined): CommandEnd {
  return { outcome: 'SUCCEEDED', message, result: resultOf(record) };
}

function failed(message: string, record: BackupRecord | undefined): CommandEnd {
  return { outcome: 'FAILED', message, result: resultOf(record) };
}

function resultOf(record: BackupRecord | undefined): CommandEnd['result'] {
  return record ? { backup: shownOf(record) } : NO_RESULT;
}

function unknown(command: string): MusterError {
  return new MusterError('internal', `nothing is known of command ${command}: order it again`);
}
