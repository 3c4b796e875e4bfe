import type { BackupPlan, CenterService } from '../../../generated/muster/v1/center.js';
import { isCode } from '../../kit/errors.js';
import type { Client } from '../../rpc/types.js';
import { clockTime } from '../output.js';

/** Backups that should have been made and were not. */

/** The plans of a service, or of all where it is empty; none where the center is older than plans. */
export async function listPlans(
  center: Pick<Client<typeof CenterService>, 'listBackupPlans'>,
  service = '',
): Promise<BackupPlan[]> {
  try {
    const { plans } = await center.listBackupPlans({});
    return plans.filter((plan) => service === '' || plan.service === service);
  } catch (error) {
    if (isCode(error, 'unimplemented')) return [];
    throw error;
  }
}

export function latePlans(plans: readonly BackupPlan[]): BackupPlan[] {
  return plans.filter(({ lateSince }) => lateSince !== undefined);
}

/** `orders on web-2: late since 03:00:00, the last good one is of 2026-11-21 03:00`. */
export function lateText({ service, machineName, lateSince, lastGood }: BackupPlan, nowMs: number): string {
  const last =
    lastGood === undefined ? 'there is no good one' : `the last good one is of ${clockTime(lastGood, nowMs)}`;
  return `${service} on ${machineName}: late since ${clockTime(lateSince, nowMs)}, ${last}`;
}
