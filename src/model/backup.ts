/** Backups, in the words of the contracts. Times are wall-clock milliseconds. */

export const BACKUP_STATUSES = ['RUNNING', 'OK', 'WARNING', 'ERROR'] as const;
export type BackupStatus = (typeof BACKUP_STATUSES)[number];

export const BACKUP_TRIGGERS = ['SCHEDULE', 'DEPLOY', 'MANUAL'] as const;
export type BackupTrigger = (typeof BACKUP_TRIGGERS)[number];

/** Where copies of a backup can go. */
export const BACKUP_COPIES = ['center', 's3'] as const;
export type BackupCopy = (typeof BACKUP_COPIES)[number];

/** A backup of a service, as its machine knows it. */
export interface Backup {
  /** Unique on its machine; begins with the time it was made. */
  readonly id: string;
  readonly service: string;
  /** The version that the service ran from. */
  readonly version: string;
  readonly trigger: BackupTrigger;
  readonly status: BackupStatus;
  readonly startedMs: number;
  readonly tookMs: number;
  /** Of the archive. */
  readonly bytes: number;
  /** Of the files in it, uncompressed. */
  readonly contentBytes: number;
  readonly files: number;
  /** SHA-256 of the archive; empty where there is none. */
  readonly digest: string;
  readonly problems: readonly string[];
  /** When the archive was last read back and every file found as its manifest says. */
  readonly verifiedMs: number | undefined;
  /** Why the last verify failed; empty when it did not. */
  readonly verifyProblem: string;
  readonly copies: readonly string[];
  readonly copyProblem: string;
  /** The deploy it was made before; empty: none. */
  readonly command: string;
}

/** When the backups of a service are due. */
export interface BackupPlan {
  readonly service: string;
  /** Five cron fields; empty: only when asked for, and before deploys. */
  readonly schedule: string;
  readonly timeZone: string;
  readonly nextDueMs: number | undefined;
}

/** What an agent tells its center in one call. */
export interface BackupNews {
  /** What is told in this call and in those right behind it is all there is. */
  readonly full: boolean;
  readonly backups: readonly Backup[];
  /** Ids. */
  readonly removed: readonly string[];
  readonly plans: readonly BackupPlan[];
  /** Services. */
  readonly removedPlans: readonly string[];
}

/** Which backup to verify or restore, and how. */
export interface BackupOrder {
  /** Empty: the latest. */
  readonly backup: string;
  /** Only these, as the backup names them; none: all. */
  readonly paths: readonly string[];
  readonly aside: boolean;
  /** To its place: a service that runs is stopped for the switch and started again; otherwise that is refused. */
  readonly stop?: boolean | undefined;
}

/** Of the problems of one backup. */
export const BACKUP_PROBLEMS_MAX = 20;
