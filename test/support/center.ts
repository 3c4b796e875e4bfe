import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CenterService, CreateTokenRequest } from '../../generated/muster/v1/center.js';
import { runCenter, type CenterMainOptions, type CenterReady } from '../../src/center/main.js';
import { silentLogger } from '../../src/kit/logger.js';
import { createClient, openChannel } from '../../src/rpc/client.js';
import type { Client } from '../../src/rpc/types.js';

/** A center in this process, on a port of its own, with a client for its operators. Stopped after the test; may be stopped and started again. */
export class TestCenter {
  readonly data: string;
  readonly #options: Partial<CenterMainOptions>;
  #running: { controller: AbortController; done: Promise<void>; ready: CenterReady } | undefined;
  #closeClient: () => void = () => undefined;
  #operator: Client<typeof CenterService> | undefined;

  private constructor(data: string, options: Partial<CenterMainOptions>) {
    this.data = data;
    this.#options = options;
  }

  static async start(t: TestContext, options: Partial<CenterMainOptions> = {}): Promise<TestCenter> {
    const data = await mkdtemp(join(tmpdir(), 'muster-center-'));
    const center = new TestCenter(data, options);
    t.after(async () => {
      await center.stop();
      await rm(data, { recursive: true, force: true });
    });
    await center.start();
    return center;
  }

  get ready(): CenterReady {
    if (!this.#running) throw new Error('the center does not run');
    return this.#running.ready;
  }

  get address(): string {
    return this.ready.address;
  }

  /** A client on the admin socket. */
  get operator(): Client<typeof CenterService> {
    if (!this.#operator) throw new Error('the center does not run');
    return this.#operator;
  }

  async start(): Promise<void> {
    const controller = new AbortController();
    const { promise: ready, resolve, reject } = promiseOfReady();
    const done = runCenter({
      data: this.data,
      listen: '127.0.0.1:0',
      logger: silentLogger,
      heartbeatMs: 500,
      ...this.#options,
      signal: controller.signal,
      onReady: resolve,
    });
    done.catch(reject);
    this.#running = { controller, done, ready: await ready };
    const channel = openChannel({ address: `unix:${this.#running.ready.adminSocket}` });
    this.#operator = createClient(CenterService, channel);
    this.#closeClient = () => {
      channel.close();
    };
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    this.#operator = undefined;
    this.#closeClient();
    running.controller.abort();
    await running.done;
  }

  async token(fields: Partial<CreateTokenRequest> = {}): Promise<string> {
    const { token } = await this.operator.createToken(CreateTokenRequest.fromPartial(fields));
    return token;
  }
}

function promiseOfReady(): {
  promise: Promise<CenterReady>;
  resolve: (ready: CenterReady) => void;
  reject: (error: unknown) => void;
} {
  const controller = new AbortController();
  let outcome: { ready: CenterReady } | { error: unknown } | undefined;
  const settle = (next: { ready: CenterReady } | { error: unknown }): void => {
    outcome ??= next;
    controller.abort();
  };
  const promise = once(controller.signal, 'abort').then(() => {
    if (outcome && 'ready' in outcome) return outcome.ready;
    throw new Error('the center did not start', { cause: outcome?.error });
  });
  promise.catch(() => undefined);
  return {
    promise,
    resolve: (ready) => {
      settle({ ready });
    },
    reject: (error) => {
      settle({ error });
    },
  };
}
