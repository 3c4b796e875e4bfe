import { MusterError } from '../../../kit/errors.js';
import { listFiles } from '../../system/directory.js';
import { checkDeclared, isDeclared, type LoggedService } from '../files.js';
import { parseRotated } from '../names.js';

/**
 * The logs of a service that a search looks in, in the order of their names: those that are there, or that were and left rotated files.
 * @throws not_found for a file that is not one of its logs, and for a service that keeps its logs elsewhere
 */
export async function searchedLogs(logged: LoggedService, file: string): Promise<string[]> {
  const { root, service, elsewhere } = logged;
  if (file !== '') {
    checkDeclared(logged, file);
    return [file];
  }
  const names = new Set<string>();
  for (const name of await listFiles(root)) {
    const log = parseRotated(name)?.of ?? name;
    if (isDeclared(logged, log)) names.add(log);
  }
  if (names.size > 0 || elsewhere === undefined) return [...names].sort();
  throw new MusterError(
    'not_found',
    `${service} has no log files here: ${elsewhere}; what it writes to files in ${root} can be searched once "logs.files" in its manifest names them`,
    { reason: 'NO_LOGS' },
  );
}
