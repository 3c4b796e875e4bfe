import type { CenterService } from '../../../generated/muster/v1/center.js';
import type { Handlers } from '../../rpc/types.js';
import type { Gateway } from './gateway.js';

export type GatewayHandlers = Pick<Handlers<typeof CenterService>, 'connect'>;

/** The agents' stream. */
export function gatewayHandlers(gateway: Gateway): GatewayHandlers {
  return { connect: (stream, context) => gateway.serve(stream, context) };
}
