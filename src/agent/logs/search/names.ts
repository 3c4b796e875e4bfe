import { MusterError } from '../../../kit/errors.js';
import { listFiles } from '../../system/directory.js';
import { checkDeclared, isDeclared, type LoggedService } from '../files.js';
import { JOURNAL } from '../../../model/log-search.js';
import { parseRotated } from '../names.js';
import { journalAvailable } from '../systemd-journal.js';
import type { JournalSource } from './journal.js';

/** Where a search looks. */
export interface Searched {
  /** Logs by name, in the order of the answer: those that are there, or that were and left rotated files. */
  readonly names: readonly string[];
  readonly journal?: JournalSource;
}

/**
 * What there is of a service to be searched.
 * @throws not_found for a file that is not one of its logs, and for a service that keeps its logs elsewhere
 */
export async function searchedLogs(
  logged: LoggedService,
  file: string,
  journalctl: readonly string[] | undefined,
): Promise<Searched> {
  const { root, service, elsewhere, unit } = logged;
  const journal = unit !== undefined && (await journalAvailable(journalctl)) ? { journal: { unit, journalctl } } : {};
  if (file === JOURNAL && unit !== undefined) return { names: [], ...journal };
  if (file !== '') {
    checkDeclared(logged, file);
    return { names: [file] };
  }
  const names = await namesIn(logged);
  if (names.length > 0 || elsewhere === undefined || 'journal' in journal) return { names, ...journal };
  throw new MusterError(
    'not_found',
    `${service} has no log files here: ${elsewhere}; what it writes to files in ${root} can be searched once "logs.files" in its manifest names them`,
    { reason: 'NO_LOGS' },
  );
}

async function namesIn(logged: LoggedService): Promise<string[]> {
  const names = new Set<string>();
  for (const name of await listFiles(logged.root)) {
    const log = parseRotated(name)?.of ?? name;
    if (isDeclared(logged, log)) names.add(log);
  }
  return [...names].sort();
}
