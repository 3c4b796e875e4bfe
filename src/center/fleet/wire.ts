import type { Instance, Machine as WireMachine } from '../../../generated/muster/v1/types.js';
import { toWireInstance } from '../../wire/instance.js';
import { toWireInventory, toWireResources } from '../../wire/machine.js';
import { toDate, toDuration } from '../../wire/time.js';
import type { InstanceView } from './instances.js';
import type { Machine } from './machines.js';

export function toWireMachine(machine: Machine, instances: number): WireMachine {
  const { record, inventory, resources } = machine;
  return {
    id: record.id,
    name: record.name,
    labels: { ...record.labels },
    online: machine.online,
    lastContact: toDate(machine.lastContactMs),
    joined: toDate(record.joinedMs),
    connected: toDate(machine.connectedMs),
    agentVersion: record.agentVersion,
    bootId: record.bootId,
    sessionEpoch: record.epoch,
    address: record.address,
    inventory: inventory && toWireInventory(inventory),
    resources: resources && toWireResources(resources),
    clockSkew: machine.clockSkewMs === undefined ? undefined : toDuration(machine.clockSkewMs),
    instances,
    revision: machine.revision,
  };
}

export function toWireInstanceView(view: InstanceView, machine: Machine | undefined): Instance {
  return {
    ...toWireInstance(view.report),
    machine: view.machine,
    machineName: machine?.record.name ?? '',
    labels: { ...machine?.record.labels },
    configRevision: view.configHeld,
    configApplied: view.configApplied,
    unknownSince: toDate(view.unknownSinceMs),
  };
}
