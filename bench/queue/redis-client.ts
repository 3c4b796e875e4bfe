import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Consumer, ConsumerOptions, Endpoint, Publisher, PublisherOptions, QueueClient } from './port.js';
import { reach } from './reach.js';
import { command, RespError, RespReader, type RespValue } from './resp.js';

/**
 * Redis Streams over a connection of the bench's own, pipelined: ioredis spends more on a command than Redis does. A subscription is a
 * consumer group of the topic's stream. The endpoint's variant is how many connections a publisher spreads its messages over: Redis reads 16 KiB of a
 * connection at a time and syncs after each round, so that more of them share a sync, and the order of the messages is lost.
 */

/** Entries asked for at a time. */
const READ_COUNT = 1000;
const BLOCK_MS = 1000;
/** Commands put together into one write. */
const WRITE_COUNT = 512;

/** Calls `taken` with the answers as they come; what goes wrong goes to `failed`, once. */
function read(socket: Socket, taken: (values: RespValue[]) => void, failed: (error: unknown) => void): void {
  const reader = new RespReader();
  socket.on('data', (chunk: Buffer) => {
    try {
      taken(reader.push(chunk));
    } catch (error) {
      socket.destroy();
      failed(error);
    }
  });
  socket.on('error', failed);
}

async function close(socket: Socket): Promise<void> {
  socket.removeAllListeners('error').on('error', () => undefined);
  const closed = once(socket, 'close');
  socket.destroy();
  await closed;
}

export class RedisClient implements QueueClient {
  readonly #endpoint: Endpoint;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  /** The answer of one command on a connection of its own. */
  async call(...parts: readonly string[]): Promise<RespValue> {
    const socket = await reach(this.#endpoint.address);
    try {
      return await new Promise<RespValue>((resolve, reject) => {
        read(
          socket,
          ([value]) => {
            if (value !== undefined) resolve(value);
          },
          reject,
        );
        socket.write(command(...parts));
      });
    } finally {
      await close(socket);
    }
  }

  async prepare(topic: string, subscriptions: readonly string[]): Promise<void> {
    for (const subscription of subscriptions) await this.call('XGROUP', 'CREATE', topic, subscription, '$', 'MKSTREAM');
  }

  async publisher(options: PublisherOptions): Promise<Publisher> {
    const { topic } = options;
    const connections = Number(this.#endpoint.variant || '1');
    const sockets = await Promise.all(Array.from({ length: connections }, () => reach(this.#endpoint.address)));
    for (const socket of sockets) {
      read(
        socket,
        (values) => {
          options.acked(values.length);
        },
        (error) => {
          options.failed(error);
        },
      );
    }
    let writes = 0;
    const waiting: Buffer[] = [];
    const end = Buffer.from('\r\n');
    const begin = Buffer.from(`*5\r\n$4\r\nXADD\r\n$${topic.length}\r\n${topic}\r\n$1\r\n*\r\n$1\r\nd\r\n`);
    const flush = (): void => {
      if (waiting.length === 0) return;
      sockets[writes % connections]?.write(Buffer.concat(waiting));
      writes += 1;
      waiting.length = 0;
    };
    return {
      send: (payload) => {
        waiting.push(begin, Buffer.from(`$${payload.length}\r\n`, 'latin1'), payload, end);
        if (waiting.length >= (4 * WRITE_COUNT) / connections) flush();
      },
      flush,
      finish: flush,
      close: async () => {
        await Promise.all(sockets.map(close));
      },
    };
  }

  async consumer(options: ConsumerOptions): Promise<Consumer> {
    const { topic, subscription } = options;
    const socket = await reach(this.#endpoint.address);
    const next = command(
      ...['XREADGROUP', 'GROUP', subscription, 'one', 'COUNT', String(READ_COUNT), 'BLOCK', String(BLOCK_MS)],
      ...['STREAMS', topic, '>'],
    );
    const taken = (value: RespValue): void => {
      // The answer to XACK: a number.
      if (typeof value === 'number') return;
      const { ids, payloads } = entriesOf(value);
      if (payloads.length > 0) options.received(payloads);
      if (ids.length === 0) socket.write(next);
      else if (!options.stalled) socket.write(Buffer.concat([command('XACK', topic, subscription, ...ids), next]));
    };
    read(
      socket,
      (values) => {
        values.forEach(taken);
      },
      (error) => {
        options.failed(error);
      },
    );
    socket.write(next);
    return { close: () => close(socket) };
  }

  async reclaim(topic: string): Promise<void> {
    await this.call('XTRIM', topic, 'MAXLEN', '0');
    await this.call('BGREWRITEAOF');
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Of `[[stream, [[id, [field, payload]], ...]]]`, or null when nothing came in time. */
export function entriesOf(value: RespValue): { readonly ids: Buffer[]; readonly payloads: Buffer[] } {
  const ids: Buffer[] = [];
  const payloads: Buffer[] = [];
  for (const [id, fields] of listAt(listAt(value, 0), 1).map(pairOf)) {
    const payload = listOf(fields)[1];
    if (!Buffer.isBuffer(id) || !Buffer.isBuffer(payload)) throw new RespError('an entry has no id or no payload');
    ids.push(id);
    payloads.push(payload);
  }
  return { ids, payloads };
}

function listOf(value: RespValue | undefined): readonly RespValue[] {
  return value === undefined || value === null || typeof value !== 'object' || Buffer.isBuffer(value) ? [] : value;
}

function listAt(value: RespValue | readonly RespValue[], index: number): readonly RespValue[] {
  return listOf(listOf(value)[index]);
}

function pairOf(value: RespValue): [RespValue | undefined, RespValue | undefined] {
  const [first, second] = listOf(value);
  return [first, second];
}
