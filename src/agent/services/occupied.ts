import { readFile } from 'node:fs/promises';
import type { ManifestPort } from '../../model/manifest.js';
import { holderOfSocket } from './proc.js';

/** Ports that another process listens on. */

const LISTEN = '0A';
const ANY_ADDRESS = /^0+$/;

interface Listener {
  /** As the kernel prints it: hexadecimal, 32-bit groups in the machine's byte order. */
  readonly address: string;
  readonly port: number;
  readonly inode: string;
}

/** The listening sockets in the text of /proc/net/tcp or tcp6. */
export function parseListeners(text: string): Listener[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [address, port] = (fields[1] ?? '').split(':');
      if (fields[3] !== LISTEN || address === undefined || port === undefined) return [];
      return [{ address, port: Number.parseInt(port, 16), inode: fields[9] ?? '' }];
    });
}

/** An IPv4 address as /proc/net/tcp prints it on a little-endian machine; undefined for anything else. */
function kernelAddress(host: string): string | undefined {
  const parts = host.split('.').map(Number);
  if (parts.length !== 4 || !parts.every((part) => Number.isInteger(part) && part >= 0 && part < 256)) return undefined;
  return parts
    .reverse()
    .map((part) => part.toString(16).padStart(2, '0').toUpperCase())
    .join('');
}

/** Says which of the ports are taken and by whom; empty when all are free. */
export async function describeOccupied(ports: readonly ManifestPort[]): Promise<string> {
  if (ports.length === 0) return '';
  const texts = await Promise.all(
    ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  const listeners = texts.flatMap(parseListeners);
  const taken: string[] = [];
  for (const port of ports) {
    const address = kernelAddress(port.host);
    const by = listeners.find(
      (one) => one.port === port.port && (ANY_ADDRESS.test(one.address) || one.address === address),
    );
    if (!by) continue;
    const holder = await holderOfSocket(by.inode);
    taken.push(
      `port ${port.name} (${port.port}) is taken by ${holder ? `${holder.name} (pid ${holder.pid})` : 'another process'}`,
    );
  }
  return taken.join(', ');
}
