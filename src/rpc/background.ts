import type { ChannelCredentials } from '@grpc/grpc-js';
import type { Socket } from 'node:net';

/** What grpc-js asks of credentials for each connection it makes; not part of its published types. */
interface Connector {
  connect(socket: Socket): Promise<unknown>;
}

function isFunction(value: unknown): value is (...args: unknown[]) => unknown {
  return typeof value === 'function';
}

/**
 * The same credentials, on connections that alone do not keep the process alive, open calls or not. grpc-js has no such option, so this
 * reaches into it (credentials → secure connector → socket); where that has changed, connections keep the process alive as usual.
 */
export function detached(credentials: ChannelCredentials): ChannelCredentials {
  const make: unknown = Reflect.get(credentials, '_createSecureConnector');
  if (!isFunction(make)) return credentials;
  const wrapped = (...args: unknown[]): unknown => {
    const connector = make.apply(credentials, args) as Connector;
    return {
      ...connector,
      connect: (socket: Socket) => {
        // HTTP/2 sessions of grpc-js take and give up references as calls come and go; this socket has none to give.
        socket.unref();
        socket.ref = () => socket;
        return connector.connect(socket);
      },
    };
  };
  Reflect.set(credentials, '_createSecureConnector', wrapped);
  return credentials;
}
