import { MusterError } from '../../kit/errors.js';
import { matches, parseSelector, requireKnown } from '../../model/selector.js';
import type { Instances } from '../fleet/instances.js';
import type { Machine, Machines } from '../fleet/machines.js';
import { unknownService } from '../fleet/unknown.js';
import type { TailedMachine } from './fleet-tail.js';

/** Machines whose logs are read in one call. */
export const TAILED_MACHINES_MAX = 100;
const NAMES_SHOWN = 10;

export interface TailFleet {
  readonly machines: Machines;
  readonly instances: Instances;
}

/**
 * The machines of a tail: one by its id or name, or all with the service that a selector matches.
 * @throws not_found where there is none, naming what is nearest; invalid for a selector that cannot be read, or too many machines
 */
export function tailedMachines(
  fleet: TailFleet,
  wanted: { readonly machine: string; readonly selector: string; readonly service: string },
): readonly TailedMachine[] {
  const { machine, selector, service } = wanted;
  if (machine === '') return selected(fleet, service, selector);
  if (selector !== '') {
    throw new MusterError('invalid', 'name a machine or give a selector, not both', { reason: 'SELECTOR' });
  }
  const one = fleet.machines.require(machine);
  fleet.instances.require(one, service);
  return [tailed(one)];
}

function selected({ machines, instances }: TailFleet, service: string, text: string): readonly TailedMachine[] {
  const selector = parseSelector(text);
  const having = instances.list().flatMap(({ machine, report }) => {
    const found = report.service === service ? machines.get(machine) : undefined;
    return found ? [found] : [];
  });
  if (having.length === 0) throw unknownService(service, instances.serviceNames());
  requireKnown(selector, machines.records());
  const found = having.filter(({ record }) => matches(selector, record)).map(tailed);
  if (found.length === 0) throw nothingMatches(service, text, having);
  if (found.length > TAILED_MACHINES_MAX) {
    throw new MusterError(
      'invalid',
      `"${service}" is on ${found.length} machines that match: the logs of ${TAILED_MACHINES_MAX} can be read at once; name fewer with a selector`,
      { reason: 'TAILED_MACHINES_MAX' },
    );
  }
  return found.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
}

function nothingMatches(service: string, selector: string, having: readonly Machine[]): MusterError {
  const names = having.slice(0, NAMES_SHOWN).map(({ record }) => record.name);
  const more = having.length > NAMES_SHOWN ? ` and ${having.length - NAMES_SHOWN} more` : '';
  return new MusterError(
    'not_found',
    `no machine with service "${service}" matches "${selector}"; it is on: ${names.join(', ')}${more}`,
    { reason: 'NO_TARGETS' },
  );
}

function tailed({ record: { id, name } }: Machine): TailedMachine {
  return { id, name };
}
