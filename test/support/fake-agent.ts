import type { TestContext } from 'node:test';
import {
  CenterService,
  Hello,
  JoinRequest,
  type ConnectRequest,
  type ConnectResponse,
} from '../../generated/muster/v1/center.js';
import { Instance } from '../../generated/muster/v1/types.js';
import { newId } from '../../src/kit/ids.js';
import { certificateRequest, generateKey } from '../../src/rpc/certificate-request.js';
import { createClient, openChannel, type Channel } from '../../src/rpc/client.js';
import { IdentityHolder } from '../../src/rpc/identity.js';
import type { Client, ClientDuplex } from '../../src/rpc/types.js';
import { waitFor } from './waiting.js';

type UpFrame = NonNullable<ConnectRequest['frame']>;
type DownFrame = NonNullable<ConnectResponse['frame']>;
type DownCase = DownFrame['$case'];
type ValueOf<C extends DownCase> = Extract<DownFrame, { $case: C }>['value'];

/** One stream to the center that does exactly what a test says. */
export class AgentStream {
  readonly received: DownFrame[] = [];
  /** Set once the center ended the stream; `error` is undefined after an ending without failure. */
  ended: { readonly error: unknown } | undefined;
  readonly #call: ClientDuplex<ConnectRequest, ConnectResponse>;
  #sequence = 0;

  constructor(call: ClientDuplex<ConnectRequest, ConnectResponse>) {
    this.#call = call;
    void this.#read();
  }

  /** @throws as Duplex.send */
  async send(frame: UpFrame, sequence = this.#sequence + 1): Promise<void> {
    this.#sequence = sequence;
    await this.#call.send({ sequence, frame });
  }

  async report(instance: Partial<Instance>): Promise<void> {
    const value = { instance: Instance.fromPartial(instance), removed: false, fullReportEnd: false };
    await this.send({ $case: 'instanceState', value });
  }

  async endFullReport(): Promise<void> {
    await this.send({ $case: 'instanceState', value: { instance: undefined, removed: false, fullReportEnd: true } });
  }

  async beat(now?: Date): Promise<void> {
    await this.send({ $case: 'heartbeat', value: { resources: undefined, now } });
  }

  all<C extends DownCase>(kind: C): ValueOf<C>[] {
    return this.received.flatMap((frame) => (frame.$case === kind ? [frame.value as ValueOf<C>] : []));
  }

  async awaited<C extends DownCase>(kind: C, match: (value: ValueOf<C>) => boolean = () => true): Promise<ValueOf<C>> {
    const { found } = await waitFor(`a frame "${kind}"`, () => {
      const first = this.all(kind).find(match);
      if (first) return { found: first };
      if (this.ended) throw new Error(`the stream ended: ${String(this.ended.error)}`);
      return undefined;
    });
    return found;
  }

  /** Why the center ended the stream. */
  async failure(): Promise<unknown> {
    const { error } = await waitFor('the end of the stream', () => this.ended);
    return error;
  }

  /** Says goodbye. */
  async leave(): Promise<void> {
    await this.send({ $case: 'goodbye', value: { reason: 'test' } });
    await this.failure();
  }

  /** The connection goes away without a word. */
  cut(): void {
    this.#call.cancel();
  }

  async #read(): Promise<void> {
    try {
      for await (const { frame } of this.#call) if (frame) this.received.push(frame);
      this.ended = { error: undefined };
    } catch (error) {
      this.ended = { error };
    }
  }
}

export interface Identified {
  readonly machine: string;
  readonly identity: IdentityHolder;
  readonly site: string;
}

/** Joins as an agent does, over TLS without a client certificate. */
export async function joinAs(
  address: string,
  wish: { token: string; name: string; labels?: Record<string, string>; now?: Date; caPem: string },
): Promise<Identified> {
  const channel = openChannel({ address, tls: { caPem: wish.caPem } });
  try {
    const key = await generateKey();
    const answer = await createClient(CenterService, channel).join(
      JoinRequest.fromPartial({
        token: wish.token,
        name: wish.name,
        labels: wish.labels ?? {},
        now: wish.now ?? new Date(),
        certificateRequest: Buffer.from(certificateRequest(key)),
      }),
    );
    const identity = new IdentityHolder({
      certificatePem: answer.certificate,
      privateKeyPem: key,
      caPem: answer.ca,
      site: answer.site,
    });
    return { machine: answer.machine, identity, site: answer.site };
  } finally {
    channel.close();
  }
}

/** An agent without services of its own: a real identity and real streams, and nothing that happens by itself. */
export class FakeAgent {
  readonly machine: string;
  readonly name: string;
  readonly client: Client<typeof CenterService>;
  readonly channel: Channel;
  readonly identity: IdentityHolder;
  processId = newId('p');
  epoch = 0;

  constructor(t: TestContext, address: string, name: string, identified: Identified) {
    this.machine = identified.machine;
    this.identity = identified.identity;
    this.name = name;
    this.channel = openChannel({ address, tls: { identity: identified.identity } });
    this.client = createClient(CenterService, this.channel);
    t.after(() => {
      this.channel.close();
    });
  }

  /** Opens a stream and says hello; resolves without waiting for the welcome. */
  async open(hello: Partial<Hello> = {}): Promise<AgentStream> {
    this.epoch = hello.sessionEpoch ?? this.epoch + 1;
    const stream = new AgentStream(this.client.connect());
    const value = Hello.fromPartial({
      bootId: 'boot',
      agentVersion: '0.0.0',
      name: this.name,
      now: new Date(),
      processId: this.processId,
      ...hello,
      sessionEpoch: this.epoch,
    });
    await stream.send({ $case: 'hello', value });
    return stream;
  }

  /** As open, and waits until the center has taken the machine in. */
  async connect(hello: Partial<Hello> = {}): Promise<AgentStream> {
    const stream = await this.open(hello);
    await stream.awaited('welcome');
    return stream;
  }
}
