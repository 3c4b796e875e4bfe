import { open, type FileHandle } from 'node:fs/promises';
import {
  CenterService,
  type BackupPlan as WirePlan,
  type UploadBackupRequest,
} from '../../../generated/muster/v1/center.js';
import { isCode, MusterError } from '../../kit/errors.js';
import type { Backup, BackupPlan, BackupNews } from '../../model/backup.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { toWireBackup } from '../../wire/backup.js';
import { toDate } from '../../wire/time.js';
import type { CopyPlace } from './ports.js';
import type { BackupRecord } from './records.js';

/** What backups and the center say to each other. */

const CHUNK_BYTES = 256 * 1024;
/** A download that breaks off is gone on with so often. */
const FETCH_TRIES = 5;
const COPY = 'center';

/** Copies that the center keeps. It lets go of them by itself once it hears that a backup is gone. */
export class CenterCopies implements CopyPlace {
  readonly kind = 'center';
  readonly #channel: () => Channel | undefined;

  constructor(channel: () => Channel | undefined) {
    this.#channel = channel;
  }

  has(copy: string): boolean {
    return copy === COPY;
  }

  async store({ backup }: BackupRecord, archive: string, signal: AbortSignal): Promise<string> {
    const client = createClient(CenterService, joined(this.#channel()));
    await client.uploadBackup(piecesOf(backup, archive), { signal });
    return COPY;
  }

  async fetch({ backup }: BackupRecord, into: string, signal: AbortSignal): Promise<void> {
    const file = await open(into, 'wx', 0o600);
    try {
      let offset = 0;
      for (let tries = 1; offset >= 0; tries += 1) {
        offset = await this.#fetchFrom(backup, { file, offset, last: tries >= FETCH_TRIES }, signal);
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Where to go on, or -1 when all of it is there. @throws the failure of the call, unless it may be gone on with */
  async #fetchFrom(
    { service, id }: Backup,
    { file, offset, last }: { readonly file: FileHandle; readonly offset: number; readonly last: boolean },
    signal: AbortSignal,
  ): Promise<number> {
    const client = createClient(CenterService, joined(this.#channel()));
    let at = offset;
    try {
      for await (const { data } of client.fetchBackup({ service, backup: id, offset }, { signal })) {
        at += (await file.write(data, 0, data.length, at)).bytesWritten;
      }
      return -1;
    } catch (error) {
      if (signal.aborted || last || !isCode(error, 'unavailable')) throw error;
      return at;
    }
  }

  remove(): Promise<void> {
    return Promise.resolve();
  }
}

/** Read as they are sent: a center that takes them slowly holds the reading back. */
async function* piecesOf({ service, id, digest, bytes }: Backup, archive: string): AsyncGenerator<UploadBackupRequest> {
  yield { service, backup: id, digest, sizeBytes: bytes, data: Buffer.alloc(0) };
  const file = await open(archive, 'r');
  try {
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(CHUNK_BYTES), 0, CHUNK_BYTES);
      if (bytesRead === 0) return;
      yield { service: '', backup: '', digest: '', sizeBytes: 0, data: buffer.subarray(0, bytesRead) };
    }
  } finally {
    await file.close();
  }
}

/** Tells the center of backups and plans. @throws the failure of the call */
export async function reportBackups(
  channel: Channel | undefined,
  news: BackupNews,
  signal: AbortSignal,
): Promise<void> {
  const { full, backups, removed, plans, removedPlans } = news;
  await createClient(CenterService, joined(channel)).reportBackups(
    {
      full,
      backups: backups.map(toWireBackup),
      removed: [...removed],
      plans: plans.map(toWirePlan),
      removedPlans: [...removedPlans],
    },
    { signal },
  );
}

/** Without what the center finds by itself. */
function toWirePlan({ service, schedule, timeZone, nextDueMs }: BackupPlan): WirePlan {
  return {
    service,
    schedule,
    timeZone,
    nextDue: toDate(nextDueMs),
    machine: '',
    machineName: '',
    lastGood: undefined,
    lateSince: undefined,
  };
}

/** @throws unavailable before the machine has joined */
function joined(channel: Channel | undefined): Channel {
  if (channel) return channel;
  throw new MusterError('unavailable', 'this machine has not joined a center', { reason: 'NOT_JOINED' });
}
