import { createHash, timingSafeEqual, type X509Certificate } from 'node:crypto';
import { connect, type TLSSocket } from 'node:tls';
import { systemClock, type Clock } from '../kit/clock.js';
import { MusterError, messageOf } from '../kit/errors.js';
import { formatAddress } from './addresses.js';
import { namedPrincipal, serverName } from './certificates.js';
import { explainConnectionFailure, type Target } from './connection-errors.js';
import { describePrincipal } from './principal.js';

const TIMEOUT_MS = 10_000;
/** A presented chain is the leaf and its CA, or little more. */
const CHAIN_MAX = 8;

/** The SHA-256 of a certificate's DER bytes, in lower-case hex: what a join token carries of the CA. */
export function certificateHash(certificate: X509Certificate): string {
  return createHash('sha256').update(certificate.raw).digest('hex');
}

/**
 * Finds the site's CA by its hash, knowing nothing else: takes the handshake of a center, sends no byte of its own, and
 * believes only a CA that has the hash and signed the center's certificate.
 * @param sha256 of the CA's DER, hex
 * @throws unavailable (no connection), unauthenticated (a fake center, or another site's)
 */
export async function fetchCaByHash(
  host: string,
  port: number,
  sha256: string,
  clock: Clock = systemClock,
): Promise<{ caPem: string; site: string }> {
  const target = { peer: 'the center', address: formatAddress({ kind: 'tcp', host, port }) };
  const chain = await presentedChain(host, port, target, clock);
  const [leaf] = chain;
  const ca = chain.find((certificate) => sameHash(certificateHash(certificate), sha256));
  if (!leaf || !ca) {
    throw fake(
      target,
      'its CA is not the one your token names. The token is of another site, or somebody stands in between: do not go on',
    );
  }
  if (!ca.ca || !leaf.checkIssued(ca) || !leaf.verify(ca.publicKey)) {
    throw fake(
      target,
      'it shows the right CA but its own certificate was not signed by it. Somebody pretends to be the center: do not go on',
    );
  }
  const { site, principal } = namedPrincipal(leaf);
  if (principal.kind !== 'center')
    throw fake(target, `it is ${describePrincipal(principal)}, not a center. Check the address`);
  return { caPem: ca.toString(), site };
}

function sameHash(actual: string, wanted: string): boolean {
  const [a, b] = [actual, wanted].map((hex) => Buffer.from(hex.toLowerCase().replaceAll(':', '')));
  return a !== undefined && b !== undefined && a.length === b.length && timingSafeEqual(a, b);
}

function fake({ peer, address }: Target, why: string): MusterError {
  return new MusterError('unauthenticated', `${peer} at ${address} cannot be trusted: ${why}`, {
    reason: 'FAKE_CENTER',
  });
}

function presentedChain(host: string, port: number, target: Target, clock: Clock): Promise<X509Certificate[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      servername: serverName('center'),
      ALPNProtocols: ['h2'],
      // Nothing is sent over this connection, and what it shows is judged by the hash alone.
      rejectUnauthorized: false,
    });
    const timer = clock.after(TIMEOUT_MS, () => {
      socket.destroy(new Error('ETIMEDOUT'));
    });
    socket.once('secureConnect', () => {
      resolve(chainOf(socket));
      socket.destroy();
    });
    socket.on('error', (error: Error) => {
      reject(
        explainConnectionFailure(`${String(Reflect.get(error, 'code'))} ${error.message}`, target) ??
          new MusterError('unavailable', `cannot reach ${target.peer} at ${target.address}: ${messageOf(error)}`, {
            cause: error,
          }),
      );
    });
    socket.once('close', () => {
      timer.cancel();
      reject(
        new MusterError(
          'unavailable',
          `${target.peer} at ${target.address} closed the connection: is that its gRPC port?`,
        ),
      );
    });
  });
}

function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next && chain.length < CHAIN_MAX && !chain.some((known) => known.fingerprint256 === next?.fingerprint256)) {
    chain.push(next);
    next = next.issuerCertificate;
  }
  return chain;
}
