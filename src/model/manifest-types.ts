import type { BackupCopy } from './backup.js';
import type { Driver } from './instance.js';

/** What a service is, from its `muster.yaml`: plain values, durations in milliseconds, sizes in bytes, defaults filled in. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly driver: Driver;
  /** Name of the systemd unit or init script; the service's own name unless said. */
  readonly unit: string;
  /** Program and arguments, never a shell string. Empty for systemd and sysv. */
  readonly command: readonly string[];
  /** Undefined: the agent's default user. Never root unless said. */
  readonly user: string | undefined;
  /** Absolute working directory. Undefined: the manifest's own folder, or the service's shared directory. */
  readonly directory: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly ports: readonly ManifestPort[];
  readonly ping: Ping | undefined;
  readonly start: {
    /** How long it must stay up to count as started. */
    readonly settleMs: number;
    /** Quick failures in a row before it is given up. */
    readonly retries: number;
  };
  readonly restart: RestartPolicy;
  readonly stop: {
    readonly signal: StopSignal;
    /** Time to end by itself before it is killed. */
    readonly graceMs: number;
  };
  readonly logs: {
    /** Names below the log directory, `*` matching within a name. */
    readonly files: readonly string[];
    readonly maxSizeBytes: number;
    /** Rotated files kept per log file. */
    readonly keep: number;
    readonly maxAgeMs: number;
  };
  readonly verify: { readonly exec: readonly string[]; readonly timeoutMs: number } | undefined;
  readonly backup: ManifestBackup | undefined;
  /** Version by module name. */
  readonly modules: Readonly<Record<string, string>>;
  readonly hooks: {
    /** Runs in a new release directory before the service is stopped. */
    readonly install: readonly string[] | undefined;
    readonly timeoutMs: number;
  };
  /** What of its releases stays on the machine, so that it can be rolled back to. */
  readonly releases: { readonly keep: number; readonly maxSizeBytes: number };
  readonly config: { readonly schema: string | undefined; readonly notify: NotifySignal | undefined } | undefined;
}

export interface ManifestPort {
  readonly name: string;
  readonly port: number;
  /** Where to connect to it; 127.0.0.1 unless said. */
  readonly host: string;
}

/** What of a service is backed up, when, and what is kept. */
export interface ManifestBackup {
  /** Relative to the service's shared directory; as written, without a slash at the end. */
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  /** Five cron fields; undefined: only when asked for, and before deploys. */
  readonly schedule: string | undefined;
  readonly timeZone: string;
  readonly keep: BackupKeep;
  /** Five cron fields: when the latest one is read back; undefined: only when asked for. */
  readonly verify: string | undefined;
  readonly copy: readonly BackupCopy[];
}

/** The last so many, and the last one of each of so many days, weeks and months. */
export interface BackupKeep {
  readonly last: number;
  readonly daily: number;
  readonly weekly: number;
  readonly monthly: number;
}

/** How to ask a service how it is. */
export type Ping = PingTiming & PingKind;

export type PingKind =
  | { readonly kind: 'http'; readonly path: string; readonly host: string; readonly port: number }
  /** `service` is the name asked in grpc.health.v1; empty asks for the server as a whole. */
  | { readonly kind: 'grpc'; readonly service: string; readonly host: string; readonly port: number }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'exec'; readonly command: readonly string[] }
  /** The service reports by itself; silence for longer than `ttlMs` is a failure. */
  | { readonly kind: 'ttl'; readonly ttlMs: number };

export interface PingTiming {
  readonly everyMs: number;
  readonly timeoutMs: number;
  /** Failures in a row before CRITICAL. */
  readonly failures: number;
  /** Successes in a row before PASSING again. */
  readonly successes: number;
}

export const RESTART_POLICIES = ['always', 'on-failure', 'never'] as const;
export type RestartPolicy = (typeof RESTART_POLICIES)[number];

export const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGKILL'] as const;
export type StopSignal = (typeof STOP_SIGNALS)[number];

export const NOTIFY_SIGNALS = ['SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
export type NotifySignal = (typeof NOTIFY_SIGNALS)[number];
