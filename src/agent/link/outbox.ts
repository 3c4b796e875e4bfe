import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../kit/clock.js';
import { CoalescingQueue } from '../../kit/coalescing.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { InstanceReport } from '../../model/instance.js';
import type { Inventory } from '../../model/machine.js';
import type { CommandStatus } from '../commands/journal.js';
import type { CommandRunner } from '../commands/runner.js';
import type { ServiceControl } from '../ports.js';
import {
  appliedFrame,
  commandFrame,
  type ConfigRevisions,
  fullReportEndFrame,
  inventoryFrame,
  instanceFrame,
  removedFrame,
  type UpFrame,
} from './frames.js';
import { isNews } from './news.js';

/** Made when it is its turn, so that it says what holds then; undefined: nothing to say any more. */
export type MakeFrame = () => UpFrame | undefined;

/** What the session tells of; every part is asked again when its frame is sent. */
export interface OutboxSources {
  readonly control: Pick<ServiceControl, 'list' | 'get' | 'onChange'>;
  readonly commands: Pick<CommandRunner, 'onUpdate' | 'pending'>;
  readonly config: { of(service: string): ConfigRevisions; onChange(listener: (service: string) => void): () => void };
  readonly inventory: {
    readonly latest: Inventory | undefined;
    onCollected(listener: (inventory: Inventory) => void): () => void;
  };
  readonly clock: Clock;
}

/** Frames of different keys that may wait: services, commands and a few more. Beyond it the session ends and a new one says all afresh. */
export const FRAMES_WAITING_MAX = 4000;

/** How often, at most, an instance is told of for the course of its checks alone. */
export const REFRESH_INTERVAL_MS = 60_000;

interface Told {
  readonly report: InstanceReport;
  readonly atMonotonicMs: number;
}

/**
 * What a session has yet to tell the center: one frame per service, command, assignment and kind of report, so that a slow connection
 * gets the newest of each and memory is bounded. Lives as long as its session.
 */
export class Outbox {
  readonly #queue = new CoalescingQueue<MakeFrame>(FRAMES_WAITING_MAX);
  readonly #sources: OutboxSources;
  readonly #unsubscribe: readonly (() => void)[];
  /** What the center heard last of each service, in this session. */
  readonly #told = new Map<string, Told>();
  /** Services that changed without news since they were told. */
  readonly #stale = new Set<string>();
  /** Until the first full report: every instance was put into the queue when it began. */
  #beginning = true;

  /** Begins with the inventory, every instance, and how far commands are: some may have ended since the hello was made. */
  constructor(sources: OutboxSources) {
    this.#sources = sources;
    const { control, commands, config, inventory } = sources;
    this.#unsubscribe = [
      control.onChange(({ service, report }) => {
        this.#changed(service, report);
      }),
      config.onChange((service) => {
        this.#tellInstance(service);
      }),
      commands.onUpdate((status) => {
        this.#tellCommand(status);
      }),
      inventory.onCollected(() => {
        this.#tellInventory();
      }),
    ];
    this.#tellInventory();
    for (const { service } of control.list()) this.#tellInstance(service);
    this.#tellCommands();
  }

  /** Frames in order, until close(). @throws exhausted when more waits than FRAMES_WAITING_MAX */
  [Symbol.asyncIterator](): AsyncIterator<MakeFrame> {
    return this.#queue[Symbol.asyncIterator]();
  }

  /** Every instance, and then the mark that these are all; and how far commands are. What the session began with is not repeated. */
  tellAll(): void {
    this.#tellCommands();
    if (!this.#beginning) for (const { service } of this.#sources.control.list()) this.#tellInstance(service);
    this.#beginning = false;
    this.#queue.putLast('report end', fullReportEndFrame);
  }

  tellHeartbeat(frame: UpFrame): void {
    this.#put('heartbeat', () => frame);
    this.#refresh();
  }

  tellApplied(applied: Parameters<typeof appliedFrame>[0]): void {
    this.#put(`applied ${applied.service}`, () => appliedFrame(applied));
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#queue.close();
  }

  #tellCommands(): void {
    for (const status of this.#sources.commands.pending()) this.#tellCommand(status);
  }

  #tellCommand(status: CommandStatus): void {
    this.#put(`command ${status.command}`, () => commandFrame(status));
  }

  #tellInventory(): void {
    const { inventory } = this.#sources;
    this.#put('inventory', () => inventory.latest && inventoryFrame(inventory.latest));
  }

  #changed(service: string, report: InstanceReport | undefined): void {
    const told = this.#told.get(service);
    if (!told || !report || isNews(told.report, report)) this.#tellInstance(service);
    else this.#stale.add(service);
  }

  /** Tells how checks went where that was not told for long. */
  #refresh(): void {
    const { control, clock } = this.#sources;
    const dueMs = clock.monotonic() - REFRESH_INTERVAL_MS;
    for (const service of this.#stale) {
      const told = this.#told.get(service);
      if (told && told.atMonotonicMs > dueMs) continue;
      if (isDeepStrictEqual(told?.report, control.get(service))) this.#stale.delete(service);
      else this.#tellInstance(service);
    }
  }

  #tellInstance(service: string): void {
    this.#stale.delete(service);
    this.#put(`instance ${service}`, () => this.#instanceFrame(service));
  }

  #instanceFrame(service: string): UpFrame {
    const { control, config, clock } = this.#sources;
    try {
      const report = control.get(service);
      this.#told.set(service, { report, atMonotonicMs: clock.monotonic() });
      return instanceFrame(report, config.of(service));
    } catch (error) {
      if (!isCode(error, 'not_found')) throw error;
      this.#told.delete(service);
      return removedFrame(service);
    }
  }

  #put(key: string, make: MakeFrame): void {
    if (this.#queue.put(key, make)) return;
    this.#queue.close(
      new MusterError(
        'exhausted',
        `the center takes frames too slowly: more than ${FRAMES_WAITING_MAX} wait; connecting anew`,
      ),
    );
  }
}
