import { matches, type Selectable, type Selector } from '../../model/selector.js';

/** A service as operators defined it. */
export interface Definition {
  readonly service: string;
  /** YAML, as given. */
  readonly manifest: string;
  /** Empty: every machine. */
  readonly selector: string;
  /** Rises with every change, and goes on rising when a removed service is defined again. */
  readonly generation: number;
  readonly updatedMs: number;
  readonly updatedBy: string;
  /** Kept after removal, so that machines which were away learn of it. */
  readonly removed: boolean;
}

/** What a machine shall hold of a defined service. */
export interface AssignmentRecord {
  readonly machine: string;
  readonly service: string;
  /** Rises with every change of this assignment; an agent ignores one that is not above what it holds. */
  readonly generation: number;
  readonly removed: boolean;
  /** Of the definition it was made from. */
  readonly definition: number;
}

/**
 * The assignment a machine shall have by a definition, when it is not what it has.
 * Undefined: it has it already, or never had any and needs none.
 */
export function planAssignment(
  definition: Definition,
  selector: Selector,
  machine: Selectable,
  existing: AssignmentRecord | undefined,
): AssignmentRecord | undefined {
  const wanted = !definition.removed && matches(selector, machine);
  const has = existing !== undefined && !existing.removed;
  if (!wanted && !has) return undefined;
  if (wanted && has && existing.definition === definition.generation) return undefined;
  return {
    machine: machine.id,
    service: definition.service,
    generation: (existing?.generation ?? 0) + 1,
    removed: !wanted,
    definition: definition.generation,
  };
}

/** The same assignment above what an agent says it holds, after one of the two disks went back in time; undefined when it is above already. */
export function raiseAbove(assignment: AssignmentRecord, heldGeneration: number): AssignmentRecord | undefined {
  if (heldGeneration <= assignment.generation) return undefined;
  return { ...assignment, generation: heldGeneration + 1 };
}
