import { sleep, systemClock } from '../src/kit/clock.js';
import type { Site } from '../test/support/site.js';
import { rssOf } from './measure.js';

/** What several measurements do alike. */

const SAMPLE_MS = 50;

/** The number behind `--NAME` on the command line. */
export function option(name: string, standard: number): number {
  const at = process.argv.indexOf(`--${name}`);
  return at > 0 ? Number(process.argv[at + 1]) : standard;
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = systemClock.monotonic();
  await work();
  return systemClock.monotonic() - began;
}

/** The highest resident memory of any of these processes while `work` runs, in bytes. */
export async function memoryDuring(pids: readonly number[], work: () => Promise<unknown>): Promise<number> {
  const over = new AbortController();
  let highest = 0;
  const watching = (async () => {
    while (!over.signal.aborted) {
      for (const pid of pids) highest = Math.max(highest, rssOf(pid));
      await sleep(systemClock, SAMPLE_MS);
    }
  })();
  await work();
  over.abort();
  await watching;
  return highest;
}

/** A command of the operator that must succeed. @throws with what it printed */
export async function command(site: Site, ...args: string[]): Promise<void> {
  const { status, stdout, stderr } = await site.cli(...args);
  if (status !== 0) throw new Error(`muster ${args.join(' ')}: ${stderr}${stdout}`);
}
