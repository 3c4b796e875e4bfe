import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { userInfo, hostname } from 'node:os';
import { join } from 'node:path';
import { CenterService, CreateTokenRequest } from '../../../generated/muster/v1/center.js';
import { sleep } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { aborted, runTasks } from '../../kit/tasks.js';
import { adminSocket, PORTS } from '../../model/places.js';
import { createClient, openChannel } from '../../rpc/client.js';
import type { Client } from '../../rpc/types.js';
import type { Io } from '../io.js';
import { Output } from '../output.js';
import { Child, runToEnd } from './child.js';
import { placeSample } from './sample.js';
import { watchScreen } from './screen.js';

export interface DevOptions {
  readonly data: string;
  readonly json: boolean;
}

/** How long a part may take to answer for the first time. */
const READY_DEADLINE_MS = 60_000;
const POLL_MS = 100;
/** Longer than any service's grace in the sample; an agent stops its services first. */
const STOP_GRACE_MS = 60_000;

interface Places {
  readonly center: string;
  readonly agent: string;
  readonly manifests: string;
  readonly log: (name: string) => string;
}

function placesOf(data: string): Places {
  return {
    center: join(data, 'center'),
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

async function joinOnce(places: Places, address: string, center: Client<typeof CenterService>): Promise<void> {
  if (existsSync(join(places.agent, 'identity', 'cert.pem'))) return;
  const { token } = await center.createToken(CreateTokenRequest.fromPartial({ kind: 'TOKEN_KIND_AGENT' }));
  const name = hostname().split('.')[0] ?? 'localhost';
  await runToEnd(
    'joining this machine',
    ['agent', 'join', address, '--token', token, '--name', name, '--data', places.agent],
    places.log('join'),
  );
}

/** Fails as soon as one of the children ends although nobody asked. */
async function guard(children: readonly Child[], signal: AbortSignal): Promise<void> {
  const first = await Promise.race([...children.map((child) => child.ended.then(() => child)), aborted(signal)]);
  if (first instanceof Child) throw await first.failure();
}

async function stopAll(io: Io, output: Output, children: readonly Child[]): Promise<void> {
  await output.line(`stopping ${children.map((child) => child.name).join(', then ')} ...`);
  for (const child of children) {
    if (await child.stop(io.clock, STOP_GRACE_MS)) continue;
    await output.note(`the ${child.name} did not end within ${formatDuration(STOP_GRACE_MS)} and was ended by force`);
  }
}

/**
 * Runs a center and an agent as processes of their own, with the sample service, until the signal aborts; then ends all of them,
 * services first. What they knew stays in `data`.
 */
export async function runDev(io: Io, options: DevOptions): Promise<void> {
  const output = new Output(io, options);
  const places = placesOf(options.data);
  await mkdir(options.data, { recursive: true, mode: 0o711 });
  await placeSample(places.manifests);
  const address = `127.0.0.1:${await freePort(PORTS.centerGrpc)}`;
  const children: Child[] = [];
  const channel = openChannel({ address: `unix:${adminSocket(places.center)}` });
  try {
    const center = createClient(CenterService, channel);
    const centerChild = await Child.start(
      'center',
      ['center', '--data', places.center, '--listen', address],
      places.log('center'),
    );
    children.unshift(centerChild);
    await centerAnswers(io, centerChild, center);
    await joinOnce(places, address, center);
    children.unshift(await startAgent(places, address));
    await runTasks(io.signal, [
      (signal) => guard(children, signal),
      (signal) => watchScreen({ io, output, center, data: options.data, signal }),
    ]);
  } catch (error) {
    if (!io.signal.aborted) {
      await output.note(`muster dev ends: ${messageOf(error)}`);
      throw error;
    }
  } finally {
    channel.close();
    await stopAll(io, output, children);
  }
  await output.line(`stopped: nothing is left running; what it knew is kept in ${options.data}`);
}

async function startAgent(places: Places, address: string): Promise<Child> {
  return Child.start(
    'agent',
    [
      'agent',
      ...['--data', places.agent],
      ...['--services', places.manifests],
      ...['--center', address],
      // In a development session services run as the developer, who is root only by their own choice.
      ...['--default-user', userInfo().username],
      ...[
        '--grpc-port',
        String(await freePort(PORTS.agentGrpc)),
        '--http-port',
        String(await freePort(PORTS.agentHttp)),
      ],
      '--stop-services-on-exit',
    ],
    places.log('agent'),
  );
}
