import { PassThrough } from 'node:stream';
import { systemClock, type Clock } from '../../src/kit/clock.js';
import type { Io } from '../../src/cli/io.js';

/** An Io that keeps what a command wrote. */
export interface FakeIo extends Io {
  readonly written: () => string;
  readonly complained: () => string;
}

export interface FakeIoOptions {
  readonly home: string;
  readonly env?: Record<string, string>;
  readonly uid?: number;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  readonly input?: string;
  readonly terminal?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

export function fakeIo(options: FakeIoOptions): FakeIo {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const stdin = new PassThrough();
  stdin.end(options.input ?? '');
  const kept = { out: '', err: '' };
  stdout.on('data', (chunk: Buffer) => {
    kept.out += chunk.toString('utf8');
  });
  stderr.on('data', (chunk: Buffer) => {
    kept.err += chunk.toString('utf8');
  });
  return {
    stdout,
    stderr,
    stdin,
    terminal: options.terminal ?? false,
    columns: options.columns ?? 120,
    rows: options.rows ?? 24,
    env: options.env ?? {},
    places: { uid: options.uid ?? 1000, home: options.home, xdgDataHome: undefined, xdgConfigHome: undefined },
    clock: options.clock ?? systemClock,
    signal: options.signal ?? new AbortController().signal,
    written: () => kept.out,
    complained: () => kept.err,
  };
}
