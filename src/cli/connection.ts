import type { Client } from '../rpc/types.js';
import type { Channel } from '../rpc/client.js';
import { createClient, openChannel } from '../rpc/client.js';
import { AgentService } from '../../generated/muster/v1/agent.js';
import { CenterService } from '../../generated/muster/v1/center.js';
import { agentTarget, centerTarget, type Target } from './context.js';
import type { GlobalOptions, Io } from './io.js';

/** A channel to what the target names. */
async function openTarget(io: Io, target: Target): Promise<Channel> {
  if (target.kind === 'socket') return openChannel({ address: `unix:${target.path}` });
  const { openContext } = await import('./operator-identity.js');
  return openContext(io, target);
}

/** Runs `work` with a channel to the target and closes it after. */
export async function withTargetChannel<T>(io: Io, target: Target, work: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = await openTarget(io, target);
  try {
    return await work(channel);
  } finally {
    channel.close();
  }
}

/** Runs `work` with a channel to the center. */
export async function withCenterChannel<T>(
  io: Io,
  options: GlobalOptions,
  work: (channel: Channel) => Promise<T>,
): Promise<T> {
  return withTargetChannel(io, await centerTarget(io, options), work);
}

/** Runs `work` with the center's client. */
export function withCenter<T>(
  io: Io,
  options: GlobalOptions,
  work: (center: Client<typeof CenterService>) => Promise<T>,
): Promise<T> {
  return withCenterChannel(io, options, (channel) => work(createClient(CenterService, channel)));
}

/** Runs `work` with this machine's agent. */
export async function withAgent<T>(
  io: Io,
  options: GlobalOptions,
  work: (agent: Client<typeof AgentService>) => Promise<T>,
): Promise<T> {
  return withTargetChannel(io, agentTarget(io, options), (channel) => work(createClient(AgentService, channel)));
}
