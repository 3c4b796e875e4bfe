import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { QueueService } from '../../generated/muster/v1/queue.js';
import { systemClock } from '../../src/kit/clock.js';
import { createClient, openChannel, type Channel, type ChannelOptions } from '../../src/rpc/client.js';
import type { Client } from '../../src/rpc/types.js';
import { ServerProcess } from './site.js';

export type QueueClient = Client<typeof QueueService>;

/** A client with a connection of its own. */
export interface Connected {
  readonly client: QueueClient;
  readonly channel: Channel;
  close(): void;
}

export function connectQueue(address: string, options: Partial<ChannelOptions> = {}): Connected {
  const channel = openChannel({ address, peer: 'the queue', ...options });
  return {
    client: createClient(QueueService, channel),
    channel,
    close: () => {
      channel.close();
    },
  };
}

export interface QueueProcessOptions {
  /** Where it keeps its data; default: a folder of the test. */
  readonly data?: string;
  /** Goes before its command line. */
  readonly prefix?: readonly string[];
  /** More of its command line. */
  readonly args?: readonly string[];
}

export interface Started {
  readonly tookMs: number;
  readonly cpuMs: number;
}

/** Ticks per second in /proc, on every Linux machine of today. */
const TICKS_PER_SECOND = 100;

/** What a process has computed so far, all its threads together. */
function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The fields behind the name of the program, which may contain anything: utime and stime are the 12th and 13th of them.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_SECOND;
}

/** A real `muster queue`, spoken to through its own socket. It may be killed and started again. */
export class QueueProcess {
  readonly data: string;
  readonly address: string;
  readonly #process: ServerProcess;

  private constructor(directory: string, { data = join(directory, 'queue'), prefix, args = [] }: QueueProcessOptions) {
    this.data = data;
    this.address = `unix:${join(data, 'queue.sock')}`;
    this.#process = new ServerProcess(
      'queue',
      ['queue', '--data', data, '--listen', '127.0.0.1:0', '--log-level', 'warn', ...args],
      { log: join(directory, 'queue.log'), ...(prefix === undefined ? {} : { prefix }) },
    );
  }

  /** Its process and its folder are gone after the test. */
  static async make(t: TestContext, options: QueueProcessOptions = {}): Promise<QueueProcess> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-queue-'));
    const queue = new QueueProcess(directory, options);
    t.after(async () => {
      await queue.kill();
      await rm(directory, { recursive: true, force: true });
    });
    return queue;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Starts it. Answers with the milliseconds until it answered a call, and how many of them it computed. */
  async start(): Promise<Started> {
    const beganMs = systemClock.monotonic();
    await this.#process.start();
    await this.ask((client) => client.getStats({ topic: '' }));
    return { tookMs: systemClock.monotonic() - beganMs, cpuMs: cpuMsOf(this.pid) };
  }

  connect(options: Partial<ChannelOptions> = {}): Connected {
    return connectQueue(this.address, options);
  }

  /** One call, over a connection of its own. */
  async ask<T>(call: (client: QueueClient) => Promise<T>): Promise<T> {
    const connected = this.connect();
    try {
      return await call(connected.client);
    } finally {
      connected.close();
    }
  }

  /** With -9. */
  async kill(): Promise<void> {
    await this.#process.end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#process.end('SIGTERM');
  }

  /** Waits until it ends by itself. Resolves with its exit status. */
  over(): Promise<number | null> {
    return this.#process.over();
  }

  /** What it wrote to its standard error so far, over all its lives. */
  said(): string {
    return this.#process.said();
  }
}
