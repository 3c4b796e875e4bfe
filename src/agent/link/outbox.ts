import { CoalescingQueue } from '../../kit/coalescing.js';
import { isCode, MusterError } from '../../kit/errors.js';
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
}

/** Frames of different keys that may wait: services, commands and a few more. Beyond it the session ends and a new one says all afresh. */
export const FRAMES_WAITING_MAX = 4000;

/**
 * What a session has yet to tell the center: one frame per service, command, assignment and kind of report, so that a slow connection
 * gets the newest of each and memory is bounded. Lives as long as its session.
 */
export class Outbox {
  readonly #queue = new CoalescingQueue<MakeFrame>(FRAMES_WAITING_MAX);
  readonly #sources: OutboxSources;
  readonly #unsubscribe: readonly (() => void)[];

  /** Begins with the inventory, every instance, and how far commands are: some may have ended since the hello was made. */
  constructor(sources: OutboxSources) {
    this.#sources = sources;
    const { control, commands, config, inventory } = sources;
    this.#unsubscribe = [
      control.onChange(({ service }) => {
        this.#tellInstance(service);
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

  /** Every instance, and then the mark that these are all; and how far commands are. */
  tellAll(): void {
    this.#tellCommands();
    for (const { service } of this.#sources.control.list()) this.#tellInstance(service);
    this.#queue.putLast('report end', fullReportEndFrame);
  }

  tellHeartbeat(frame: UpFrame): void {
    this.#put('heartbeat', () => frame);
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

  #tellInstance(service: string): void {
    const { control, config } = this.#sources;
    this.#put(`instance ${service}`, () => {
      try {
        return instanceFrame(control.get(service), config.of(service));
      } catch (error) {
        if (isCode(error, 'not_found')) return removedFrame(service);
        throw error;
      }
    });
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
