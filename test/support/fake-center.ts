import type { TestContext } from 'node:test';
import {
  CenterService,
  type ConnectRequest,
  type ConnectResponse,
  type Hello,
  type UploadOutputRequest,
} from '../../generated/muster/v1/center.js';
import { MusterError } from '../../src/kit/errors.js';
import { silentLogger } from '../../src/kit/logger.js';
import { IdentityHolder, type Identity } from '../../src/rpc/identity.js';
import { implement, RpcServer, type Bound } from '../../src/rpc/server.js';
import type { CallContext, Duplex, Handlers } from '../../src/rpc/types.js';
import { createAuthority, type Authority, type LeafOptions } from './certificates.js';
import { waitFor as until } from './waiting.js';

type CenterHandlers = Handlers<typeof CenterService>;
type DownFrame = Exclude<ConnectResponse['frame'], undefined>;
type UpFrame = Exclude<ConnectRequest['frame'], undefined>;
type UpCase = UpFrame['$case'];
type ValueOf<C extends UpCase> = Extract<UpFrame, { $case: C }>['value'];

/** One stream of an agent, as the fake center sees it. */
export class FakeSession {
  readonly frames: ConnectRequest[] = [];
  /** The agent's end of it: undefined while open. */
  ended: 'goodbye' | 'ended' | 'lost' | undefined;
  readonly hello: Hello;
  readonly #stream: Duplex<ConnectResponse, ConnectRequest>;
  readonly #end = new AbortController();

  constructor(stream: Duplex<ConnectResponse, ConnectRequest>, hello: Hello) {
    this.#stream = stream;
    this.hello = hello;
  }

  get signal(): AbortSignal {
    return this.#end.signal;
  }

  async send(frame: DownFrame): Promise<void> {
    await this.#stream.send({ frame });
  }

  /** Ends it from the center's side; with an error, as a failure. */
  end(error?: MusterError): void {
    this.#end.abort(error ?? null);
  }

  /** The values of every frame of one kind. */
  all<C extends UpCase>(kind: C): ValueOf<C>[] {
    return this.frames.flatMap(({ frame }) => (frame?.$case === kind ? [frame.value as ValueOf<C>] : []));
  }

  async awaited<C extends UpCase>(kind: C, match: (value: ValueOf<C>) => boolean = () => true): Promise<ValueOf<C>> {
    await until(`a frame "${kind}"`, () => this.all(kind).some(match));
    const found = this.all(kind).find(match);
    if (!found) throw new Error(`no frame "${kind}"`);
    return found;
  }
}

export type HelloAnswer = DownFrame | 'silence' | undefined;

export interface FakeCenterOptions {
  readonly authority?: Authority;
  /** Port to listen on; a free one unless said. */
  readonly port?: number;
  readonly heartbeatMs?: number;
  readonly handlers?: Partial<CenterHandlers>;
  /** What to answer a hello with instead of a welcome; may throw, and may take its time. */
  readonly onHello?: (hello: Hello, context: CallContext) => HelloAnswer | Promise<HelloAnswer>;
}

/** A center that takes in every agent and does what the test says. */
export class FakeCenter {
  readonly authority: Authority;
  readonly sessions: FakeSession[] = [];
  readonly uploads: UploadOutputRequest[] = [];
  onHello: FakeCenterOptions['onHello'];
  readonly #server: RpcServer;
  readonly #heartbeatMs: number;
  #bound: Bound | undefined;

  private constructor(authority: Authority, options: FakeCenterOptions) {
    this.authority = authority;
    this.onHello = options.onHello;
    this.#heartbeatMs = options.heartbeatMs ?? 200;
    const unimplemented = Object.fromEntries(
      Object.keys(CenterService).map((name) => [name, () => Promise.reject(new MusterError('unimplemented', name))]),
    ) as Partial<CenterHandlers> as CenterHandlers;
    this.#server = new RpcServer({
      services: [
        implement(CenterService, {
          ...unimplemented,
          connect: (stream, context) => this.#serve(stream, context),
          uploadOutput: async (requests) => {
            for await (const request of requests) this.uploads.push(request);
            return {};
          },
          ...options.handlers,
        }),
      ],
      authorize: () => undefined,
      logger: silentLogger,
    });
  }

  static async start(t: TestContext, options: FakeCenterOptions = {}): Promise<FakeCenter> {
    const center = new FakeCenter(options.authority ?? (await createAuthority()), options);
    const identity = new IdentityHolder(await center.issue({ principal: { kind: 'center', name: 'main' } }));
    t.after(() => center.#server.drain(0));
    center.#bound = await center.#server.listen({ kind: 'tls', host: '127.0.0.1', port: options.port ?? 0, identity });
    return center;
  }

  get port(): number {
    return this.#bound?.port ?? 0;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  issue(options: LeafOptions): Promise<Identity> {
    return this.authority.issue(options);
  }

  /** The session of that number, from 0, once it is there. */
  async session(index = 0): Promise<FakeSession> {
    await until(`session ${index}`, () => this.sessions.length > index);
    const session = this.sessions[index];
    if (!session) throw new Error(`no session ${index}`);
    return session;
  }

  /** Ends every call and listens no more. */
  stop(): Promise<void> {
    return this.#server.drain(0);
  }

  async #serve(stream: Duplex<ConnectResponse, ConnectRequest>, context: CallContext): Promise<void> {
    const frames = stream[Symbol.asyncIterator]();
    const first = (await frames.next()) as IteratorResult<ConnectRequest, undefined>;
    if (first.value?.frame?.$case !== 'hello') throw new MusterError('invalid', 'no hello');
    const session = new FakeSession(stream, first.value.frame.value);
    session.frames.push(first.value);
    const answer = await this.onHello?.(session.hello, context);
    if (answer === 'silence')
      await new Promise((resolve) => {
        context.signal.addEventListener('abort', resolve);
      });
    if (answer && answer !== 'silence') {
      await stream.send({ frame: answer });
      return;
    }
    await session.send({ $case: 'welcome', value: this.#welcome() });
    this.sessions.push(session);
    const ended = new Promise<void>((resolve, reject) => {
      session.signal.addEventListener('abort', () => {
        const reason: unknown = session.signal.reason;
        if (reason instanceof MusterError) reject(reason);
        else resolve();
      });
    });
    await Promise.race([ended, this.#receive(session, frames)]);
  }

  async #receive(session: FakeSession, frames: AsyncIterator<ConnectRequest>): Promise<void> {
    try {
      for (;;) {
        const next = await frames.next();
        if (next.done) break;
        session.frames.push(next.value);
        if (next.value.frame?.$case === 'goodbye') session.ended = 'goodbye';
      }
      session.ended ??= 'ended';
    } catch {
      session.ended ??= 'lost';
    }
  }

  #welcome(): Extract<DownFrame, { $case: 'welcome' }>['value'] {
    return {
      session: `s-${this.sessions.length}`,
      heartbeatInterval: { seconds: 0, nanos: this.#heartbeatMs * 1e6 },
      centerVersion: '0.0.0',
      now: new Date(),
      site: this.authority.site,
      machineName: 'web-1',
      returnWithin: undefined,
    };
  }
}
