import { joinSite, type JoinOrder } from '../../enrolment/join.js';
import type { Membership, Party } from '../../enrolment/party.js';
import { MusterError } from '../../kit/errors.js';
import { NAME_PATTERN } from '../../kit/ids.js';
import { PORTS } from '../../model/places.js';
import { parseToken } from '../../model/token.js';
import { hostAndPort } from './address.js';

/** What the queue knows of the site it belongs to. */
export interface QueueMember extends Membership {
  /** HOST:PORT under which others reach this queue, where that was said when it joined. */
  readonly advertise?: string;
}

/** A queue, among those who join a site. */
export const QUEUE: Party<QueueMember> = {
  kind: 'queue',
  file: 'queue.json',
  directoryMode: 0o700,
  fields: 'site, center or name',
  read: (membership, { advertise }) => (typeof advertise === 'string' ? { ...membership, advertise } : membership),
  owns: ({ name }, principal) => principal.kind === 'queue' && principal.name === name,
  words: {
    whose: 'this queue',
    noun: 'queue',
    notJoined:
      'this queue has not joined a site: run `muster queue join CENTER --token TOKEN` with its --data directory',
    then: 'the queue then goes on by itself',
    token: (name) => `muster token create --queue --name ${name}`,
    meanwhile: 'its messages stay meanwhile',
    stays: 'topics and messages stay',
    move: 'To move the queue, stop it and join with another --data directory',
  },
};

export type JoinQueueOptions = Pick<JoinOrder<QueueMember>, 'data' | 'center' | 'token' | 'name'> &
  Pick<QueueMember, 'advertise'>;

/**
 * Makes the queue of a data directory a member of a site; one that runs notices by itself. @throws as joinSite; invalid (name, advertise)
 */
export async function joinQueue(options: JoinQueueOptions): Promise<QueueMember> {
  parseToken(options.token);
  if (!NAME_PATTERN.test(options.name)) {
    throw new MusterError(
      'invalid',
      `"${options.name}" cannot be a queue's name: use lower-case letters, digits and dashes (--name NAME)`,
    );
  }
  const { advertise } = options;
  if (advertise !== undefined) hostAndPort(advertise, PORTS.queueGrpc);
  const told = advertise === undefined ? {} : { advertise };
  return joinSite(QUEUE, { ...options, member: (membership) => ({ ...membership, ...told }) });
}
