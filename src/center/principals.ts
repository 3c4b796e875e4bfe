import { MusterError } from '../kit/errors.js';
import { describePrincipal, type Principal } from '../rpc/principal.js';

/** The machine whose agent is calling. @throws denied when the caller is not an agent */
export function callingMachine(principal: Principal): string {
  if (principal.kind === 'agent') return principal.machine;
  throw new MusterError('denied', `${describePrincipal(principal)} is not an agent`, { reason: 'NOT_AN_AGENT' });
}
