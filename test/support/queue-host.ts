import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { silentLogger } from '../../src/kit/logger.js';
import { joinQueue, runQueue, type QueueMainOptions, type QueueReady } from '../../src/queue/main.js';
import { certificateRequest, generateKey } from '../../src/rpc/certificate-request.js';
import { IdentityHolder } from '../../src/rpc/identity.js';
import type { TestCenter } from './center.js';
import { FakeAgent, joinAs } from './fake-agent.js';
import { waitFor } from './waiting.js';

/** A queue in this process, on ports of its own. Stopped after the test; may be stopped and started again. */
export class TestQueue {
  readonly data: string;
  readonly #options: Partial<QueueMainOptions>;
  #running: { readonly stop: () => void; readonly done: Promise<void>; readonly ready: QueueReady } | undefined;

  private constructor(data: string, options: Partial<QueueMainOptions>) {
    this.data = data;
    this.#options = options;
  }

  static async make(t: TestContext, options: Partial<QueueMainOptions> = {}): Promise<TestQueue> {
    const data = await mkdtemp(join(tmpdir(), 'muster-queue-'));
    const queue = new TestQueue(data, options);
    t.after(async () => {
      await queue.stop();
      await rm(data, { recursive: true, force: true });
    });
    return queue;
  }

  /** One that has joined, and whose address the center knows. */
  static async joined(
    t: TestContext,
    center: TestCenter,
    options: Partial<QueueMainOptions> & { readonly name?: string } = {},
  ): Promise<TestQueue> {
    const { name = 'q', ...rest } = options;
    const queue = await TestQueue.make(t, rest);
    await joinQueue({ data: queue.data, center: center.address, name, token: await queueToken(center) });
    await queue.start();
    await waitFor(`the center to know queue ${name}`, async () => {
      const { queues } = await center.operator.listQueues({});
      return queues.some((one) => one.name === name && one.address !== '');
    });
    return queue;
  }

  get ready(): QueueReady {
    if (!this.#running) throw new Error('the queue does not run');
    return this.#running.ready;
  }

  async start(): Promise<void> {
    const controller = new AbortController();
    let done: Promise<void> = Promise.resolve();
    const ready = await new Promise<QueueReady>((resolve, reject) => {
      done = runQueue({
        data: this.data,
        listen: '127.0.0.1:0',
        autoCreateTopics: false,
        logger: silentLogger,
        ...this.#options,
        signal: controller.signal,
        onReady: resolve,
      });
      done.catch(reject);
    });
    this.#running = {
      ready,
      done,
      stop: () => {
        controller.abort();
      },
    };
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    running.stop();
    await running.done;
  }
}

/** A token with which a queue joins; with a name, one that exists joins anew. */
export function queueToken(center: TestCenter, name = ''): Promise<string> {
  return center.token({ kind: 'TOKEN_KIND_QUEUE', name });
}

/** The CA of the center's site, PEM. */
export function caOf(center: TestCenter): Promise<string> {
  return readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
}

/** A machine that has joined, with a stream to the center. */
export async function joinedAgent(t: TestContext, center: TestCenter, name: string): Promise<FakeAgent> {
  const token = await center.token();
  return new FakeAgent(
    t,
    center.address,
    name,
    await joinAs(center.address, { token, name, caPem: await caOf(center) }),
  );
}

/** The certificate of a service on the agent's machine, as its agent asks for it. */
export async function serviceIdentity(center: TestCenter, agent: FakeAgent, service: string): Promise<IdentityHolder> {
  const stream = await agent.connect();
  await stream.report({ service, state: 'SERVICE_STATE_RUNNING' });
  await waitFor(`${service} to be known`, () => center.operator.getInstance({ machine: agent.name, service }));
  const key = await generateKey();
  const { certificate, ca } = await agent.client.signServiceCertificate({
    service,
    certificateRequest: Buffer.from(certificateRequest(key)),
  });
  await stream.leave();
  return new IdentityHolder({
    certificatePem: certificate,
    privateKeyPem: key,
    caPem: ca,
    site: center.ready.site,
  });
}
