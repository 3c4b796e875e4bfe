import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CenterService, Command, Operation, type OperationState } from '../../generated/muster/v1/center.js';
import type { Outcome } from '../../generated/muster/v1/types.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { implement, RpcServer } from '../../src/rpc/server.js';
import type { Handlers } from '../../src/rpc/types.js';
import { runCli } from '../../src/cli/program.js';
import { fakeIo, type FakeIo, type FakeIoOptions } from './io.js';
import { temporaryDirectory } from './rpc.js';

export type CenterHandlers = Handlers<typeof CenterService>;

/** What a command line did. */
export interface Ran {
  readonly status: number;
  readonly io: FakeIo;
}

/** A center that answers operators as the test says, over real gRPC; it may end and come back at the same place. */
export class ScriptedCenter {
  readonly socket: string;
  readonly home: string;
  /** May be changed meanwhile. */
  handlers: Partial<CenterHandlers>;
  #server: RpcServer | undefined;

  private constructor(home: string, handlers: Partial<CenterHandlers>) {
    this.home = home;
    this.socket = join(home, 'admin.sock');
    this.handlers = handlers;
  }

  static async start(t: TestContext, handlers: Partial<CenterHandlers> = {}): Promise<ScriptedCenter> {
    const center = new ScriptedCenter(await temporaryDirectory(t), handlers);
    t.after(() => center.stop());
    await center.start();
    return center;
  }

  async start(): Promise<void> {
    const server = new RpcServer({
      services: [implement(CenterService, this.#dispatching())],
      authorize: () => undefined,
      logger: silentLogger,
    });
    this.#server = server;
    await server.listen({ kind: 'unix', path: this.socket, principal: { kind: 'operator', name: 'tester' } });
  }

  /** Ends every call at once. */
  async stop(): Promise<void> {
    await this.#server?.drain(0);
    this.#server = undefined;
  }

  /** Runs a command line on this center. */
  async run(argv: readonly string[], options: Partial<FakeIoOptions> = {}): Promise<Ran> {
    const { io, done } = this.begin(argv, options);
    return { io, status: await done };
  }

  /** As run, for a command that is looked at meanwhile. */
  begin(argv: readonly string[], options: Partial<FakeIoOptions> = {}): { io: FakeIo; done: Promise<number> } {
    const io = fakeIo({ home: this.home, ...options });
    return { io, done: runCli(['--socket', this.socket, ...argv], io) };
  }

  /** Every method, as the handlers of the moment have it. */
  #dispatching(): CenterHandlers {
    const methods = Object.keys(CenterService) as (keyof CenterHandlers)[];
    const call =
      (name: keyof CenterHandlers) =>
      (...args: unknown[]): unknown => {
        const handler = this.handlers[name] as ((...args: unknown[]) => unknown) | undefined;
        if (handler === undefined) throw new MusterError('unimplemented', `the test has no ${name}`);
        return handler(...args);
      };
    return Object.fromEntries(methods.map((name) => [name, call(name)])) as Partial<CenterHandlers> as CenterHandlers;
  }
}

export const OPERATION = 'o-7f3kq0x9w2c4hd8t';
export const STARTED = new Date('2026-11-23T14:02:00Z');

export function operation(state: OperationState, fields: Parameters<typeof Operation.fromPartial>[0] = {}): Operation {
  return Operation.fromPartial({
    id: OPERATION,
    action: 'ACTION_RESTART',
    service: 'orders',
    created: STARTED,
    started: STARTED,
    createdBy: 'operator:ada',
    state,
    ...fields,
  });
}

/** The target of that turn: `web-1` for the first. */
export function target(
  position: number,
  outcome: Outcome,
  fields: Parameters<typeof Command.fromPartial>[0] = {},
): Command {
  return Command.fromPartial({
    id: `c-${position}`,
    operation: OPERATION,
    service: 'orders',
    action: 'ACTION_RESTART',
    machine: `m-${position + 1}`,
    machineName: `web-${position + 1}`,
    position,
    outcome,
    ...fields,
  });
}
