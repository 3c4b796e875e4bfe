import type { ConnectRequest, Heartbeat, InstanceState } from '../../../generated/muster/v1/center.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { untilAborted } from '../../rpc/streams.js';
import { fromWireInventory, fromWireResources } from '../../wire/machine.js';
import { fromDate } from '../../wire/time.js';
import { NAME_PATTERN } from '../../kit/ids.js';
import { instanceId, type Instances } from '../fleet/instances.js';
import type { Machines } from '../fleet/machines.js';
import type { GatewayListeners, StillCurrent } from './parts.js';
import type { Session } from './session.js';
import { boundedInventory, fromWireApplied, fromWireInstanceOf, fromWireUpdate } from './wire.js';

export interface FrameReaderOptions {
  readonly session: Session;
  readonly current: StillCurrent;
  readonly machines: Machines;
  readonly instances: Instances;
  readonly listeners: GatewayListeners;
  readonly clock: Clock;
}

/** Instances one machine may report. */
export const INSTANCES_PER_MACHINE_MAX = 1000;

const NAME_CHARACTERS_SHOWN_MAX = 80;

/** Why something an agent told was left out. */
type Refusal = 'SERVICE_NAME';

type UpFrame = NonNullable<ConnectRequest['frame']>;

/** Turns an agent's frames into changes, one after the other, for as long as its session is the current one. */
export class FrameReader {
  readonly #options: FrameReaderOptions;
  /** Services told since the session began or the last full report was asked for. */
  readonly #told = new Set<string>();
  /** Reasons of refusals told in this session: each is told once. */
  readonly #refused = new Set<Refusal>();

  constructor(options: FrameReaderOptions) {
    this.#options = options;
  }

  /** Reads until the stream or the session ends. */
  async run(frames: AsyncIterator<ConnectRequest>, signal: AbortSignal): Promise<void> {
    const { session, current, machines, clock } = this.#options;
    for (;;) {
      const next = await untilAborted(frames.next(), signal);
      if (next.done) {
        session.end(new MusterError('unavailable', 'the agent closed its stream'));
        return;
      }
      // A stream that was fenced while this waited changes nothing any more.
      if (!current()) return;
      session.heard(next.value.sequence, clock.monotonic());
      machines.heard(session.machine);
      const { frame } = next.value;
      if (frame) await session.occupy(clock, () => this.#take(frame));
    }
  }

  async #take(frame: UpFrame): Promise<void> {
    const { session, current, machines, listeners } = this.#options;
    const { machine } = session;
    switch (frame.$case) {
      case 'heartbeat':
        this.#beat(frame.value);
        return;
      case 'instanceState':
        this.#instance(frame.value);
        return;
      case 'applied': {
        const applied = fromWireApplied(frame.value);
        if (applied) listeners.applied(machine, applied);
        return;
      }
      case 'commandUpdate':
        await listeners.commandReported(machine, fromWireUpdate(frame.value), current);
        return;
      case 'inventory':
        await machines.inventoried(machine, boundedInventory(fromWireInventory(frame.value)));
        return;
      case 'goodbye':
        session.end();
        return;
      case 'hello':
        throw new MusterError('invalid', 'a second hello came on one stream', { reason: 'FRAME' });
    }
  }

  #beat({ resources, now }: Heartbeat): void {
    const { session, machines } = this.#options;
    machines.beat(session.machine, {
      resources: resources && fromWireResources(resources),
      machineNowMs: fromDate(now),
    });
  }

  #instance({ instance, removed, fullReportEnd }: InstanceState): void {
    const { session, instances } = this.#options;
    const { machine } = session;
    if (instance && this.#mayBeCalled(instance.service)) {
      const record = fromWireInstanceOf(machine, instance);
      if (removed) {
        this.#told.delete(record.report.service);
        instances.gone(machine, record.report.service);
      } else {
        this.#assertRoom(record.report.service);
        this.#told.add(record.report.service);
        instances.reported(record);
      }
    }
    if (fullReportEnd) instances.fullReportEnded(machine, this.#told);
  }

  /** What is called otherwise is left out, and the rest of the machine is heard all the same. */
  #mayBeCalled(service: string): boolean {
    if (NAME_PATTERN.test(service)) return true;
    const shown = JSON.stringify(service.slice(0, NAME_CHARACTERS_SHOWN_MAX));
    this.#refuse(
      'SERVICE_NAME',
      `the center leaves out service ${shown}: a name has lower-case letters, digits and dashes, at most 63`,
    );
    return false;
  }

  #refuse(reason: Refusal, message: string): void {
    if (this.#refused.has(reason)) return;
    this.#refused.add(reason);
    this.#options.session.send({ $case: 'notice', value: { reason, message } });
  }

  #assertRoom(service: string): void {
    const { session, instances } = this.#options;
    if (instances.countOf(session.machine) < INSTANCES_PER_MACHINE_MAX) return;
    if (instances.get(instanceId(session.machine, service))) return;
    throw new MusterError('exhausted', `a machine may have at most ${INSTANCES_PER_MACHINE_MAX} services`, {
      reason: 'INSTANCES_MAX',
    });
  }
}
