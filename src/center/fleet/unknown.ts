import { MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';

/** The failure for a service name that nothing is called by. */
export function unknownService(service: string, known: readonly string[]): MusterError {
  const hint = didYouMean(service, known) || ' See `muster services` for those there are.';
  return new MusterError('not_found', `there is no service "${service}".${hint}`, { reason: 'SERVICE_UNKNOWN' });
}
