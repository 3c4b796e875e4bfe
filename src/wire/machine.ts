import type { Inventory as WireInventory, Resources as WireResources } from '../../generated/muster/v1/types.js';
import type { Inventory, Resources } from '../model/machine.js';
import { fromDate, fromDuration, toDate, toDuration } from './time.js';

/** Inventory and resources, between the contracts and the domain. Center and agent both speak them. */

export function toWireInventory(inventory: Inventory): WireInventory {
  const { collectedMs, disks, interfaces, ...same } = inventory;
  return {
    ...same,
    disks: disks.map((disk) => ({ ...disk })),
    interfaces: interfaces.map((one) => ({ ...one, addresses: [...one.addresses] })),
    collected: toDate(collectedMs),
  };
}

export function fromWireInventory(wire: WireInventory): Inventory {
  const { collected, ...same } = wire;
  return { ...same, collectedMs: fromDate(collected) ?? 0 };
}

export function toWireResources(resources: Resources): WireResources {
  const { uptimeMs, ...same } = resources;
  return { ...same, uptime: toDuration(uptimeMs) };
}

export function fromWireResources(wire: WireResources): Resources {
  const { uptime, ...same } = wire;
  return { ...same, uptimeMs: fromDuration(uptime) ?? 0 };
}
