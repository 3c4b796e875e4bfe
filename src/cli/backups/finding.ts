import { ListBackupsRequest, type CenterService } from '../../../generated/muster/v1/center.js';
import type { Backup } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../kit/errors.js';
import { didYouMean } from '../../kit/suggest.js';
import type { Client } from '../../rpc/types.js';
import { allPages } from '../paging.js';

/** Which backup is meant, and where it is. */

type Center = Pick<Client<typeof CenterService>, 'listBackups'>;

/** Named in one message. */
const NAMED_MAX = 5;

export function listBackups(center: Center, service: string, on: string | undefined): Promise<Backup[]> {
  return allPages(
    (page) => center.listBackups({ ...ListBackupsRequest.create(), ...page, service, selector: on ?? '' }),
    (page) => page.backups,
  );
}

/** What is to be read back: the id, empty for the latest, and the machines, empty for all that have one. */
export interface Found {
  readonly backup: string;
  readonly selector: string;
}

export interface Wanted {
  readonly service: string;
  /** As typed, maybe only its beginning; undefined: the latest. */
  readonly id: string | undefined;
  readonly on: string | undefined;
}

function some(names: readonly string[]): string {
  const more = names.length > NAMED_MAX ? `, and ${names.length - NAMED_MAX} more` : '';
  return `${names.slice(0, NAMED_MAX).join(', ')}${more}`;
}

function none({ service, on }: Wanted): MusterError {
  const where = on === undefined ? '' : ` on a machine that matches "${on}"`;
  return new MusterError(
    'not_found',
    `no backup of ${service}${where} is known: "muster backup ls" lists all, "muster backup now ${service}" makes one`,
  );
}

function ambiguous(typed: string, found: readonly Backup[]): MusterError {
  const [first] = found;
  const same = found.every(({ id }) => id === first?.id);
  const message = same
    ? `the backup ${first?.id ?? ''} is on ${found.length} machines: say on which, with --on machine=NAME (${some(found.map(({ machineName }) => machineName))})`
    : `"${typed}" is the beginning of ${found.length} backups: ${some(found.map(({ id, machineName }) => `${id} on ${machineName}`))}. Type more of the id.`;
  return new MusterError('invalid', message, { reason: 'AMBIGUOUS' });
}

function oneOf(typed: string, backups: readonly Backup[]): Found {
  const exact = backups.filter(({ id }) => id === typed);
  const found = exact.length > 0 ? exact : backups.filter(({ id }) => id.startsWith(typed));
  const [only, ...others] = typed === '' ? [] : found;
  if (only === undefined) {
    const near = didYouMean(
      typed,
      backups.map(({ id }) => id),
    );
    throw new MusterError('not_found', `there is no backup "${typed}".${near} "muster backup ls" lists them.`);
  }
  if (others.length > 0) throw ambiguous(typed, found);
  return { backup: only.id, selector: `machine=${only.machineName}` };
}

function isMeant(id: string, { id: typed = '' }: Wanted): boolean {
  return typed !== '' && id.startsWith(typed);
}

/** @throws not_found where the backup is on other machines than those that were named */
async function checkElsewhere(center: Center, wanted: Wanted): Promise<void> {
  const all = await listBackups(center, wanted.service, undefined);
  const machines = new Set(all.filter(({ id }) => isMeant(id, wanted)).map(({ machineName }) => machineName));
  if (machines.size === 0) return;
  throw new MusterError(
    'not_found',
    `the backup "${wanted.id ?? ''}" is on ${some([...machines])}, not on a machine that matches "${wanted.on ?? ''}"`,
  );
}

/**
 * The backup that is meant, and the machines that have it.
 * @throws not_found naming the nearest; invalid when an id may be several
 */
export async function findBackup(center: Center, wanted: Wanted): Promise<Found> {
  const backups = await listBackups(center, wanted.service, wanted.on);
  if (backups.length === 0) throw none(wanted);
  if (wanted.id !== undefined) {
    if (wanted.on !== undefined && !backups.some(({ id }) => isMeant(id, wanted))) await checkElsewhere(center, wanted);
    return oneOf(wanted.id, backups);
  }
  return { backup: '', selector: wanted.on ?? '' };
}

/**
 * As findBackup, for what changes files: never on several machines unless they were named.
 * @throws invalid (wrong usage) naming the machines
 */
export async function findBackupToRestore(center: Center, wanted: Wanted): Promise<Found> {
  const found = await findBackup(center, wanted);
  if (found.selector !== '') return found;
  const machines = [...new Set((await listBackups(center, wanted.service, undefined)).map((one) => one.machineName))];
  if (machines.length === 1) return { ...found, selector: `machine=${machines[0] ?? ''}` };
  throw new MusterError(
    'invalid',
    `${machines.length} machines have backups of ${wanted.service}: say where to restore, with --on machine=NAME (${some(machines)})`,
    { reason: 'USAGE' },
  );
}
