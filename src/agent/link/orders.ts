import type { CommandOrder } from '../../../generated/muster/v1/center.js';
import type { Logger } from '../../kit/logger.js';
import { fromWireBackupOrder } from '../../wire/backup.js';
import { fromWireCommandKind } from '../../wire/instance.js';
import { fromWireSearch } from '../../wire/log-search.js';
import { fromWireDeployOrder, fromWireRollbackOrder } from '../../wire/release.js';
import { fromDuration } from '../../wire/time.js';
import type { CommandRunner } from '../commands/runner.js';
import type { Assignments } from './assignments.js';
import type { Outbox } from './outbox.js';
import type { OrderFrame } from './session.js';
import type { Tails } from './tails.js';

export interface OrdersOptions {
  readonly assignments: Assignments;
  readonly commands: CommandRunner;
  readonly tails: Tails;
  readonly logger: Logger;
}

/** For an order that does not say how long it may wait. */
const EXPIRES_DEFAULT_MS = 60_000;

/** Takes the center's frames to the parts that carry them out. */
export class Orders {
  readonly #options: OrdersOptions;

  constructor(options: OrdersOptions) {
    this.#options = options;
  }

  /** The next frame is taken when this resolves: for an assignment, when it is durable. */
  async take(frame: OrderFrame, outbox: Outbox): Promise<void> {
    const { assignments, commands, tails, logger } = this.#options;
    switch (frame.$case) {
      case 'assignment':
        await assignments.apply(frame.value, (applied) => {
          outbox.tellApplied(applied);
        });
        return;
      case 'command':
        this.#command(frame.value);
        return;
      case 'cancel':
        if (!tails.cancel(frame.value.command)) commands.cancel(frame.value.command);
        return;
      case 'commandAck':
        commands.acknowledge(frame.value.command);
        return;
      case 'reportFull':
        outbox.tellAll();
        return;
      case 'notice':
        logger.warn(frame.value.message, { reason: frame.value.reason });
        return;
      default:
        logger.debug('the center sent a frame of a newer version');
    }
  }

  #command(order: CommandOrder): void {
    const { commands, tails } = this.#options;
    if (order.tail) {
      tails.start(order);
      return;
    }
    commands.offer({
      command: order.command,
      action: fromWireCommandKind(order.action),
      service: order.service,
      search: () => fromWireSearch(order.search),
      deploy: () => fromWireDeployOrder(order.deploy),
      rollback: () => fromWireRollbackOrder(order.rollback),
      backup: () => fromWireBackupOrder(order.backup),
      expiresInMs: fromDuration(order.expiresIn) ?? EXPIRES_DEFAULT_MS,
    });
  }
}
