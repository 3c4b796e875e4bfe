/**
 * The closed set of failure kinds. Everything thrown on purpose is a MusterError with one of these codes;
 * anything else is a bug and reaches a peer as "internal" while its cause stays in our log.
 * The translation to gRPC status lives in src/rpc/status.ts and nowhere else.
 */
export const CODES = [
  'invalid', // the input is wrong whatever the state is
  'unauthenticated', // nobody we know
  'denied', // we know who it is, and they may not
  'not_found',
  'exists',
  'conflict', // the state moved since it was read: read again, then retry
  'precondition', // the state does not allow it: change the state first
  'exhausted', // a named limit is reached
  'unavailable', // try again later
  'deadline', // the time given was too short; the outcome may be unknown
  'cancelled',
  'unimplemented',
  'data_loss', // stored bytes are not what was written
  'internal',
] as const;

export type Code = (typeof CODES)[number];

/** One bad field of an input. */
export interface FieldViolation {
  /** Path of the field, for example `ports[0].port`. */
  readonly field: string;
  readonly description: string;
}

export interface ErrorDetails {
  /** A stable word for programs, in SCREAMING_SNAKE_CASE, for example `TOKEN_EXPIRED`. */
  readonly reason?: string;
  readonly fields?: readonly FieldViolation[];
  /** How long to wait before trying again, in milliseconds. */
  readonly retryAfterMs?: number;
  /** Facts for programs; never secrets. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** A failure on purpose. The message says what is wrong and what to do next. */
export class MusterError extends Error {
  readonly code: Code;
  readonly reason: string | undefined;
  readonly fields: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(code: Code, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'MusterError';
    this.code = code;
    this.reason = details.reason;
    this.fields = details.fields ?? [];
    this.retryAfterMs = details.retryAfterMs;
    this.metadata = details.metadata ?? {};
  }
}

/** Whether `error` is a MusterError, of one of `codes` where any are given. */
export function isCode(error: unknown, ...codes: readonly Code[]): error is MusterError {
  return error instanceof MusterError && (codes.length === 0 || codes.includes(error.code));
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name (`ENOENT`, `EADDRINUSE`) of a system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/** Marks a branch that cannot be reached; the compiler checks it, and the run time too. */
export function unreachable(value: never): never {
  throw new MusterError('internal', `unexpected value: ${JSON.stringify(value)}`);
}
