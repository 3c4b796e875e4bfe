import { MusterError } from '../kit/errors.js';
import { describePrincipal, type Principal, type PrincipalKind } from './principal.js';

/** Who may call what, by full method name. A method that is not here is refused to everyone, so a new one is closed until someone decides. */
export type AccessRules = ReadonlyMap<string, readonly PrincipalKind[]>;

export const EVERYONE: readonly PrincipalKind[] = ['anonymous', 'operator', 'center', 'agent', 'queue', 'service'];
const KNOWN: readonly PrincipalKind[] = EVERYONE.filter((kind) => kind !== 'anonymous');

/** What every server on the network answers. */
export const COMMON_RULES: readonly (readonly [string, readonly PrincipalKind[]])[] = [
  ['grpc.health.v1.Health/Check', EVERYONE],
  ['grpc.health.v1.Health/Watch', EVERYONE],
  ['grpc.reflection.v1.ServerReflection/ServerReflectionInfo', KNOWN],
  ['grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo', KNOWN],
];

/**
 * @param socket how people on the server's own machine reach it without a certificate, in words
 * @throws unauthenticated for a caller without a certificate, denied for one of the wrong kind
 */
export function assertMayCall(
  rules: AccessRules,
  { principal, method, socket }: { readonly principal: Principal; readonly method: string; readonly socket: string },
): void {
  const allowed = rules.get(method);
  if (allowed?.includes(principal.kind)) return;
  if (principal.kind === 'anonymous') {
    throw new MusterError(
      'unauthenticated',
      `${method} needs a certificate of this site: join first, or use ${socket}`,
      { reason: 'NO_CREDENTIALS' },
    );
  }
  throw new MusterError('denied', `${describePrincipal(principal)} may not call ${method}`, { reason: 'NOT_ALLOWED' });
}
