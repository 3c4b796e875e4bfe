import { MusterError, type Code } from '../kit/errors.js';

/** Whom a channel was meant to reach, for messages. */
export interface Target {
  /** `the center`, `the agent`. */
  readonly peer: string;
  readonly address: string;
}

interface Diagnosis {
  readonly code?: Code;
  readonly reason: string;
  readonly text: (target: Target) => string;
}

const at = ({ peer, address }: Target): string => `cannot reach ${peer} at ${address}`;
/** A socket of this machine has no port, and no network lies before it. */
const ask = ({ address }: Target, onNetwork: string, onSocket: string): string =>
  address.startsWith('unix:') ? onSocket : onNetwork;
const untrusted = ({ peer, address }: Target): string => `${peer} at ${address} cannot be trusted`;

/** Marks what our own check of the server's certificate says, so that it comes through grpc-js as written. */
export const PEER_CHECK_MARK = 'muster-peer-check: ';

/**
 * grpc-js keeps of a failed connection only its text, so this is the one place that reads such texts: errno names, and what
 * OpenSSL says about certificates, by code and in words. The first match wins.
 */
const DIAGNOSES: readonly (readonly [RegExp, Diagnosis])[] = [
  [
    /ECONNREFUSED/,
    {
      reason: 'CONNECTION_REFUSED',
      text: (target) =>
        `${at(target)}: connection refused. ${ask(target, 'Is it running, and is the port right?', 'Is it running?')}`,
    },
  ],
  [
    /\bENOENT\b/,
    {
      reason: 'NO_SUCH_SOCKET',
      text: (target) => `${at(target)}: there is no such socket. Is it running, and is its data directory right?`,
    },
  ],
  [
    /\b(?:EACCES|EPERM)\b/,
    {
      code: 'denied',
      reason: 'SOCKET_NOT_YOURS',
      text: (target) =>
        `${at(target)}: permission denied. The socket belongs to another user: run this as that user or as root`,
    },
  ],
  [
    /ENOTFOUND|EAI_AGAIN|Name resolution failed/,
    {
      reason: 'UNKNOWN_HOST',
      text: (target) => `${at(target)}: this host name is not known. Check the spelling and the DNS`,
    },
  ],
  [
    /EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EHOSTDOWN/,
    {
      reason: 'UNREACHABLE',
      text: (target) =>
        `${at(target)}: ${ask(target, 'no way to that host. Check the network and any firewall', 'it does not answer. Is it running?')}`,
    },
  ],
  [
    /CERT_HAS_EXPIRED|certificate has expired/i,
    {
      reason: 'SERVER_CERTIFICATE_EXPIRED',
      text: (target) =>
        `${untrusted(target)}: its certificate has expired. Compare the clocks of both machines; if they agree, restart it so that it renews its certificate`,
    },
  ],
  [
    /CERT_NOT_YET_VALID|certificate is not yet valid/i,
    {
      reason: 'SERVER_CERTIFICATE_NOT_YET_VALID',
      text: (target) =>
        `${untrusted(target)}: its certificate is not valid yet. The clock of this machine is probably behind: set it right`,
    },
  ],
  [
    /SELF_SIGNED|UNABLE_TO_(?:VERIFY|GET)|self[- ]signed certificate|unable to (?:verify|get)|CERT_SIGNATURE_FAILURE|certificate signature failure/i,
    {
      reason: 'SERVER_CERTIFICATE_WRONG_CA',
      text: (target) =>
        `${untrusted(target)}: its certificate is not from your site's CA. Either the address leads to another site, or this site was set up anew: join or log in again`,
    },
  ],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate's altnames/i,
    {
      reason: 'SERVER_CERTIFICATE_NAME',
      text: (target) => `${untrusted(target)}: its certificate is for another kind of server. Check the address`,
    },
  ],
  [
    /Failed to connect|ECONNRESET|EPIPE|Socket closed|Connection closed|socket disconnected|wrong version number|unexpected message|PROTOCOL_ERROR/i,
    {
      reason: 'CONNECTION_LOST',
      text: (target) =>
        `${at(target)}: the connection was closed at once. ${ask(target, 'Is that the right port, and does it', 'Does what listens there')} speak this protocol?`,
    },
  ],
];

/** Nobody was reached in the time for it. */
export function explainNoConnection(target: Target, connectTimeoutMs: number): MusterError {
  const advice = ask(target, 'Check the network and any firewall', 'It may be stopped or overloaded: look at its log');
  const message = `${at(target)}: no connection within ${connectTimeoutMs} ms. ${advice}`;
  return new MusterError('unavailable', message, { reason: 'CONNECT_TIMEOUT' });
}

/** What the system says of a connection that ends while an answer is under way; all else is the server's own word. */
export function explainConnectionLost(details: string, { peer, address }: Target): MusterError | undefined {
  if (!/^(?:(?:read|write) E[A-Z]+|Connection dropped)$/.test(details)) return undefined;
  return new MusterError('unavailable', `the connection to ${peer} at ${address} was lost: try again`, {
    reason: 'CONNECTION_LOST',
    metadata: { cause: details },
  });
}

/**
 * What a failure of the connection itself means to people, or undefined where the text is of another kind (a status the
 * server sent).
 */
export function explainConnectionFailure(details: string, target: Target): MusterError | undefined {
  const mark = details.indexOf(PEER_CHECK_MARK);
  if (mark >= 0) {
    const said = details.slice(mark + PEER_CHECK_MARK.length).replace(/ \(\d{4}-.*$/s, '');
    return new MusterError('unavailable', `${untrusted(target)}: ${said}`, { reason: 'SERVER_CERTIFICATE_NAME' });
  }
  const found = DIAGNOSES.find(([pattern]) => pattern.test(details));
  if (!found) return undefined;
  const [, { code = 'unavailable', reason, text }] = found;
  return new MusterError(code, text(target), { reason, metadata: { cause: details.slice(0, 200) } });
}
