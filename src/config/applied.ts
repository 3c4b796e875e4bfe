/** What a service said of a revision; `error` is empty when it runs with it. */
export interface AppliedReport {
  readonly revision: number;
  readonly error: string;
}

/**
 * The revision a service runs with after a report, given the one before; 0 for none. A service may take back what it said: then it
 * runs with its own defaults.
 */
export function appliedAfter(before: number, { revision, error }: AppliedReport): number {
  if (error === '') return revision;
  return before === revision ? 0 : before;
}
