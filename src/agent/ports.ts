import type { InstanceReport } from '../model/instance.js';
import type { Manifest } from '../model/manifest.js';
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

/** The machine's services, as the link and the local API see them. One mutation per service at a time. */
/** Why a removed service has not ended yet, as often as that changes; undefined once it has. */
export type Heard = (problem: string | undefined) => void;

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
  /** Takes over a manifest assigned by the center: durable, then converging in the background. @throws invalid */
  assign(assignment: { manifest: Manifest; manifestText: string; generation: number }): Promise<void>;
  /**
   * Stops a service and forgets it; its data and logs stay. Unknown services are fine. Resolves when that is durable; the end comes in
   * the background, and `heard` is told of each problem and of the end.
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
