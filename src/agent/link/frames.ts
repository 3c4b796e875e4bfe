import type {
  Applied,
  ConnectRequest,
  Hello,
  InstanceState,
  CommandUpdate,
} from '../../../generated/muster/v1/center.js';
import { Instance } from '../../../generated/muster/v1/types.js';
import type { InstanceReport } from '../../model/instance.js';
import type { Inventory, Resources } from '../../model/machine.js';
import { toWireAction, toWireInstance, toWireOutcome } from '../../wire/instance.js';
import { toWireResult } from '../../wire/command-result.js';
import { toWireInventory, toWireResources } from '../../wire/machine.js';
import { toDate } from '../../wire/time.js';
import type { CommandStatus } from '../commands/journal.js';

/** What an agent says on Connect, made of what it knows. */
export type UpFrame = Exclude<ConnectRequest['frame'], undefined>;

/** What is known of a service's configuration on this machine. */
export interface ConfigRevisions {
  /** Revision on this machine's disk; 0 where there is none. */
  readonly held: number;
  /** Revision the service last said it runs with; 0 where it has not. */
  readonly applied: number;
}

export interface HelloFacts {
  readonly bootId: string;
  readonly processId: string;
  readonly epoch: number;
  readonly version: string;
  readonly name: string;
  readonly nowMs: number;
  readonly services: readonly InstanceReport[];
  readonly generations: ReadonlyMap<string, number>;
  readonly commands: readonly CommandStatus[];
  readonly config: (service: string) => ConfigRevisions;
}

const CAPABILITIES: readonly string[] = ['tail', 'search', 'deploy', 'backup'];

export function helloFrame(facts: HelloFacts): UpFrame {
  const services = new Set([...facts.services.map(({ service }) => service), ...facts.generations.keys()]);
  const hello: Hello = {
    bootId: facts.bootId,
    sessionEpoch: facts.epoch,
    agentVersion: facts.version,
    capabilities: [...CAPABILITIES],
    held: [...services].map((service) => ({
      service,
      generation: facts.generations.get(service) ?? 0,
      configRevision: facts.config(service).held,
    })),
    commands: facts.commands.map(toWireUpdate),
    now: new Date(facts.nowMs),
    name: facts.name,
    processId: facts.processId,
  };
  return { $case: 'hello', value: hello };
}

export function heartbeatFrame(resources: Resources, nowMs: number): UpFrame {
  return { $case: 'heartbeat', value: { resources: toWireResources(resources), now: new Date(nowMs) } };
}

export function inventoryFrame(inventory: Inventory): UpFrame {
  return { $case: 'inventory', value: toWireInventory(inventory) };
}

export function instanceFrame(report: InstanceReport, config: ConfigRevisions): UpFrame {
  const instance = { ...toWireInstance(report), configRevision: config.held, configApplied: config.applied };
  return stateFrame({ instance, removed: false, fullReportEnd: false });
}

export function removedFrame(service: string): UpFrame {
  return stateFrame({ instance: Instance.create({ service }), removed: true, fullReportEnd: false });
}

export function fullReportEndFrame(): UpFrame {
  return stateFrame({ instance: undefined, removed: false, fullReportEnd: true });
}

export function commandFrame(status: CommandStatus): UpFrame {
  return { $case: 'commandUpdate', value: toWireUpdate(status) };
}

export function appliedFrame(applied: Applied): UpFrame {
  return { $case: 'applied', value: applied };
}

export function goodbyeFrame(reason: string): UpFrame {
  return { $case: 'goodbye', value: { reason } };
}

function stateFrame(value: InstanceState): UpFrame {
  return { $case: 'instanceState', value };
}

function toWireUpdate(status: CommandStatus): CommandUpdate {
  return {
    command: status.command,
    outcome: toWireOutcome(status.outcome),
    message: status.message,
    started: toDate(status.startedMs),
    ended: toDate(status.endedMs),
    action: status.action === undefined ? 'ACTION_UNSPECIFIED' : toWireAction(status.action),
    service: status.service,
    ...toWireResult(status.result),
  };
}
