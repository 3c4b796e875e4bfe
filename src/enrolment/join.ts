import { systemClock, type Clock } from '../kit/clock.js';
import { MusterError } from '../kit/errors.js';
import { makeDirectory } from '../kit/files.js';
import { generateKey } from '../rpc/certificate-request.js';
import { IdentityFiles } from './files.js';
import type { Membership, Party } from './party.js';
import { findCenter, useToken } from './token.js';
import { problemOf, validityOf } from './validity.js';
import type { JoinAnswer } from './wire.js';

export interface JoinOrder<M extends Membership> {
  /** The party's data directory. */
  readonly data: string;
  /** Address of the center, `host` or `host:port`. */
  readonly center: string;
  /** What `muster token create` printed. */
  readonly token: string;
  /** Unique in the site. */
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** What there is to know after the center answered. */
  readonly member: (membership: Membership, answer: JoinAnswer) => M;
  /** Only for what the time is; waiting goes by the machine's own. */
  readonly clock?: Pick<Clock, 'now'>;
}

/**
 * Makes a party a member of a site. The center proves itself by the CA hash in the token before the token is sent; the private key is
 * made here and never leaves. Who has joined before is joined anew; on failure it stays what it was.
 * @throws invalid (token, address); denied (the token is for others, or for another name); unauthenticated (fake center, or the token is
 *   unknown, used or expired); exists (name taken); unavailable (no connection); precondition, reason OTHER_SITE, when the directory
 *   belongs to another site
 */
export async function joinSite<M extends Membership>(party: Party<M>, order: JoinOrder<M>): Promise<M> {
  const { data, name, labels = {}, member, clock = systemClock } = order;
  const found = await findCenter(order.center, order.token, {
    instead: `a ${party.words.noun} joins its center at HOST:PORT`,
  });
  await makeDirectory(data, party.directoryMode);
  const files = new IdentityFiles(party, data);
  await assertNoOtherSite(files, { site: found.site, data });
  const key = await generateKey();
  await files.writeNextKey(key, 'join');
  const base: Membership = { site: found.site, center: found.address, name };
  const ask = async (): Promise<JoinAnswer> => {
    const answer = await useToken(found, {
      ...{ key, kind: party.kind, name, labels, nowMs: clock.now(), whose: party.words.whose },
      isMine: (principal, given) => party.owns(member(base, given), principal),
    });
    const problem = problemOf(validityOf(answer.certificate), clock.now(), { name, words: party.words });
    if (problem !== undefined) throw new MusterError('precondition', problem, { reason: 'CLOCK_SKEW' });
    return answer;
  };
  const answer = await ask().catch(async (error: unknown) => {
    await files.dropNextKey('join');
    throw error;
  });
  await files.writeCertificate(answer.certificate, answer.ca, 'join');
  const membership = member(base, answer);
  await files.writeMembership(membership);
  return membership;
}

/** What is in the directory is numbered by the site that gave it: another site's would be taken for old. */
async function assertNoOtherSite<M extends Membership>(
  files: IdentityFiles<M>,
  to: { site: string; data: string },
): Promise<void> {
  const from = await files.knownSite();
  if (from === undefined || from === to.site) return;
  throw new MusterError(
    'precondition',
    `${to.data} belongs to site ${from}, and this token is of site ${to.site}; nothing was changed. ${files.party.words.move}`,
    { reason: 'OTHER_SITE' },
  );
}
