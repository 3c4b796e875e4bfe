import { MusterError } from '../../kit/errors.js';
import { PORTS } from '../../model/places.js';
import { parseAddress } from '../../rpc/addresses.js';

/** Where the network is meant, of an address as people type it. @throws invalid */
export function hostAndPort(text: string, defaultPort: number): { host: string; port: number } {
  const address = parseAddress(text, defaultPort);
  if (address.kind === 'tcp') return { host: address.host, port: address.port };
  throw new MusterError(
    'invalid',
    `"${text}" is a socket file: write HOST:PORT, for example 0.0.0.0:${PORTS.queueGrpc}`,
    {
      reason: 'USAGE',
    },
  );
}
