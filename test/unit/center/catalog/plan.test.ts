import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  planAssignment,
  raiseAbove,
  type AssignmentRecord,
  type Definition,
} from '../../../../src/center/catalog/plan.js';
import { parseSelector } from '../../../../src/model/selector.js';

const definition: Definition = {
  service: 'orders',
  manifest: '',
  selector: 'role=web',
  generation: 1,
  updatedMs: 0,
  updatedBy: '',
  removed: false,
};
const machine = (role: string) => ({ id: 'm-1', name: 'a', labels: { role } });
const selector = parseSelector(definition.selector);

describe('assignment', () => {
  it('is made where the selector matches, and only there', () => {
    assert.deepEqual(planAssignment(definition, selector, machine('web'), undefined), {
      machine: 'm-1',
      service: 'orders',
      generation: 1,
      removed: false,
      definition: 1,
    });
    assert.equal(planAssignment(definition, selector, machine('db'), undefined), undefined);
  });

  it('converges: planning again after a plan plans nothing, and generations only rise', () => {
    const step = fc.record({
      role: fc.constantFrom('web', 'db'),
      generation: fc.integer({ min: 1, max: 3 }),
      removed: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), (steps) => {
        let existing: AssignmentRecord | undefined;
        for (const { role, generation, removed } of steps) {
          const now = { ...definition, generation, removed };
          const next = planAssignment(now, selector, machine(role), existing);
          if (next && existing) assert.ok(next.generation > existing.generation);
          existing = next ?? existing;
          assert.equal(planAssignment(now, selector, machine(role), existing), undefined);
          assert.equal(existing !== undefined && !existing.removed, role === 'web' && !removed);
        }
      }),
    );
  });

  it('is raised above what an agent holds', () => {
    const existing: AssignmentRecord = {
      machine: 'm-1',
      service: 'orders',
      generation: 3,
      removed: false,
      definition: 1,
    };
    assert.equal(raiseAbove(existing, 3), undefined);
    assert.equal(raiseAbove(existing, 9)?.generation, 10);
  });
});
