import { ReportStream } from '../../counter/wire.js';
import type { Clock } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import type { Random } from '../../kit/random.js';
import type { Store } from '../../store/port.js';
import type { CenterAccess } from '../ports.js';
import { counterHandlers } from './service.js';
import { CounterSpool } from './spool.js';
import { Uplink } from './uplink.js';

export interface AgentCountersOptions {
  readonly store: Store;
  readonly center: CenterAccess;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

/** The agent's part in counting, as its composition root needs it. */
export class AgentCounters {
  readonly #spool: CounterSpool;
  readonly #uplink: Uplink;

  private constructor(spool: CounterSpool, uplink: Uplink) {
    this.#spool = spool;
    this.#uplink = uplink;
  }

  /** @throws as Store.range */
  static async open({ store, center, clock, random, logger }: AgentCountersOptions): Promise<AgentCounters> {
    const spool = await CounterSpool.open(store, clock);
    const open = (signal: AbortSignal): ReportStream | undefined => {
      const channel = center.channel();
      return channel && new ReportStream(channel, signal);
    };
    return new AgentCounters(spool, new Uplink({ spool, center, open, clock, random, logger }));
  }

  /** Points refused since the agent started. */
  get refusedPoints(): number {
    return this.#spool.refusedPoints;
  }

  /** Of `muster.v1.Counter`: reports of services, who are known by their sockets. */
  handlers(): ReturnType<typeof counterHandlers> {
    return counterHandlers(this.#spool);
  }

  /** Hands what is durable to the center, until the signal aborts. */
  run(signal: AbortSignal): Promise<void> {
    return this.#uplink.run(signal);
  }
}
