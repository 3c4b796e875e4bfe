import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { LoggedService } from '../../src/agent/logs/files.js';
import { Logs } from '../../src/agent/logs/logs.js';
import { systemClock } from '../../src/kit/clock.js';
import { createLogger } from '../../src/kit/logger.js';
import {
  SEARCH_BYTES_DEFAULT,
  SEARCH_CPU_DEFAULT_MS,
  type LogHit,
  type LogSearch,
  type SearchReport,
} from '../../src/model/log-search.js';

const KIB = 1024;
/** For the letter x, within the default limits. */
export const ANY_SEARCH: LogSearch = {
  pattern: 'x',
  regex: false,
  ignoreCase: false,
  sinceMs: undefined,
  untilMs: undefined,
  before: 0,
  after: 0,
  linesMax: 1000,
  bytesMax: SEARCH_BYTES_DEFAULT,
  cpuMs: SEARCH_CPU_DEFAULT_MS,
  file: '',
};

export interface Found {
  readonly hits: LogHit[];
  readonly batches: number;
  readonly report: SearchReport;
}

/** The logs of one service in a temporary directory. */
export interface SearchBench {
  readonly root: string;
  readonly logs: Logs;
  readonly write: (name: string, text: string, atMs?: number) => Promise<void>;
  readonly find: (search: Partial<LogSearch>, signal?: AbortSignal) => Promise<Found>;
}

export async function searchBench(
  t: TestContext,
  more: Partial<LoggedService> = {},
  journalctl: readonly string[] = ['/nonexistent/journalctl'],
): Promise<SearchBench> {
  const data = await mkdtemp(join(tmpdir(), 'muster-search-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  const root = join(data, 'logs', 'app');
  await mkdir(root, { recursive: true });
  const limits = { files: ['*.log', 'sub/*.log'], maxSizeBytes: 64 * KIB, keep: 1000, maxAgeMs: 1e12 };
  const app: LoggedService = { service: 'app', root, logs: limits, ...more };
  const logs = new Logs({
    dataDirectory: data,
    services: () => [app],
    clock: systemClock,
    logger: createLogger('error'),
    freeSpaceFloorBytes: 0,
    journalctl,
    releaseAt: (_service, ms, precisionMs) => {
      const changed = Date.UTC(2026, 10, 23, 12);
      if (ms >= changed) return '2.0.0';
      return ms + precisionMs > changed ? '' : '1.0.0';
    },
  });
  return {
    root,
    logs,
    write: async (name, text, atMs) => {
      const path = join(root, name);
      await mkdir(join(path, '..'), { recursive: true });
      await writeFile(path, text);
      if (atMs !== undefined) await utimes(path, atMs / 1000, atMs / 1000);
    },
    find: async (search, signal = new AbortController().signal) => {
      const running = await logs.search('app', { ...ANY_SEARCH, ...search });
      const hits: LogHit[] = [];
      let batches = 0;
      for await (const batch of running.hits(signal)) {
        hits.push(...batch);
        batches += 1;
      }
      return { hits, batches, report: running.report() };
    },
  };
}
