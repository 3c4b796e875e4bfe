import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';

const OTHERS_MAY_PASS = 0o001;

/** The uppermost directory above `path` (absolute) that other users may not pass through; undefined where they can come to `path`. */
export async function closedOnTheWay(path: string): Promise<string | undefined> {
  const parent = dirname(path);
  if (parent === path) return undefined;
  const above = await closedOnTheWay(parent);
  if (above !== undefined) return above;
  return ((await stat(parent)).mode & OTHERS_MAY_PASS) === 0 ? parent : undefined;
}
