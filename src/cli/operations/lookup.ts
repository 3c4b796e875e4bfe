import type { CenterService, Operation } from '../../../generated/muster/v1/center.js';
import { isCode, MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';
import type { Client } from '../../rpc/types.js';
import { allPages } from '../paging.js';

/** Operations named in a message about an id. */
const NAMED_MAX = 5;

/** Whether `typed` begins the id, with or without the letter before its dash. */
function begins(id: string, typed: string): boolean {
  return id.startsWith(typed) || id.slice(id.indexOf('-') + 1).startsWith(typed);
}

/**
 * The operation of an id, which may be shortened as long as it says which one is meant.
 * @throws not_found naming the nearest; invalid when several begin so
 */
export async function findOperation(
  center: Pick<Client<typeof CenterService>, 'getOperation' | 'listOperations'>,
  typed: string,
): Promise<Operation> {
  try {
    return await center.getOperation({ id: typed });
  } catch (error) {
    // A center may find that a shortened id is none at all.
    if (!isCode(error, 'not_found', 'invalid')) throw error;
  }
  const all = await allPages(
    (page) => center.listOperations({ ...page, service: '', openOnly: false }),
    (page) => page.operations,
  );
  const [found, ...others] = typed === '' ? [] : all.filter(({ id }) => begins(id, typed));
  if (found === undefined) {
    const near = didYouMean(
      typed,
      all.map(({ id }) => id),
    );
    throw new MusterError('not_found', `there is no operation "${typed}".${near} "muster ops" lists them.`);
  }
  if (others.length === 0) return found;
  const ids = [found, ...others].map(({ id }) => id);
  const more = ids.length > NAMED_MAX ? `, and ${ids.length - NAMED_MAX} more` : '';
  throw new MusterError(
    'invalid',
    `"${typed}" is the beginning of ${ids.length} operations: ${ids.slice(0, NAMED_MAX).join(', ')}${more}. Type more of the id.`,
    { reason: 'AMBIGUOUS' },
  );
}
