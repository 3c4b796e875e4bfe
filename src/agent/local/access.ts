import { MusterError } from '../../kit/errors.js';
import { describePrincipal, type Principal, type PrincipalKind } from '../../rpc/principal.js';

type LocalKind = Extract<PrincipalKind, 'operator' | 'service'>;

const PEOPLE: readonly LocalKind[] = ['operator'];
const SERVICES: readonly LocalKind[] = ['service'];
const BOTH: readonly LocalKind[] = ['operator', 'service'];

/**
 * Who may call what on this machine. What is not here is refused. A service is further held to itself: it looks at, and acts on,
 * the service whose socket it came through (see LocalApi).
 */
export const LOCAL_ACCESS: Readonly<Record<string, readonly LocalKind[]>> = {
  'muster.v1.Agent/GetAgent': BOTH,
  'muster.v1.Agent/ListLocalServices': BOTH,
  'muster.v1.Agent/GetLocalService': BOTH,
  'muster.v1.Agent/WatchLocalServices': BOTH,
  'muster.v1.Agent/StartService': BOTH,
  'muster.v1.Agent/StopService': BOTH,
  'muster.v1.Agent/RestartService': BOTH,
  'muster.v1.Agent/RollBackService': PEOPLE,
  'muster.v1.Agent/BackUpService': BOTH,
  'muster.v1.Agent/ListLocalBackups': BOTH,
  'muster.v1.Agent/TailLocalLog': BOTH,
  'muster.v1.Agent/SearchLocalLogs': BOTH,
  'muster.v1.Agent/ReportHealth': BOTH,
  'muster.v1.Agent/GetCertificate': SERVICES,
  'muster.v1.Agent/GetQueues': BOTH,
  'muster.v1.Config/Get': BOTH,
  'muster.v1.Config/Watch': BOTH,
  'muster.v1.Config/ReportApplied': SERVICES,
  'muster.v1.Config/GetDocument': PEOPLE,
  'muster.v1.Config/Validate': PEOPLE,
  'muster.v1.Config/Publish': PEOPLE,
  'muster.v1.Config/ListRevisions': PEOPLE,
  'muster.v1.Config/GetAdoption': PEOPLE,
  'muster.v1.Counter/Report': SERVICES,
  'muster.v1.Counter/ListCounters': PEOPLE,
  'muster.v1.Counter/Query': PEOPLE,
  'muster.v1.Counter/Watch': PEOPLE,
};

/** @throws denied */
export function authorizeLocal(principal: Principal, method: string): void {
  const allowed: readonly PrincipalKind[] = LOCAL_ACCESS[method] ?? [];
  if (allowed.includes(principal.kind)) return;
  const next =
    principal.kind === 'service'
      ? "it is for people: use the operator's socket of this machine (run/agent.sock in the agent's data directory)"
      : "it is for services: call it through a service's own socket";
  throw new MusterError('denied', `${describePrincipal(principal)} may not call ${method} here: ${next}`, {
    reason: 'NOT_ALLOWED',
  });
}
