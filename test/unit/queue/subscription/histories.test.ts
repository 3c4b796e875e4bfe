import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DEATHS, History, stepsArbitrary } from './history.js';

/** In all. */
const HISTORIES = Number(process.env['MUSTER_HISTORIES'] ?? 5_000);

const kinds = [
  { ordered: false, deaths: false },
  { ordered: false, deaths: true },
  { ordered: true, deaths: false },
  { ordered: true, deaths: true },
];

describe('any history of a subscription is one of its model', () => {
  for (const { ordered, deaths } of kinds) {
    it(`${ordered ? 'ordered' : 'plain'}${deaths ? ', beginning with dead letters' : ''}`, () => {
      fc.assert(
        fc.property(stepsArbitrary, (steps) => {
          const history = new History(ordered);
          if (deaths) for (const step of DEATHS) history.run(step);
          for (const step of steps) history.run(step);
          history.finish();
        }),
        { numRuns: Math.ceil(HISTORIES / kinds.length) },
      );
    });
  }
});
