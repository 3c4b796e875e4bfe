import { MusterError } from '../kit/errors.js';

/** Whether a setting holds, its name in the contract, and what it must be. */
export type Check = readonly [holds: boolean, field: string, description: string];

/** @throws invalid, naming every field that does not hold */
export function assertSettings(what: string, reason: string, checks: readonly Check[]): void {
  const fields = checks.filter(([holds]) => !holds).map(([, field, description]) => ({ field, description }));
  const [first] = fields;
  if (!first) return;
  const more = fields.length > 1 ? ` (and ${fields.length - 1} more)` : '';
  throw new MusterError('invalid', `the ${what}'s ${first.field} ${first.description}${more}`, { reason, fields });
}

export function within(value: number, low: number, high: number): boolean {
  return value >= low && value <= high;
}
