import type { ConnectRequest, ConnectResponse, Hello } from '../../../generated/muster/v1/center.js';
import { sleep, withTimeout, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { untilAborted } from '../../rpc/streams.js';
import type { CallContext, Duplex } from '../../rpc/types.js';
import { fromDate, toDate, toDuration } from '../../wire/time.js';
import type { Instances } from '../fleet/instances.js';
import type { MachineRecord, Machines } from '../fleet/machines.js';
import { callingMachine } from '../principals.js';
import { decideAdmission, type SessionMark } from './admission.js';
import { FrameReader } from './frames.js';
import { heartbeatInterval, returnWithin, silenceLimit } from './pace.js';
import type { CommandOrder, Courier, Desired, GatewayListeners, TailOrder } from './parts.js';
import { Session } from './session.js';
import { assignmentFrame, commandFrame, fromWireHeld, fromWireUpdate, tailFrame } from './wire.js';

/** From the opening of the stream to its hello. */
const HELLO_TIMEOUT_MS = 10_000;
/** How long the agent of a live session has to answer when another process comes with its identity. */
const CHALLENGE_MS = 3000;
const CHALLENGE_LOOK_MS = 50;
const SWEEP_INTERVAL_MS = 1000;
/** A sweep that comes so long after it was asked for says that the center itself stood still. */
const SWEEP_LATE_MS = 2 * SWEEP_INTERVAL_MS;

/** Of what an agent says it can do. */
const CAPABILITIES_MAX = 64;
const WORD_CHARACTERS_MAX = 64;
type Stream = Duplex<ConnectResponse, ConnectRequest>;

export interface GatewayOptions {
  readonly machines: Machines;
  readonly instances: Instances;
  readonly listeners: GatewayListeners;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly site: string;
  readonly version: string;
  /** Beat of a small fleet, milliseconds. */
  readonly heartbeatMs?: number;
  /** Every agent is sent there instead. */
  readonly redirect?: string;
  readonly challengeMs?: number;
}

/** The agents' sessions: at most one live per machine, and only the live one changes anything. */
export class Gateway implements Courier {
  readonly #options: GatewayOptions;
  readonly #live = new Map<string, Session>();
  readonly #admissions = new KeyedMutex();
  /** Machines whose next session is being recorded: whether contact is lost is known when that is done. */
  readonly #succeeding = new Set<string>();
  #closed: MusterError | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#live.size;
  }

  /** Beat told to the next session, milliseconds. */
  get intervalMs(): number {
    return heartbeatInterval(this.#options.machines.size, this.#options.heartbeatMs);
  }

  connected(machine: string): boolean {
    return this.#live.has(machine);
  }

  order(machine: string, order: CommandOrder): boolean {
    return this.#send(machine, commandFrame(order));
  }

  tail(machine: string, order: TailOrder): boolean {
    return this.#send(machine, tailFrame(order));
  }

  cancel(machine: string, command: string): boolean {
    return this.#send(machine, { $case: 'cancel', value: { command } });
  }

  acknowledge(machine: string, command: string): boolean {
    return this.#send(machine, { $case: 'commandAck', value: { command } });
  }

  assign(machine: string, desired: Desired): boolean {
    return this.#send(machine, assignmentFrame(desired));
  }

  /** Ends the machine's session, if it has one. */
  cut(machine: string, reason: MusterError): void {
    this.#live.get(machine)?.end(reason);
  }

  /** Ends all sessions and takes no new ones. */
  close(reason: MusterError): void {
    this.#closed = reason;
    for (const session of [...this.#live.values()]) session.end(reason);
  }

  /** Gives up sessions that have missed their beats, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      const askedMs = clock.monotonic();
      await sleep(clock, SWEEP_INTERVAL_MS, signal);
      const nowMs = clock.monotonic();
      // Who could not run could not hear either: what arrived meanwhile is read before anyone is judged.
      if (nowMs - askedMs > SWEEP_LATE_MS) continue;
      for (const session of [...this.#live.values()]) {
        if (session.silentMs(nowMs) <= silenceLimit(session.facts.intervalMs)) continue;
        session.end(
          new MusterError('unavailable', 'three heartbeats were missed: connect again', {
            reason: 'HEARTBEATS_MISSED',
          }),
        );
      }
    }
  }

  /** Serves one stream until it ends. @throws why it ended, unless the agent said goodbye */
  async serve(stream: Stream, context: CallContext): Promise<void> {
    const frames = stream[Symbol.asyncIterator]();
    // What only the beginning needs, the hello first of all, is not kept for as long as the session lives.
    const session = await this.#arrive(stream, frames, context);
    if (!session) return;
    await this.#whileLive(session, () => this.#reader(session).run(frames, session.ended));
    await this.#leave(session);
    if (session.reason) throw session.reason;
  }

  /** A session that has been greeted, or has ended already; undefined for an agent that was sent elsewhere. */
  async #arrive(
    stream: Stream,
    frames: AsyncIterator<ConnectRequest>,
    context: CallContext,
  ): Promise<Session | undefined> {
    const machine = callingMachine(context.principal);
    const hello = await this.#hello(frames, context);
    const { redirect, clock } = this.#options;
    if (redirect !== undefined) {
      await stream.send({ frame: { $case: 'redirect', value: { address: redirect } } });
      return undefined;
    }
    const session = await this.#admit(machine, hello, context);
    endWith(session, context.signal);
    session.writeTo((response) => stream.send(response));
    await this.#whileLive(session, () => session.occupy(clock, () => this.#greet(session, hello)));
    return session;
  }

  /** Does work for a session. What fails once that has ended does not matter. @throws as `work`, after the session has ended of it */
  async #whileLive(session: Session, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!session.live) return;
      await this.#leave(session);
      throw error;
    }
  }

  async #leave(session: Session): Promise<void> {
    session.end(new MusterError('unavailable', 'the stream ended'));
    await this.#ended(session);
  }

  #send(machine: string, frame: NonNullable<ConnectResponse['frame']>): boolean {
    return this.#live.get(machine)?.send(frame) ?? false;
  }

  #isCurrent(session: Session): boolean {
    return session.live && this.#live.get(session.machine) === session;
  }

  async #hello(frames: AsyncIterator<ConnectRequest>, context: CallContext): Promise<Hello> {
    const limit = {
      timeoutMs: HELLO_TIMEOUT_MS,
      parent: context.signal,
      reason: () => new MusterError('deadline', `no hello within ${HELLO_TIMEOUT_MS} ms`, { reason: 'NO_HELLO' }),
    };
    const first = await withTimeout(this.#options.clock, limit, (signal) => untilAborted(frames.next(), signal));
    const request = first.done ? undefined : first.value;
    if (request?.frame?.$case !== 'hello' || request.sequence !== 1 || request.frame.value.processId === '') {
      throw new MusterError(
        'invalid',
        'the first frame of a session must be a hello with sequence 1 and a process id',
        {
          reason: 'NO_HELLO',
        },
      );
    }
    return request.frame.value;
  }

  /** One at a time per machine: whoever comes meanwhile is judged against the outcome. */
  async #admit(machine: string, hello: Hello, context: CallContext): Promise<Session> {
    return this.#admissions.run(machine, async () => {
      const record = this.#recordOf(machine);
      const before = this.#live.get(machine);
      await this.#judge(record, hello, context);
      this.#succeeding.add(machine);
      try {
        return await this.#begin(machine, hello, context);
      } finally {
        this.#succeeding.delete(machine);
        // Without a successor, an older session that has ended meanwhile is a contact lost.
        if (before && !before.live) await this.#ended(before);
      }
    });
  }

  #recordOf(machine: string): MachineRecord {
    if (this.#closed) throw this.#closed;
    const known = this.#options.machines.get(machine);
    if (known) return known.record;
    throw new MusterError('unauthenticated', 'the center does not know this machine: join it again with a new token', {
      reason: 'MACHINE_UNKNOWN',
    });
  }

  /** @throws the refusal */
  async #judge(record: MachineRecord, hello: Hello, context: CallContext): Promise<void> {
    const live = this.#live.get(record.id);
    const newcomer: SessionMark = { epoch: hello.sessionEpoch, processId: hello.processId };
    const liveAnswered =
      live !== undefined && live.facts.processId !== hello.processId && (await this.#answers(live, context.signal));
    const admission = decideAdmission({
      machineName: record.name,
      newcomer,
      storedEpoch: record.epoch,
      live: live?.facts,
      liveAnswered,
    });
    if (admission.kind === 'admit') return;
    if (admission.kind === 'duplicate') this.#duplicate(record, admission.refusal, context.peer);
    throw admission.refusal;
  }

  /** Asks the session's agent for a sign of life. */
  async #answers(session: Session, signal: AbortSignal): Promise<boolean> {
    const { clock, challengeMs = CHALLENGE_MS } = this.#options;
    const before = session.sequence;
    let untilMs = clock.monotonic() + challengeMs;
    session.send({ $case: 'reportFull', value: {} });
    while (session.live && clock.monotonic() < untilMs) {
      if (session.sequence > before) return true;
      // While the center does not listen, the time to answer has not begun.
      if (session.occupied) untilMs = clock.monotonic() + challengeMs;
      await sleep(clock, CHALLENGE_LOOK_MS, signal);
    }
    return session.live && session.sequence > before;
  }

  #duplicate(record: MachineRecord, refusal: MusterError, address: string): void {
    const message = `another agent with the identity of this machine tried to connect from ${address} and was refused`;
    this.#send(record.id, { $case: 'notice', value: { reason: 'DUPLICATE_IDENTITY', message } });
    this.#options.logger.warn('two agents have one identity', { machine: record.name, refused: address });
    this.#options.listeners.duplicate(record.id, refusal, address);
  }

  async #begin(machine: string, hello: Hello, context: CallContext): Promise<Session> {
    const { machines, clock } = this.#options;
    const helloMs = fromDate(hello.now);
    await machines.connected(machine, {
      epoch: hello.sessionEpoch,
      processId: hello.processId,
      bootId: hello.bootId,
      agentVersion: hello.agentVersion,
      capabilities: hello.capabilities.slice(0, CAPABILITIES_MAX).map((word) => word.slice(0, WORD_CHARACTERS_MAX)),
      address: context.peer,
      clockSkewMs: helloMs === undefined ? undefined : helloMs - clock.now(),
    });
    if (this.#closed) throw this.#closed;
    const session = new Session({
      machine,
      epoch: hello.sessionEpoch,
      processId: hello.processId,
      intervalMs: this.intervalMs,
      address: context.peer,
      startedMonotonicMs: clock.monotonic(),
    });
    // The agent takes nothing before its welcome, so that is in the queue before anyone can send anything else.
    this.#welcome(session);
    // One machine's sessions follow each other without a gap: the older one is fenced, and nobody saw the machine without a session.
    this.#live
      .get(machine)
      ?.end(new MusterError('conflict', 'a newer session of this machine took over', { reason: 'SESSION_FENCED' }));
    this.#live.set(machine, session);
    return session;
  }

  #reader(session: Session): FrameReader {
    const { machines, instances, listeners, clock } = this.#options;
    return new FrameReader({ session, current: () => this.#isCurrent(session), machines, instances, listeners, clock });
  }

  /** And the question for all there is: the agent's report comes back meanwhile. */
  #welcome(session: Session): void {
    const { clock, site, version, machines } = this.#options;
    session.send({
      $case: 'welcome',
      value: {
        session: session.id,
        heartbeatInterval: toDuration(session.facts.intervalMs),
        centerVersion: version,
        now: toDate(clock.now()),
        site,
        machineName: machines.get(session.machine)?.record.name ?? '',
        returnWithin: toDuration(returnWithin(machines.size)),
      },
    });
    session.send({ $case: 'reportFull', value: {} });
  }

  /** What differs, then the commands. */
  async #greet(session: Session, hello: Hello): Promise<void> {
    const { listeners } = this.#options;
    const { machine } = session;
    const current = (): boolean => this.#isCurrent(session);
    for (const desired of await listeners.differences(machine, hello.held.map(fromWireHeld))) {
      session.send(assignmentFrame(desired));
    }
    await listeners.commandsHeld(machine, hello.commands.map(fromWireUpdate), current);
  }

  async #ended(session: Session): Promise<void> {
    const { machine } = session;
    if (this.#live.get(machine) !== session || this.#succeeding.has(machine)) return;
    this.#live.delete(machine);
    this.#options.logger.info('session ended', {
      machine,
      session: session.id,
      reason: session.reason?.reason ?? session.reason?.message ?? 'goodbye',
    });
    await this.#lost(machine);
  }

  async #lost(machine: string): Promise<void> {
    const { machines, instances, listeners, logger } = this.#options;
    instances.contactLost(machine, machines.get(machine)?.lastContactMs);
    // Since when it is silent has to be known by the time it is seen to be offline: together, before anything is awaited.
    const stored = await Promise.allSettled([listeners.contactLost(machine), machines.disconnected(machine)]);
    for (const outcome of stored) {
      if (outcome.status === 'fulfilled') continue;
      // What cannot be stored now is made good when the machine comes back.
      logger.error('could not store that contact was lost', { machine, error: outcome.reason as unknown });
    }
  }
}

/** The session ends with its call. */
function endWith(session: Session, call: AbortSignal): void {
  const end = (): void => {
    session.end(new MusterError('unavailable', 'the stream ended'));
  };
  if (call.aborted) end();
  else call.addEventListener('abort', end, { once: true });
}
