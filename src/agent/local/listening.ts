import { isCode } from '../../kit/errors.js';
import type { Logger } from '../../kit/logger.js';
import type { Secret } from '../../kit/secret.js';
import { agentSocket, agentTokenFile } from '../../model/places.js';
import type { Principal } from '../../rpc/principal.js';
import type { RpcServer } from '../../rpc/server.js';
import { loopbackToken } from './token.js';

export interface LocalListeningOptions {
  /** The agent's data directory; `run` in it is there. */
  readonly data: string;
  /** Ports on 127.0.0.1; 0 takes a free one. Left out: not there. */
  readonly loopbackGrpc?: number;
  readonly loopbackHttp?: number;
  readonly logger: Logger;
}

/** Where people reach the agent. */
export interface LocalListening {
  /** The operator's unix socket. */
  readonly socket: string;
  /** Holds the token of the loopback ports. */
  readonly tokenFile: string;
  /** Undefined: not listening there. */
  readonly loopbackGrpc: number | undefined;
  readonly loopbackHttp: number | undefined;
}

const OPERATOR: Principal = { kind: 'operator', name: 'local' };

/**
 * Opens the operator's socket and the loopback ports. A port that is taken is said and done without, since several agents
 * may share a machine.
 * @throws as RpcServer.listen for the socket
 */
export async function listenLocally(server: RpcServer, options: LocalListeningOptions): Promise<LocalListening> {
  const { data, logger } = options;
  const socket = agentSocket(data);
  const tokenFile = agentTokenFile(data);
  await server.listen({ kind: 'unix', path: socket, mode: 0o600, principal: OPERATOR });
  const token = await loopbackToken(tokenFile);
  return {
    socket,
    tokenFile,
    loopbackGrpc: await loopback(server, { port: options.loopbackGrpc, token, logger }),
    loopbackHttp: await loopback(server, { port: options.loopbackHttp, token, logger }),
  };
}

async function loopback(
  server: RpcServer,
  { port, token, logger }: { port: number | undefined; token: Secret; logger: Logger },
): Promise<number | undefined> {
  if (port === undefined) return undefined;
  try {
    return (await server.listen({ kind: 'loopback', port, token, principal: OPERATOR })).port;
  } catch (error) {
    if (!isCode(error, 'precondition')) throw error;
    logger.warn(`${error.message}. The agent goes on with its unix sockets`, { port });
    return undefined;
  }
}
