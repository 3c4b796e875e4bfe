import { lstat } from 'node:fs/promises';
import type { Logger } from '../../kit/logger.js';
import { KeyedMutex } from '../../kit/tasks.js';
import { serviceSocket } from '../../model/places.js';
import type { Bound, RpcServer } from '../../rpc/server.js';

export interface ServiceSocketsOptions {
  /** The agent's data directory; `run/services` in it is there. */
  readonly data: string;
  readonly server: Pick<RpcServer, 'listen'>;
  /** The machine's id; empty before it has joined. */
  readonly machine: () => string;
  readonly logger: Logger;
}

/** Who a service runs as. */
export interface SocketOwner {
  readonly service: string;
  readonly uid: number;
  readonly gid: number;
}

interface Open {
  readonly bound: Bound;
  readonly uid: number;
  readonly ino: number;
}

/**
 * One socket file per service, owned by the service's user and closed to everybody else: who can open it is that service.
 * It is there before the service starts and goes when the machine has the service no more.
 */
export class ServiceSockets {
  readonly #options: ServiceSocketsOptions;
  readonly #open = new Map<string, Open>();
  readonly #turns = new KeyedMutex();

  constructor(options: ServiceSocketsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Path of the service's socket, which is ready. Makes it anew for another user, or where somebody removed the file. @throws as RpcServer.listen */
  ensure({ service, uid, gid }: SocketOwner): Promise<string> {
    const path = serviceSocket(this.#options.data, service);
    return this.#turns.run(service, async () => {
      const open = this.#open.get(service);
      if (open?.uid === uid && (await inodeOf(path)) === open.ino) return path;
      await this.#close(service);
      const bound = await this.#options.server.listen({
        kind: 'unix',
        path,
        mode: 0o600,
        ...(process.getuid?.() === 0 ? { uid, gid } : {}),
        principal: { kind: 'service', machine: this.#options.machine(), service },
      });
      this.#open.set(service, { bound, uid, ino: (await inodeOf(path)) ?? 0 });
      return path;
    });
  }

  /** Removes a service's socket and cuts who is connected; fine where there is none. Never rejects: what goes wrong is logged. */
  async remove(service: string): Promise<void> {
    await this.#turns.run(service, () => this.#close(service));
  }

  async #close(service: string): Promise<void> {
    const open = this.#open.get(service);
    if (!open) return;
    this.#open.delete(service);
    try {
      await open.bound.close();
    } catch (error) {
      this.#options.logger.warn('a service socket could not be removed', { service, error });
    }
  }
}

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await lstat(path)).ino;
  } catch {
    return undefined;
  }
}
