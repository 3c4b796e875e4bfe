import type {
  BackupPlan as WirePlan,
  CenterService,
  FetchBackupResponse,
  UploadBackupRequest,
} from '../../../generated/muster/v1/center.js';
import { Backup as WireBackup } from '../../../generated/muster/v1/types.js';
import { withTimeout, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { pageOf } from '../../model/paging.js';
import { matches, parseSelector, requireKnown } from '../../model/selector.js';
import { untilAborted } from '../../rpc/streams.js';
import type { Handlers } from '../../rpc/types.js';
import { fromWireBackup, toWireBackup } from '../../wire/backup.js';
import { fromDate, toDate } from '../../wire/time.js';
import type { Directory } from '../fleet/directory.js';
import type { Machines } from '../fleet/machines.js';
import { unknownService } from '../fleet/unknown.js';
import { callingMachine } from '../principals.js';
import { assertBackupId, type BackupRecord, type Backups, type PlanRecord } from './backups.js';
import type { BackupCopies } from './copies.js';

type BackupHandlers = Pick<
  Handlers<typeof CenterService>,
  'reportBackups' | 'uploadBackup' | 'fetchBackup' | 'listBackups' | 'getBackup' | 'listBackupPlans'
>;

export interface BackupParts {
  readonly backups: Backups;
  readonly copies: BackupCopies;
  readonly machines: Machines;
  readonly directory: Directory;
  readonly clock: Clock;
}

/** An upload that sends nothing for so long is ended. */
const UPLOAD_SILENCE_MS = 60_000;
/** Digits of a time in a page token, so that text order is time order. */
const TIME_DIGITS = 15;
const DIGEST = /^[0-9a-f]{64}$/;
const PLAN_CHARACTERS_MAX = 200;

/** The inventory of backups, and the center's copies of them. */
export function backupHandlers(parts: BackupParts): BackupHandlers {
  return { ...agentHandlers(parts), ...operatorHandlers(parts) };
}

/** The caller's certificate says whose backups these are. */
function agentHandlers({
  backups,
  copies,
  clock,
}: BackupParts): Pick<BackupHandlers, 'reportBackups' | 'uploadBackup' | 'fetchBackup'> {
  return {
    reportBackups: async ({ full, removed, removedPlans, ...request }, { principal }) => {
      await backups.report(callingMachine(principal), {
        full,
        removed,
        removedPlans,
        backups: request.backups.map(fromWireBackup),
        plans: request.plans.map(fromWirePlan),
      });
      return {};
    },
    uploadBackup: async (requests, { principal, signal }) => {
      const machine = callingMachine(principal);
      const frames = requests[Symbol.asyncIterator]();
      const next = (): Promise<IteratorResult<UploadBackupRequest>> => soon(frames, { clock, signal });
      const first = await next();
      if (first.done)
        throw new MusterError('invalid', 'the first message must name the backup', { reason: 'BACKUP_ID' });
      const { backup, digest, sizeBytes } = first.value;
      assertBackupId(backup);
      assertDigest(digest, backups.get(machine, backup));
      await copies.receive({ machine, backup, digest, sizeBytes }, chunksOf(first.value, next));
      return {};
    },
    fetchBackup: async function* ({ backup, offset }, { principal }): AsyncGenerator<FetchBackupResponse> {
      assertBackupId(backup);
      yield* copies.read(callingMachine(principal), backup, offset);
    },
  };
}

function operatorHandlers(parts: BackupParts): Pick<BackupHandlers, 'listBackups' | 'getBackup' | 'listBackupPlans'> {
  const { backups, machines, directory } = parts;
  const nameOf = (machine: string): string => directory.findMachine(machine)?.name ?? '';
  const toWire = ({ machine, backup }: BackupRecord): WireBackup => ({
    ...toWireBackup(backup),
    machine,
    machineName: nameOf(machine),
  });
  return {
    listBackups: ({ service, selector, pageSize, pageToken }) => {
      const wanted = selectedBackups(parts, { service, selector });
      const page = pageOf(
        wanted,
        { size: pageSize, token: pageToken },
        {
          keyOf: ({ machine, backup }) => `${timeKey(backup.startedMs)} ${machine}/${backup.id}`,
          reverse: true,
          weightOf: (record) => WireBackup.encode(toWire(record)).finish().length,
        },
      );
      return Promise.resolve({ backups: page.items.map(toWire), nextPageToken: page.nextToken });
    },
    getBackup: ({ machine: idOrName, backup }) => {
      const { id, name } = directory.machine(idOrName);
      const record = backups.get(id, backup);
      if (record) return Promise.resolve(toWire(record));
      const message = `machine ${name} has no backup "${backup}". See "muster backup ls" for those there are`;
      throw new MusterError('not_found', message, { reason: 'BACKUP_UNKNOWN' });
    },
    listBackupPlans: () => {
      const judged = new Map(machines.ids().map((id) => [id, backups.judge(id)]));
      const plans = backups.plans().map(({ machine, plan }: PlanRecord): WirePlan => {
        const facts = judged.get(machine)?.find((one) => one.service === plan.service);
        return {
          service: plan.service,
          schedule: plan.schedule,
          timeZone: plan.timeZone,
          nextDue: toDate(plan.nextDueMs),
          machine,
          machineName: nameOf(machine),
          lastGood: toDate(facts?.lastGood?.startedMs),
          lateSince: toDate(facts?.late?.dueMs),
        };
      });
      return Promise.resolve({ plans: plans.sort(byServiceAndMachine) });
    },
  };
}

/** @throws not_found for a service that nothing is called by, invalid for a selector that is none */
function selectedBackups(
  { backups, machines, directory }: BackupParts,
  { service, selector: text }: { readonly service: string; readonly selector: string },
): BackupRecord[] {
  const known = new Set([...backups.serviceNames(), ...directory.serviceNames()]);
  if (service !== '' && !known.has(service)) throw unknownService(service, [...known].sort());
  const selector = parseSelector(text);
  requireKnown(selector, machines.records());
  return backups.list().filter(({ machine, backup }) => {
    const record = machines.get(machine)?.record;
    return record !== undefined && (service === '' || backup.service === service) && matches(selector, record);
  });
}

function byServiceAndMachine(a: WirePlan, b: WirePlan): number {
  return a.service.localeCompare(b.service) || a.machineName.localeCompare(b.machineName);
}

function timeKey(ms: number): string {
  return String(Math.max(0, Math.trunc(ms))).padStart(TIME_DIGITS, '0');
}

function fromWirePlan({ service, schedule, timeZone, nextDue }: WirePlan): PlanRecord['plan'] {
  return {
    service,
    schedule: schedule.slice(0, PLAN_CHARACTERS_MAX),
    timeZone: timeZone.slice(0, PLAN_CHARACTERS_MAX),
    nextDueMs: fromDate(nextDue),
  };
}

/** @throws invalid, conflict when the machine itself says another */
function assertDigest(digest: string, record: BackupRecord | undefined): void {
  if (!DIGEST.test(digest)) {
    throw new MusterError('invalid', 'digest must be a SHA-256 of 64 hexadecimal digits in lower case', {
      reason: 'DIGEST',
    });
  }
  const said = record?.backup.digest ?? '';
  if (said === '' || said === digest) return;
  throw new MusterError(
    'conflict',
    `backup ${record?.backup.id ?? ''} has another digest: send the archive that was reported`,
    {
      reason: 'DIGEST',
    },
  );
}

/** The next message of an upload. @throws deadline after silence; the signal's reason */
function soon(
  frames: AsyncIterator<UploadBackupRequest>,
  { clock, signal: parent }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<IteratorResult<UploadBackupRequest>> {
  const reason = (): Error =>
    new MusterError('deadline', 'nothing came for a minute: send the copy again', { reason: 'UPLOAD_SILENT' });
  return withTimeout(clock, { timeoutMs: UPLOAD_SILENCE_MS, reason, parent }, (signal) =>
    untilAborted(frames.next(), signal),
  );
}

/** The bytes of an upload, each message asked for once the one before was taken. @throws as `next` */
async function* chunksOf(
  first: UploadBackupRequest,
  next: () => Promise<IteratorResult<UploadBackupRequest>>,
): AsyncGenerator<Uint8Array> {
  let message: IteratorResult<UploadBackupRequest> = { done: false, value: first };
  while (!message.done) {
    if (message.value.data.length > 0) yield message.value.data;
    message = await next();
  }
}
