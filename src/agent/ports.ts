import type { DeployedRelease, InstanceReport } from '../model/instance.js';
import type { Manifest } from '../model/manifest.js';
import type { DeployStep } from '../model/release.js';
import type { Channel } from '../rpc/client.js';

/** What the parts of the agent ask of each other; main.ts joins them. */

/** The way to the center, for parts that call it beside the session. */
export interface CenterAccess {
  /** Undefined until the machine has joined. Calls on it fail with `unavailable` while the center is away: retry with backoff. */
  channel(): Channel | undefined;
  /** Whether a session is live now. */
  readonly connected: boolean;
  /** Calls `listener` at each change of `connected`. Returns how to stop. */
  onConnection(listener: (connected: boolean) => void): () => void;
}

/** One change of the machine's services. */
export interface ServicesChange {
  readonly service: string;
  /** Undefined: the machine has the service no more. */
  readonly report: InstanceReport | undefined;
}

/** Why what was asked is not so yet, as often as that changes; undefined once it is. */
export type Heard = (problem: string | undefined) => void;

/** The machine's services, as the link and the local API see them. One mutation per service at a time. */
export interface ServiceControl {
  list(): readonly InstanceReport[];
  /** @throws not_found naming the nearest service */
  get(service: string): InstanceReport;
  /** Calls `listener` after each change, in order. Returns how to stop. */
  onChange(listener: (change: ServicesChange) => void): () => void;
  /** Resolves when it is RUNNING. @throws precondition with why it is not; not_found */
  start(service: string): Promise<InstanceReport>;
  /** Resolves when it has ended. */
  stop(service: string): Promise<InstanceReport>;
  restart(service: string): Promise<InstanceReport>;
  /**
   * Takes over a manifest assigned by the center: durable, then converging in the background. `heard` is told undefined when it is what the
   * service is run by, else why it is not, each time that changes. One that is held already is answered again.
   */
  assign(assignment: { manifest: Manifest; manifestText: string; generation: number }, heard: Heard): Promise<void>;
  /**
   * Stops a service and forgets it; its data and logs stay. Unknown services are fine. Resolves when that is durable; the end comes in
   * the background, and `heard` is told of each problem and of the end. One that is run from a release goes on: only its assignment ends.
   */
  unassign(service: string, generation: number, heard: Heard): Promise<void>;
  /** Generation held per assigned service. */
  generations(): ReadonlyMap<string, number>;
  /** Takes a ttl ping's report. @throws precondition when the service has no ttl ping */
  reportHealth(service: string, health: 'PASSING' | 'WARNING' | 'CRITICAL', output: string): number;
  /** The last lines a service printed since it was started last, oldest first; empty where that is not known. @throws not_found */
  lastOutput(service: string): Promise<readonly string[]>;
  /** Manifest files on the machine that cannot be used. */
  broken(): readonly { readonly file: string; readonly errors: readonly string[] }[];
}

/** What a service is run from. */
export interface ServiceSource {
  readonly manifest: Manifest;
  readonly manifestText: string;
  /** Absolute; the release directory, or the folder of a local manifest, or ''. */
  readonly folder: string;
  /** Undefined: a manifest of the machine itself or an assignment. */
  readonly release: DeployedRelease | undefined;
}

/** A service held by a deploy: start, stop and restart by others are refused (conflict, saying who holds it) until it is let go. */
export interface Hold {
  /** Undefined: the machine has no such service (now). */
  source(): ServiceSource | undefined;
  report(): InstanceReport | undefined;
  /** Whether it is wanted to run; true for one that is not there yet. */
  readonly wanted: boolean;
  /** Shown in the report as `deploying` (mutes alerts); undefined clears it. */
  step(step: DeployStep | undefined): void;
  /** Ends it; what is wanted stays. Nothing there: fine. */
  stop(): Promise<void>;
  /** Durable: from now on the service is run from this; undefined: not on this machine any more. Must be stopped. Starts nothing. systemd: installs/puts back the unit file, daemon-reload. */
  become(source: ServiceSource | undefined): Promise<void>;
  /** Resolves when RUNNING. @throws precondition */
  start(): Promise<InstanceReport>;
  /** Durable: the release it runs from is verified, with this revision of its configuration; 0: none. */
  verified(configRevision: number): Promise<void>;
  /** Runs a program as the service's user with its environment, in `directory`, as `source` says. Output: the last 4 KiB. */
  run(
    source: ServiceSource,
    program: { argv: readonly string[]; directory: string; timeoutMs: number },
  ): Promise<{ code: number | undefined; output: string; timedOut: boolean }>;
  lastOutput(): Promise<readonly string[]>;
  letGo(): void;
}

export interface DeployableServices {
  /** Waits until services are ready. @throws conflict while another holds it */
  hold(service: string, why: string): Promise<Hold>;
  /** Which user a source's service runs as, for who owns what is unpacked; undefined: the agent itself. */
  userOf(source: ServiceSource): Promise<{ uid: number; gid: number } | undefined>;
}

/** Config snapshots kept with releases. */
export interface ConfigPins {
  /** Keeps the present snapshot with the release, durable; its revision, 0: none. */
  keep(service: string, digest: string): Promise<number>;
  /** Puts back the one kept with the release and pins it; its revision, 0: none was kept. */
  restore(service: string, digest: string): Promise<number>;
  /** A deploy: whatever the center says last holds again. */
  unpin(service: string): Promise<void>;
  forget(service: string, digest: string): Promise<void>;
}
