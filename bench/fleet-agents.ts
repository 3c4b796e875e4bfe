/**
 * Simulated agents of bench/fleet.ts, in a process of their own so that the center's figures are its own: each joins with a token, has its own key,
 * certificate and TLS connection, says hello, beats at the interval it is told, and returns with full jitter. With SERVICE it reports an instance of that
 * service, and takes commands as an agent does: it starts an id once, reports the start, the instance as it goes down and up, and the end until it is acknowledged.
 * Usage: fleet-agents.ts ADMIN_SOCKET CENTER_ADDRESS COUNT [SERVICE]
 * Prints one JSON object a line: {"joined":N} once, then {"live":N,"missed":N,"started":N,"twice":N} every half second.
 */
import {
  CenterService,
  type CommandOrder,
  CommandUpdate,
  type ConnectRequest,
  CreateTokenRequest,
} from '../generated/muster/v1/center.js';
import { Instance } from '../generated/muster/v1/types.js';
import { certificateRequest, generateKey } from '../src/rpc/certificate-request.js';
import { Backoff } from '../src/kit/backoff.js';
import { sleep, systemClock } from '../src/kit/clock.js';
import { systemRandom } from '../src/kit/random.js';
import { createClient, openChannel } from '../src/rpc/client.js';
import { IdentityHolder } from '../src/rpc/identity.js';
import { fromDuration } from '../src/wire/time.js';

const [adminSocket = '', address = '', countText = '1000', service = ''] = process.argv.slice(2);
const count = Number(countText);
const JOINS_AT_ONCE = 8;

const state = { live: 0, missed: 0, started: 0, twice: 0 };
/** Ids of commands that were started, by any agent. */
const startedIds = new Set<string>();

async function join(name: string): Promise<IdentityHolder> {
  const admin = createClient(CenterService, adminChannel);
  const { token } = await admin.createToken(CreateTokenRequest.fromPartial({ kind: 'TOKEN_KIND_AGENT' }));
  const key = await generateKey();
  const answer = await admin.join({
    token,
    certificateRequest: Buffer.from(certificateRequest(key)),
    name,
    labels: { role: 'bench' },
    now: new Date(systemClock.now()),
  });
  return new IdentityHolder({
    certificatePem: answer.certificate,
    privateKeyPem: key,
    caPem: answer.ca,
    site: answer.site,
  });
}

type Send = (frame: ConnectRequest['frame']) => Promise<void>;
/** A third of how long a command takes at most, milliseconds. */
const RUNS_MS = 60;

class Agent {
  readonly #name: string;
  readonly #identity: IdentityHolder;
  /** Commands whose end was not acknowledged, by id. */
  readonly #journal = new Map<string, CommandUpdate>();
  #send: Send = () => Promise.resolve();
  #epoch = 0;

  constructor(name: string, identity: IdentityHolder) {
    this.#name = name;
    this.#identity = identity;
  }

  async run(): Promise<never> {
    // As the agent's link does; the first round before a welcome is spread as the bench needs it.
    const backoff = new Backoff({ initialMs: count * 10, maxMs: 20_000, multiplier: 2 }, systemRandom);
    const channel = openChannel({ address, tls: { identity: this.#identity }, connectTimeoutMs: 30_000 });
    const center = createClient(CenterService, channel);
    for (;;) {
      await sleep(systemClock, backoff.next());
      try {
        await this.#session(center, () => {
          backoff.reset();
        });
      } catch {
        // The center is away: that is what is measured.
      }
    }
  }

  async #session(center: ReturnType<typeof createClient<typeof CenterService>>, welcomed: () => void): Promise<void> {
    const stream = center.connect();
    const ended = new AbortController();
    let sequence = 0;
    const send: Send = (frame) => {
      sequence += 1;
      return stream.send({ sequence, frame });
    };
    this.#epoch += 1;
    await send({
      $case: 'hello',
      value: {
        bootId: `boot-${this.#name}`,
        sessionEpoch: this.#epoch,
        agentVersion: '0.1.0',
        capabilities: [],
        held: [],
        commands: [...this.#journal.values()],
        now: new Date(systemClock.now()),
        name: this.#name,
        processId: `process-${this.#name}`,
      },
    });
    let live = false;
    try {
      for await (const message of stream) {
        if (message.frame?.$case === 'command') void this.#run(message.frame.value);
        if (message.frame?.$case === 'commandAck') this.#journal.delete(message.frame.value.command);
        if (message.frame?.$case !== 'welcome') continue;
        this.#send = send;
        await this.#reportAll();
        live = true;
        state.live += 1;
        welcomed();
        const intervalMs = fromDuration(message.frame.value.heartbeatInterval) ?? 10_000;
        void this.#beat(send, intervalMs, ended.signal);
      }
    } finally {
      ended.abort(new Error('the session is over'));
      if (live) state.live -= 1;
    }
  }

  async #reportAll(): Promise<void> {
    if (service !== '') await this.#report('SERVICE_STATE_RUNNING');
    const end = { instance: undefined, removed: false, fullReportEnd: true };
    await this.#send({ $case: 'instanceState', value: end });
  }

  async #report(serviceState: Instance['state']): Promise<void> {
    const instance = Instance.fromPartial({ service, version: '1.0.0', state: serviceState, pid: 42, wanted: true });
    await this.#send({ $case: 'instanceState', value: { instance, removed: false, fullReportEnd: false } });
  }

  async #run({ command, action, service: name }: CommandOrder): Promise<void> {
    if (this.#journal.has(command)) return;
    if (startedIds.has(command)) state.twice += 1;
    startedIds.add(command);
    state.started += 1;
    const update = CommandUpdate.fromPartial({ command, action, service: name, outcome: 'OUTCOME_STARTED' });
    await this.#update({ ...update, started: new Date(systemClock.now()) });
    for (const next of ['SERVICE_STATE_STOPPING', 'SERVICE_STATE_STARTING', 'SERVICE_STATE_RUNNING'] as const) {
      await sleep(systemClock, systemRandom.next() * RUNS_MS);
      await this.#report(next).catch(() => undefined);
    }
    await this.#update({ ...update, outcome: 'OUTCOME_SUCCEEDED', ended: new Date(systemClock.now()) });
  }

  async #update(update: CommandUpdate): Promise<void> {
    this.#journal.set(update.command, update);
    // What is not told now is told with the next hello.
    await this.#send({ $case: 'commandUpdate', value: update }).catch(() => undefined);
  }

  async #beat(send: Send, intervalMs: number, signal: AbortSignal): Promise<void> {
    try {
      // As the agent does: a random phase, so that a fleet does not beat in step.
      await sleep(systemClock, systemRandom.next() * intervalMs, signal);
      for (;;) {
        const dueMs = systemClock.monotonic() + intervalMs;
        await send({ $case: 'heartbeat', value: { resources: RESOURCES, now: undefined } });
        if (systemClock.monotonic() > dueMs) state.missed += 1;
        await sleep(systemClock, Math.max(0, dueMs - systemClock.monotonic()), signal);
      }
    } catch {
      // The session has ended; run() goes on.
    }
  }
}

const RESOURCES = {
  load1: 0.42,
  load5: 0.4,
  load15: 0.38,
  cpuPercent: 12.5,
  memoryTotalBytes: 16e9,
  memoryUsedBytes: 5e9,
  swapUsedBytes: 0,
  networkReceiveBytesPerSecond: 12_000,
  networkSendBytesPerSecond: 9000,
  diskReadBytesPerSecond: 0,
  diskWriteBytesPerSecond: 40_000,
  dataFreeBytes: 80e9,
  dataTotalBytes: 250e9,
  uptime: { seconds: 86_400, nanos: 0 },
  agentMemoryBytes: 70e6,
  agentCpuPercent: 0.4,
};

const adminChannel = openChannel({ address: `unix:${adminSocket}` });
const agents: Agent[] = [];
let next = 0;
await Promise.all(
  Array.from({ length: JOINS_AT_ONCE }, async () => {
    while (next < count) {
      const name = `bench-${next}`;
      next += 1;
      agents.push(new Agent(name, await join(name)));
    }
  }),
);
process.stdout.write(`${JSON.stringify({ joined: agents.length })}\n`);
for (const agent of agents) void agent.run();
for (;;) {
  await sleep(systemClock, 500);
  process.stdout.write(`${JSON.stringify(state)}\n`);
}
