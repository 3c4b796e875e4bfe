import { pino, type DestinationStream } from 'pino';
import { MusterError } from './errors.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Structured logging: a message and facts. Facts that are secrets are Secret objects, which print as `[secret]`. */
export interface Logger {
  debug(message: string, facts?: Record<string, unknown>): void;
  info(message: string, facts?: Record<string, unknown>): void;
  warn(message: string, facts?: Record<string, unknown>): void;
  error(message: string, facts?: Record<string, unknown>): void;
  /** A logger whose every line carries `facts`. */
  with(facts: Record<string, unknown>): Logger;
}

/** How far a chain of causes is followed; it could be a circle. */
const CAUSES_MAX = 8;

function describe(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error;
  return {
    type: error.name,
    message: error.message,
    ...(error instanceof MusterError ? { code: error.code, reason: error.reason } : { stack: error.stack }),
    ...(error.cause === undefined || depth === CAUSES_MAX ? {} : { cause: describe(error.cause, depth + 1) }),
  };
}

class PinoLogger implements Logger {
  readonly #pino: ReturnType<typeof pino>;

  constructor(instance: ReturnType<typeof pino>) {
    this.#pino = instance;
  }

  debug(message: string, facts: Record<string, unknown> = {}): void {
    this.#pino.debug(facts, message);
  }

  info(message: string, facts: Record<string, unknown> = {}): void {
    this.#pino.info(facts, message);
  }

  warn(message: string, facts: Record<string, unknown> = {}): void {
    this.#pino.warn(facts, message);
  }

  error(message: string, facts: Record<string, unknown> = {}): void {
    this.#pino.error(facts, message);
  }

  with(facts: Record<string, unknown>): Logger {
    return new PinoLogger(this.#pino.child(facts));
  }
}

/** A logger writing JSON lines to `destination` (default: standard error, so that standard output stays the program's own). */
export function createLogger(level: LogLevel, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: (error: unknown) => describe(error) },
  };
  return new PinoLogger(pino(options, destination ?? pino.destination({ dest: 2, sync: true })));
}

/** A logger that says nothing. */
export const silentLogger: Logger = createLogger('silent');
