import { connect } from 'node:net';
import { errnoOf, messageOf } from '../../kit/errors.js';
import type { Answer, Probe } from './answer.js';

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:8080`, `[::1]:8080`. */
export function shownAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** What kept a connection from being made, in words. */
export function connectionFailure(error: unknown, address: Address): string {
  const where = shownAddress(address);
  switch (errnoOf(error) ?? '') {
    case 'ECONNREFUSED':
      return `${where} refused the connection: nothing listens there`;
    case 'ECONNRESET':
      return `${where} closed the connection before it answered`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `${where}: no such host`;
    default:
      return `${where}: ${messageOf(error)}`;
  }
}

/** Passes when a connection is accepted. */
export function tcpProbe(address: Address): Probe {
  return (signal) =>
    new Promise<Answer>((resolve, reject) => {
      signal.throwIfAborted();
      const socket = connect({ host: address.host, port: address.port });
      let answer: Answer | undefined;
      const onAbort = (): void => {
        socket.destroy();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      socket.on('connect', () => {
        answer ??= { verdict: 'pass', output: `${shownAddress(address)} accepts connections` };
        socket.destroy();
      });
      socket.on('error', (error) => {
        answer ??= { verdict: 'fail', output: connectionFailure(error, address) };
      });
      socket.on('close', () => {
        signal.removeEventListener('abort', onAbort);
        if (answer) resolve(answer);
        else reject(signal.reason as Error);
      });
    });
}
