import { isIP } from 'node:net';
import { MusterError } from '../kit/errors.js';

export type Address =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

const PORT_MAX = 65_535;
const UNIX_SCHEME = 'unix:';

/**
 * An address as people type it: `host:port`, `[::1]:port`, `unix:/path`, or, where there is a default port, a bare `host`.
 * @throws invalid
 */
export function parseAddress(text: string, defaultPort?: number): Address {
  if (text.startsWith(UNIX_SCHEME)) {
    const path = text.slice(UNIX_SCHEME.length);
    if (path.startsWith('/')) return { kind: 'unix', path };
    throw new MusterError('invalid', `"${text}" is not an address: write a socket as unix:/absolute/path`);
  }
  const { host, port = defaultPort } = isIP(text) === 6 ? { host: text } : splitHostPort(text);
  if (host === undefined || port === undefined || port > PORT_MAX) {
    throw new MusterError(
      'invalid',
      `"${text}" is not an address: write it as HOST:PORT, for example center.example:7400`,
    );
  }
  return { kind: 'tcp', host, port };
}

function splitHostPort(text: string): { host?: string | undefined; port?: number | undefined } {
  const found = /^(?:\[([^\]]+)\]|([^:[\]/\s]+))(?::(\d{1,5}))?$/.exec(text);
  return { host: found?.[1] ?? found?.[2], port: found?.[3] === undefined ? undefined : Number(found[3]) };
}

/** The address in the form parseAddress reads. */
export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `${UNIX_SCHEME}${address.path}`;
  return `${isIP(address.host) === 6 ? `[${address.host}]` : address.host}:${address.port}`;
}

/** Whether a host name or address can only mean this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}
