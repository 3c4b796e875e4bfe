import { hostname } from 'node:os';
import type { JoinOrder } from '../../enrolment/join.js';
import { joinSite } from '../../enrolment/join.js';
import { MusterError } from '../../kit/errors.js';
import { MACHINE_NAME_PATTERN } from '../../kit/ids.js';
import { parseToken } from '../../model/token.js';
import { MACHINE, type MachineMembership } from './machine.js';

export interface JoinMachineOptions extends Pick<
  JoinOrder<MachineMembership>,
  'data' | 'center' | 'token' | 'labels' | 'clock'
> {
  /** Name of this machine, unique in the site. Default: its host name. */
  readonly name?: string;
}

/**
 * Makes this machine a member of a site. A machine that has joined before is joined anew; on failure it stays what it was.
 * @throws as joinSite; invalid (name)
 */
export async function joinMachine(options: JoinMachineOptions): Promise<MachineMembership> {
  const { name = hostname(), labels = {} } = options;
  parseToken(options.token);
  if (!MACHINE_NAME_PATTERN.test(name)) {
    throw new MusterError(
      'invalid',
      `"${name}" cannot be a machine's name: use letters, digits, dots and dashes (--name NAME)`,
    );
  }
  return joinSite(MACHINE, {
    ...options,
    name,
    labels,
    member: (membership, { machine }) => ({
      site: membership.site,
      center: membership.center,
      machine,
      name: membership.name,
      labels,
    }),
  });
}
