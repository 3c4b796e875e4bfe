import { assertMayCall, COMMON_RULES, EVERYONE, type AccessRules } from '../../rpc/access.js';
import type { Principal, PrincipalKind } from '../../rpc/principal.js';

const OPERATORS: readonly PrincipalKind[] = ['operator'];
const AGENTS: readonly PrincipalKind[] = ['agent'];
const AGENTS_AND_OPERATORS: readonly PrincipalKind[] = ['agent', 'operator'];
const CERTIFICATE_HOLDERS: readonly PrincipalKind[] = ['agent', 'operator', 'queue'];
const QUEUES: readonly PrincipalKind[] = ['queue'];

/** Who may call what. What an agent may see is narrowed further by its own machine, in the handlers. */
export const RULES: AccessRules = new Map([
  ['muster.v1.Center/Join', EVERYONE],
  ['muster.v1.Center/Renew', CERTIFICATE_HOLDERS],
  ['muster.v1.Center/SignServiceCertificate', AGENTS],
  ['muster.v1.Center/Connect', AGENTS],
  ['muster.v1.Center/UploadOutput', AGENTS],
  ['muster.v1.Center/GetStatus', OPERATORS],
  ['muster.v1.Center/CreateToken', OPERATORS],
  ['muster.v1.Center/ListTokens', OPERATORS],
  ['muster.v1.Center/RevokeToken', OPERATORS],
  ['muster.v1.Center/ListMachines', OPERATORS],
  ['muster.v1.Center/GetMachine', OPERATORS],
  ['muster.v1.Center/WatchMachines', OPERATORS],
  ['muster.v1.Center/UpdateMachine', OPERATORS],
  ['muster.v1.Center/RemoveMachine', OPERATORS],
  ['muster.v1.Center/RegisterQueue', QUEUES],
  ['muster.v1.Center/ListQueues', AGENTS_AND_OPERATORS],
  ['muster.v1.Center/RemoveQueue', OPERATORS],
  ['muster.v1.Center/ListInstances', OPERATORS],
  ['muster.v1.Center/GetInstance', OPERATORS],
  ['muster.v1.Center/WatchInstances', OPERATORS],
  ['muster.v1.Center/PutService', OPERATORS],
  ['muster.v1.Center/ListServices', OPERATORS],
  ['muster.v1.Center/GetService', OPERATORS],
  ['muster.v1.Center/RemoveService', OPERATORS],
  ['muster.v1.Center/ListAlerts', OPERATORS],
  ['muster.v1.Center/WatchAlerts', OPERATORS],
  ['muster.v1.Center/RunCommand', OPERATORS],
  ['muster.v1.Center/GetCommand', OPERATORS],
  ['muster.v1.Center/ListCommands', OPERATORS],
  ['muster.v1.Center/WatchCommand', OPERATORS],
  ['muster.v1.Center/CancelCommand', OPERATORS],
  ['muster.v1.Center/StartOperation', OPERATORS],
  ['muster.v1.Center/PlanOperation', OPERATORS],
  ['muster.v1.Center/GetOperation', OPERATORS],
  ['muster.v1.Center/ListOperations', OPERATORS],
  ['muster.v1.Center/ListTargets', OPERATORS],
  ['muster.v1.Center/WatchOperation', OPERATORS],
  ['muster.v1.Center/PauseOperation', OPERATORS],
  ['muster.v1.Center/ResumeOperation', OPERATORS],
  ['muster.v1.Center/CancelOperation', OPERATORS],
  ['muster.v1.Center/RetryOperation', OPERATORS],
  ['muster.v1.Center/SearchLogs', OPERATORS],
  ['muster.v1.Center/TailLog', OPERATORS],
  ['muster.v1.Config/Get', AGENTS_AND_OPERATORS],
  ['muster.v1.Config/Watch', AGENTS_AND_OPERATORS],
  ['muster.v1.Config/ReportApplied', AGENTS],
  ['muster.v1.Config/GetDocument', OPERATORS],
  ['muster.v1.Config/Validate', OPERATORS],
  ['muster.v1.Config/Publish', OPERATORS],
  ['muster.v1.Config/ListRevisions', OPERATORS],
  ['muster.v1.Config/GetAdoption', OPERATORS],
  ['muster.v1.Counter/Report', AGENTS],
  ['muster.v1.Counter/ListCounters', OPERATORS],
  ['muster.v1.Counter/Query', OPERATORS],
  ['muster.v1.Counter/Watch', OPERATORS],
  ...COMMON_RULES,
]);

/** @throws unauthenticated for a caller without a certificate, denied for one of the wrong kind */
export function authorize(principal: Principal, method: string): void {
  assertMayCall(RULES, { principal, method, socket: "the center's admin socket" });
}
