import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import type { TestContext } from 'node:test';

/** A way between two parties that can go silent without a word to either: no FIN, no RST, bytes swallowed. */
export class TcpProxy {
  readonly port: number;
  readonly #sockets: Set<Socket>;
  readonly #frozen: WeakSet<Socket>;

  private constructor(port: number, sockets: Set<Socket>, frozen: WeakSet<Socket>) {
    this.port = port;
    this.#sockets = sockets;
    this.#frozen = frozen;
  }

  /** Listens on a free port and forwards to `port`; closed after the test. */
  static async start(t: TestContext, port: number): Promise<TcpProxy> {
    const sockets = new Set<Socket>();
    const frozen = new WeakSet<Socket>();
    const server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from);
        from.on('error', () => undefined);
        from.on('data', (chunk) => {
          if (!frozen.has(from)) to.write(chunk);
        });
        from.on('close', () => {
          sockets.delete(from);
          if (!frozen.has(from)) to.destroy();
        });
      }
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const address = server.address();
    if (typeof address !== 'object' || !address) throw new Error('no port');
    return new TcpProxy(address.port, sockets, frozen);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** From now on the connections there are carry nothing and tell nobody; new ones work. */
  freeze(): void {
    for (const socket of this.#sockets) this.#frozen.add(socket);
  }

  /** Connections there are end with a reset. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }
}
