export type Severity = 'WARNING' | 'CRITICAL';

/** What tells one alert from another; at most one with a key is raised at a time. */
export interface AlertKey {
  /** machine_offline, port_down, ping_failing, service_fatal, service_stopped, service_restarting, duplicate_identity, clock_skew, assignment_failed, backup_late, backup_failed, backup_unverified. */
  readonly kind: string;
  /** Machine id. */
  readonly machine: string;
  /** Empty where it is about the machine. */
  readonly service: string;
  /** Name of the check; empty where it is about no check. */
  readonly check: string;
}

export interface Finding extends AlertKey {
  readonly severity: Severity;
  readonly message: string;
}

/**
 * A verdict on one key: it is wrong now, it is well now, or nobody can say (then what was said before stands).
 * `unchecked`: nobody can say anything of any check of the service.
 */
export type Verdict =
  | { readonly is: 'wrong'; readonly finding: Finding }
  | { readonly is: 'unsure'; readonly key: AlertKey }
  | { readonly is: 'unchecked'; readonly service: string };
