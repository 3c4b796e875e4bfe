import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { userInfo, hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { CenterService, CreateTokenRequest, type TokenKind } from '../../../generated/muster/v1/center.js';
import { sleep } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { isCode, MusterError } from '../../kit/errors.js';
import { makeDirectory } from '../../kit/files.js';
import { aborted, runTasks } from '../../kit/tasks.js';
import { adminSocket, PORTS } from '../../model/places.js';
import { createClient, openChannel } from '../../rpc/client.js';
import type { Client } from '../../rpc/types.js';
import type { Io } from '../io.js';
import { Output } from '../output.js';
import { Child, runToEnd } from './child.js';
import { linkLibraries, placeSample } from './sample.js';
import { watchScreen } from './screen.js';

export interface DevOptions {
  readonly data: string;
  readonly json: boolean;
}

/** Of the queue, in the site. */
const QUEUE_NAME = 'dev';
/** How long a part may take to answer for the first time. */
const READY_DEADLINE_MS = 60_000;
const POLL_MS = 100;
const ALONE_DEADLINE_MS = 2000;
/** A child that ends sooner than this after its start did not run well. */
const QUICK_END_MS = 10_000;
const QUICK_ENDS_MAX = 3;
const RESTART_PAUSE_MS = 500;
/** Longer than any service's grace in the sample; an agent stops its services first. */
const STOP_GRACE_MS = 60_000;

interface Places {
  readonly center: string;
  readonly queue: string;
  readonly agent: string;
  readonly manifests: string;
  readonly log: (name: string) => string;
}

function placesOf(data: string): Places {
  return {
    center: join(data, 'center'),
    queue: join(data, 'queue'),
    agent: join(data, 'agent'),
    manifests: join(data, 'manifests'),
    log: (name) => join(data, `${name}.log`),
  };
}

/** The wanted port where it is free, else any. */
function freePort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', () => {
      if (wanted === 0) reject(new MusterError('unavailable', 'no free port on 127.0.0.1'));
      else freePort(0).then(resolve, reject);
    });
    probe.listen(wanted, '127.0.0.1', () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : wanted;
      probe.close(() => {
        resolve(port);
      });
    });
  });
}

/** Waits until the center answers on its admin socket. */
async function centerAnswers(io: Io, child: Child, center: Client<typeof CenterService>): Promise<void> {
  const deadlineMs = io.clock.monotonic() + READY_DEADLINE_MS;
  for (;;) {
    if (!child.running) throw await child.failure();
    try {
      await center.getStatus({}, { timeoutMs: 1000 });
      return;
    } catch (error) {
      if (!isCode(error, 'unavailable', 'deadline') || io.clock.monotonic() > deadlineMs) throw error;
    }
    await sleep(io.clock, POLL_MS, io.signal);
  }
}

/** Who joins the center, each with a token of its own kind. */
interface Joiner {
  readonly part: 'agent' | 'queue';
  readonly kind: TokenKind;
  readonly name: string;
  readonly data: string;
}

function joinersOf(places: Places): Joiner[] {
  const machine = hostname().split('.')[0] ?? 'localhost';
  return [
    { part: 'queue', kind: 'TOKEN_KIND_QUEUE', name: QUEUE_NAME, data: places.queue },
    { part: 'agent', kind: 'TOKEN_KIND_AGENT', name: machine, data: places.agent },
  ];
}

async function joinOnce(places: Places, address: string, center: Client<typeof CenterService>): Promise<void> {
  for (const { part, kind, name, data } of joinersOf(places)) {
    if (existsSync(join(data, 'identity', 'cert.pem'))) continue;
    const { token } = await center.createToken(CreateTokenRequest.fromPartial({ kind }));
    await runToEnd(
      `joining the ${part}`,
      [part, 'join', address, '--token', token, '--name', name, '--data', data],
      places.log('join'),
    );
  }
}

/** Starts a child again when it ends although nobody asked, as a service manager would; one that keeps ending ends the session. */
async function keep(io: Io, output: Output, child: Child, signal: AbortSignal): Promise<void> {
  let quickEnds = 0;
  for (;;) {
    const startedMs = io.clock.monotonic();
    const how = await Promise.race([child.ended, aborted(signal)]);
    if (how === undefined || signal.aborted) return;
    quickEnds = io.clock.monotonic() - startedMs < QUICK_END_MS ? quickEnds + 1 : 0;
    if (quickEnds >= QUICK_ENDS_MAX) throw await child.failure();
    await output.line(`the ${child.name} ${how}; it is started again`);
    await sleep(io.clock, RESTART_PAUSE_MS, signal);
    child.restart();
  }
}

/** @throws precondition when a session with the same data runs already */
async function assertAlone(center: Client<typeof CenterService>, data: string): Promise<void> {
  try {
    await center.getStatus({}, { timeoutMs: ALONE_DEADLINE_MS });
  } catch (error) {
    // Nobody answers on the socket: that is what is wanted here.
    if (isCode(error, 'unavailable', 'deadline')) return;
    throw error;
  }
  throw new MusterError(
    'precondition',
    `"muster dev" runs already with its data in ${data}: use it from here ("muster services"), or start another with --data DIRECTORY`,
  );
}

async function stopAll(io: Io, output: Output, children: readonly Child[]): Promise<void> {
  if (children.length === 0) return;
  await output.line(`stopping ${children.map((child) => child.name).join(', then ')} ...`);
  for (const child of children) {
    if (await child.stop(io.clock, STOP_GRACE_MS)) continue;
    await output.note(`the ${child.name} did not end within ${formatDuration(STOP_GRACE_MS)} and was ended by force`);
  }
}

/**
 * Runs a center, a queue and an agent as processes of their own, with the sample service, until the signal aborts; then ends all of them,
 * services first. What they knew stays in `data`.
 */
export async function runDev(io: Io, options: DevOptions): Promise<void> {
  const output = new Output(io, options);
  const data = resolve(options.data);
  const places = placesOf(data);
  const channel = openChannel({ address: `unix:${adminSocket(places.center)}` });
  const children: Child[] = [];
  try {
    const center = createClient(CenterService, channel);
    await assertAlone(center, data);
    await makeDirectory(data, 0o711);
    await placeSample(places.manifests);
    await linkLibraries(data);
    const address = `127.0.0.1:${await freePort(PORTS.centerGrpc)}`;
    const centerChild = await startCenter(places, address);
    children.unshift(centerChild);
    await centerAnswers(io, centerChild, center);
    await joinOnce(places, address, center);
    const queueAddress = `127.0.0.1:${await freePort(PORTS.queueGrpc)}`;
    children.unshift(await startQueue(places, address, queueAddress));
    children.unshift(await startAgent(places, address));
    await runTasks(io.signal, [
      ...children.map((child) => (signal: AbortSignal) => keep(io, output, child, signal)),
      (signal) => watchScreen({ io, output, center, data, queue: queueAddress, signal }),
    ]);
  } catch (error) {
    if (!io.signal.aborted) throw error;
  } finally {
    channel.close();
    await stopAll(io, output, children);
  }
  await output.line(`stopped: nothing is left running; what it knew is kept in ${data}`);
}

function startCenter(places: Places, address: string): Promise<Child> {
  return Child.start({
    name: 'center',
    args: ['center', '--data', places.center, '--listen', address],
    log: places.log('center'),
  });
}

function startQueue(places: Places, center: string, address: string): Promise<Child> {
  return Child.start({
    name: 'queue',
    args: ['queue', '--data', places.queue, '--listen', address, '--center', center, '--auto-create-topics'],
    log: places.log('queue'),
  });
}

async function startAgent(places: Places, address: string): Promise<Child> {
  const ports = { grpc: await freePort(PORTS.agentGrpc), http: await freePort(PORTS.agentHttp) };
  return Child.start({
    name: 'agent',
    args: [
      'agent',
      ...['--data', places.agent],
      ...['--services', places.manifests],
      ...['--center', address],
      // In a development session services run as the developer, who is root only by their own choice.
      ...['--default-user', userInfo().username],
      ...['--grpc-port', String(ports.grpc), '--http-port', String(ports.http)],
      '--stop-services-on-exit',
    ],
    log: places.log('agent'),
  });
}
