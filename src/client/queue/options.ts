import { MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';

/**
 * Programs that are not type-checked call the library too: an option whose name is misspelt would be left out in silence.
 * @throws invalid, naming the first of `given` that is not known
 */
export function assertKnown(what: string, given: object, known: ReadonlySet<string>): void {
  for (const name of Object.keys(given)) {
    if (known.has(name)) continue;
    throw new MusterError(
      'invalid',
      `${what} has no "${name}".${didYouMean(name, known)} It may have: ${[...known].join(', ')}`,
      { fields: [{ field: name, description: 'is not known' }] },
    );
  }
}

/** A time in milliseconds that can be sent, where one is given. @throws invalid */
export function assertTime(field: string, ms: unknown): void {
  if (ms === undefined || (typeof ms === 'number' && Number.isFinite(ms) && ms >= 0)) return;
  const need = 'give a number of milliseconds from 0';
  throw new MusterError('invalid', `${field} is ${typeof ms === 'number' ? ms : `a ${typeof ms}`}: ${need}`, {
    fields: [{ field, description: need }],
  });
}
