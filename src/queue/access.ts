import { MusterError } from '../kit/errors.js';
import { matchesGlob } from '../kit/glob.js';
import { assertMayCall, COMMON_RULES, type AccessRules } from '../rpc/access.js';
import { describePrincipal, type Principal, type PrincipalKind } from '../rpc/principal.js';
import type { TopicRecord } from './log/port.js';

/** Who may do what at the queue. Pure: the caller's certificate or socket, the method and the topic's settings decide. */

const OPERATORS: readonly PrincipalKind[] = ['operator'];
const SERVICES_TOO: readonly PrincipalKind[] = ['operator', 'service'];

/** Who may call what. What a service may do is narrowed further by the topic: see assertMayPublish() and assertMaySubscribe(). */
export const RULES: AccessRules = new Map([
  ['muster.v1.Queue/CreateTopic', OPERATORS],
  ['muster.v1.Queue/GetTopic', SERVICES_TOO],
  ['muster.v1.Queue/ListTopics', OPERATORS],
  ['muster.v1.Queue/UpdateTopic', OPERATORS],
  ['muster.v1.Queue/DeleteTopic', OPERATORS],
  // An application makes its own subscription, and takes it away.
  ['muster.v1.Queue/CreateSubscription', SERVICES_TOO],
  ['muster.v1.Queue/GetSubscription', SERVICES_TOO],
  ['muster.v1.Queue/ListSubscriptions', OPERATORS],
  ['muster.v1.Queue/UpdateSubscription', OPERATORS],
  ['muster.v1.Queue/DeleteSubscription', SERVICES_TOO],
  ['muster.v1.Queue/Publish', SERVICES_TOO],
  ['muster.v1.Queue/PublishStream', SERVICES_TOO],
  ['muster.v1.Queue/Subscribe', SERVICES_TOO],
  ['muster.v1.Queue/Pull', SERVICES_TOO],
  ['muster.v1.Queue/Settle', SERVICES_TOO],
  ['muster.v1.Queue/Peek', SERVICES_TOO],
  ['muster.v1.Queue/Seek', OPERATORS],
  ['muster.v1.Queue/GetStats', OPERATORS],
  ['muster.v1.Queue/ListDeadLetters', OPERATORS],
  ['muster.v1.Queue/ReplayDeadLetters', OPERATORS],
  ['muster.v1.Queue/PurgeDeadLetters', OPERATORS],
  ...COMMON_RULES,
]);

/** @throws unauthenticated for a caller without a certificate, denied for one of the wrong kind */
export function authorize(principal: Principal, method: string): void {
  assertMayCall(RULES, { principal, method, socket: "the queue's own socket (queue.sock in its data directory)" });
}

/** A topic, as far as it says who may use it. */
export type GuardedTopic = Pick<TopicRecord, 'name'> & {
  readonly settings: Pick<TopicRecord['settings'], 'publishers' | 'subscribers'>;
};

/** @throws denied, reason NOT_A_PUBLISHER */
export function assertMayPublish(principal: Principal, { name, settings }: GuardedTopic): void {
  if (isAmong(principal, settings.publishers)) return;
  throw refusal(principal, { may: `publish to topic "${name}"`, list: 'publishers', reason: 'NOT_A_PUBLISHER' });
}

/** To subscribe, pull, settle and peek, and to make, look at and delete a subscription. @throws denied, reason NOT_A_SUBSCRIBER */
export function assertMaySubscribe(principal: Principal, { name, settings }: GuardedTopic): void {
  if (isAmong(principal, settings.subscribers)) return;
  throw refusal(principal, { may: `subscribe to topic "${name}"`, list: 'subscribers', reason: 'NOT_A_SUBSCRIBER' });
}

/** To look at the topic's settings, which whoever may use it may. @throws denied, reason NOT_ALLOWED */
export function assertMaySee(principal: Principal, { name, settings }: GuardedTopic): void {
  if (isAmong(principal, settings.publishers) || isAmong(principal, settings.subscribers)) return;
  throw refusal(principal, { may: `use topic "${name}"`, list: 'publishers or subscribers', reason: 'NOT_ALLOWED' });
}

/** No pattern at all lets every service of the site in. */
function isAmong(principal: Principal, patterns: readonly string[]): boolean {
  if (principal.kind === 'operator') return true;
  if (principal.kind !== 'service') return false;
  return patterns.length === 0 || patterns.some((pattern) => matchesGlob(pattern, principal.service));
}

function refusal(
  principal: Principal,
  { may, list, reason }: { readonly may: string; readonly list: string; readonly reason: string },
): MusterError {
  const next =
    principal.kind === 'service'
      ? `it is not among the topic's ${list}: an operator can add it (UpdateTopic)`
      : 'only operators and services of the site may';
  return new MusterError('denied', `${describePrincipal(principal)} may not ${may}: ${next}`, { reason });
}
