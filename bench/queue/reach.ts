import { once } from 'node:events';
import { createConnection, createServer, type AddressInfo, type Socket } from 'node:net';

/** Connects to `host:port` or `unix:/path`. @throws when nothing listens there */
export async function reach(address: string): Promise<Socket> {
  const [host = '', port = ''] = address.split(':');
  const socket = createConnection(host === 'unix' ? { path: port } : { host, port: Number(port), noDelay: true });
  try {
    await once(socket, 'connect');
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return socket;
}

/** Resolves when something listens there. @throws when nothing does */
export async function connectable(address: string): Promise<void> {
  (await reach(address)).destroy();
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
