import { messageOf, MusterError } from '../../kit/errors.js';
import type { CommandEnd } from '../commands/lifecycle.js';
import type { CommandOrder, Performer, Tell } from '../commands/runner.js';
import type { Deploy, DeployEnd } from './deploy.js';
import type { Deploys, Heard } from './deploys.js';
import { reportOf } from './report.js';

/** Never settles: the process ends, and the next one goes on with the command. */
const never = new Promise<never>(() => undefined);

/** Deploys and rollbacks as commands. */
export class DeployPerformer implements Performer {
  readonly #deploys: Deploys;

  constructor(deploys: Deploys) {
    this.#deploys = deploys;
  }

  async perform(order: CommandOrder, tell: Tell): Promise<CommandEnd> {
    return this.#end(this.#begin(order, telling(tell)));
  }

  /** Also one that left no entry: then it is known that nothing happened. */
  holds(): boolean {
    return true;
  }

  async resume(command: string, tell: Tell): Promise<CommandEnd> {
    return this.#end(this.#deploys.resume(command, telling(tell)));
  }

  async #begin(order: CommandOrder, heard: Heard): Promise<DeployEnd> {
    if (order.action === 'DEPLOY' && order.deploy) {
      const deploy = order.deploy();
      if (deploy.release.service !== order.service) {
        throw new MusterError('invalid', `the order is for ${order.service}, its release of ${deploy.release.service}`);
      }
      return this.#deploys.deploy(order.command, deploy, heard);
    }
    if (order.action === 'ROLLBACK' && order.rollback) {
      return this.#deploys.rollBack(order.command, order.service, order.rollback(), heard);
    }
    throw new MusterError('invalid', 'the order does not say what to deploy');
  }

  async #end(work: Promise<DeployEnd>): Promise<CommandEnd> {
    try {
      const { outcome, message, report, exitCode, output } = await work;
      return {
        outcome,
        message,
        result: {
          deploy: report,
          ...(exitCode === undefined ? {} : { exitCode }),
          ...(output === undefined ? {} : { output }),
        },
      };
    } catch (error) {
      if (this.#deploys.closing) return never;
      throw error instanceof MusterError ? error : new MusterError('internal', messageOf(error), { cause: error });
    }
  }
}

function telling(tell: Tell): Heard {
  return (deploy: Deploy) => {
    tell({ deploy: reportOf(deploy) });
  };
}
