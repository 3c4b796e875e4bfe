/** What the parts of the center ask of each other; main.ts joins them. */

/** A machine, as other parts need to name it. */
export interface MachineName {
  readonly id: string;
  readonly name: string;
  readonly online: boolean;
}

/** An instance, as configuration and counters need to see it. */
export interface InstanceFact {
  readonly machine: MachineName;
  readonly service: string;
  /** Configuration revision the agent holds, and the last the service said it applied. */
  readonly configHeld: number;
  readonly configApplied: number;
}

/** Who is in the fleet. */
export interface FleetDirectory {
  /** By id or name. @throws not_found naming the nearest machine */
  machine(idOrName: string): MachineName;
  /** By id; undefined when the machine was removed. */
  findMachine(id: string): MachineName | undefined;
  /** All instances of a service; empty for an unknown one. */
  instancesOf(service: string): readonly InstanceFact[];
  /** Every service name that has a definition or an instance. */
  serviceNames(): readonly string[];
}

/** The configuration that an instance should have. */
export interface ConfigSource {
  /** Revision 0 and an empty hash where the service has no configuration. */
  revisionOf(service: string, machine: string): { readonly revision: number; readonly hash: string };
  /** Calls `listener` after a service's configuration changed, once it is durable. Returns how to stop. */
  onChange(listener: (service: string) => void): () => void;
}
