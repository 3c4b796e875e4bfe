import { execFile } from 'node:child_process';
import { arch, cpus, hostname, networkInterfaces, release, totalmem, type } from 'node:os';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import { sleep, type Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Inventory } from '../../model/machine.js';
import { inventoryOf, type NodeFacts, type SystemFacts } from './inventory-facts.js';

const run = promisify(execFile);

const COLLECT_EVERY_MS = 6 * 3_600_000;
const COLLECT_TIMEOUT_MS = 60_000;
const ANSWER_BYTES_MAX = 1_048_576;

/** Where systeminformation's shells find their programs, whatever the agent was started with. */
const PROGRAMS_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const answerSchema = z.object({
  os: z.object({ distro: z.string(), release: z.string(), kernel: z.string(), arch: z.string() }),
  cpu: z.object({ manufacturer: z.string(), brand: z.string() }),
  disks: z.array(z.object({ mount: z.string(), type: z.string(), size: z.number(), used: z.number() })),
}) satisfies z.ZodType<SystemFacts>;

/** Asks a child process. @throws when it fails, says nothing of use, or takes longer than COLLECT_TIMEOUT_MS */
export type AskSystem = (signal: AbortSignal) => Promise<SystemFacts>;

export const askSystem: AskSystem = async (signal) => {
  const self = fileURLToPath(import.meta.url);
  const child = fileURLToPath(new URL(`./inventory-child${extname(self)}`, import.meta.url));
  const options = {
    signal,
    timeout: COLLECT_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: ANSWER_BYTES_MAX,
    env: { PATH: PROGRAMS_PATH, LC_ALL: 'C' },
  } as const;
  const { stdout } = await run(process.execPath, [...process.execArgv, child], options);
  return answerSchema.parse(JSON.parse(stdout));
};

export interface InventoryParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ask?: AskSystem;
}

/** What this machine is: collected at the start and every six hours, in a process of its own. */
export class InventoryKeeper {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #ask: AskSystem;
  readonly #listeners = new Set<(inventory: Inventory) => void>();
  #latest: Inventory | undefined;

  constructor({ clock, logger, ask = askSystem }: InventoryParts) {
    this.#clock = clock;
    this.#logger = logger;
    this.#ask = ask;
  }

  /** Undefined until the first is collected, some seconds after run() began. */
  get latest(): Inventory | undefined {
    return this.#latest;
  }

  /** Calls `listener` after each collection. Returns how to stop. */
  onCollected(listener: (inventory: Inventory) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** A task: collects until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#collect(signal);
      await sleep(this.#clock, COLLECT_EVERY_MS, signal).catch(() => undefined);
    }
  }

  async #collect(signal: AbortSignal): Promise<void> {
    const system = await this.#askOrExplain(signal);
    if (signal.aborted) return;
    const inventory = inventoryOf(nodeFacts(), system, this.#clock.now());
    this.#latest = inventory;
    for (const listener of this.#listeners) listener(inventory);
  }

  async #askOrExplain(signal: AbortSignal): Promise<SystemFacts | undefined> {
    try {
      return await this.#ask(signal);
    } catch (error) {
      if (!signal.aborted) {
        this.#logger.warn('the inventory of this machine is incomplete: its system could not be asked', {
          error: messageOf(error),
        });
      }
      return undefined;
    }
  }
}

function nodeFacts(): NodeFacts {
  const processors = cpus();
  return {
    hostname: hostname(),
    platform: type(),
    kernel: release(),
    architecture: arch(),
    cpuModel: processors[0]?.model ?? '',
    cores: processors.length,
    memoryBytes: totalmem(),
    interfaces: networkInterfaces(),
  };
}
