import { MusterError } from '../../kit/errors.js';

/** A session, as far as it matters to who may have the next one. */
export interface SessionMark {
  /** Rises with each session of a machine, kept by the agent on its disk. */
  readonly epoch: number;
  /** New for each start of an agent's process. */
  readonly processId: string;
}

export interface Knock {
  readonly machineName: string;
  readonly newcomer: SessionMark;
  /** Epoch of the newest session there ever was; 0: none. */
  readonly storedEpoch: number;
  /** The session that is live now. */
  readonly live: SessionMark | undefined;
  /** The live session's agent answered after the newcomer came: it is alive. Only asked where their processes differ. */
  readonly liveAnswered: boolean;
}

export type Admission =
  | { readonly kind: 'admit' }
  /** Two agents run with one identity: the one that was there stays, both and the operators are told. */
  | { readonly kind: 'duplicate'; readonly refusal: MusterError }
  | { readonly kind: 'stale'; readonly refusal: MusterError };

/**
 * Whether a newcomer becomes the machine's session.
 *
 * - The same agent process comes again: its epoch must be higher, and then it fences the older session.
 * - Another process, while the older session's agent is still alive: two agents have one identity. Letting the newcomer in would make
 *   them throw each other out for ever, so the one that was there first stays, and the alert says what to do.
 * - Another process, and the older session's agent does not answer: the agent was restarted. Admitted if its epoch is higher.
 * - An epoch that was seen before is refused whoever says it: it may be an old stream, or a disk that was copied or put back. The refusal
 *   carries the newest epoch, so that an agent whose disk was put back can go on above it.
 */
export function decideAdmission(knock: Knock): Admission {
  const { newcomer, storedEpoch, live, liveAnswered, machineName } = knock;
  if (live && live.processId !== newcomer.processId && liveAnswered) {
    return {
      kind: 'duplicate',
      refusal: new MusterError(
        'conflict',
        `another agent with the identity of machine ${machineName} is connected: this one is refused. ` +
          'If this machine was cloned, delete the identity directory of its agent and join it with a token and a name of its own',
        { reason: 'DUPLICATE_IDENTITY' },
      ),
    };
  }
  const newest = Math.max(storedEpoch, live?.epoch ?? 0);
  if (newcomer.epoch > newest) return { kind: 'admit' };
  return {
    kind: 'stale',
    refusal: new MusterError(
      'conflict',
      `session epoch ${newcomer.epoch} of machine ${machineName} was used before, the newest is ${newest}: go on above it`,
      { reason: 'STALE_EPOCH', metadata: { epoch: String(newest) } },
    ),
  };
}
