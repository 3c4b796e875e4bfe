import { MusterError } from '../kit/errors.js';
import { Secret } from '../kit/secret.js';

/**
 * A join token as text: `SECRET.CAHASH`. SECRET is 32 characters of the id alphabet and known to the center only as a hash; CAHASH is
 * the SHA-256 of the site's CA certificate (DER) in 64 hex digits, by which the joining side recognises the center before it sends the token.
 * JoinRequest.token carries the whole text.
 */
export interface JoinToken {
  readonly secret: Secret;
  /** SHA-256 of the CA certificate's DER, 64 lower-case hex digits. */
  readonly caHash: string;
}

const SEPARATOR = '.';
const SECRET_PATTERN = /^[0-9a-hjkmnp-tv-z]{32}$/;
const CA_HASH_PATTERN = /^[0-9a-f]{64}$/;

/** The text of a token, as `muster token create` prints it. */
export function formatToken(token: JoinToken): string {
  return `${token.secret.reveal()}${SEPARATOR}${token.caHash}`;
}

/**
 * Reads a token as a person pasted it: white space around it and inside it (a wrapped line) is ignored.
 * The message of the failure never holds the token.
 * @throws invalid, reason TOKEN_FORMAT
 */
export function parseToken(text: string): JoinToken {
  const compact = text.replaceAll(/\s+/g, '').toLowerCase();
  const [secret = '', caHash = '', ...rest] = compact.split(SEPARATOR);
  const wrong = mistake(secret, caHash, rest.length);
  if (wrong !== undefined) {
    throw new MusterError(
      'invalid',
      `this is not a join token: ${wrong}. Copy the whole line that \`muster token create\` printed, or make a new one with it`,
      { reason: 'TOKEN_FORMAT' },
    );
  }
  return { secret: new Secret(secret), caHash };
}

function mistake(secret: string, caHash: string, surplusParts: number): string | undefined {
  if (secret === '') return 'it is empty';
  if (caHash === '' || surplusParts > 0) return 'it must be two parts joined by one dot';
  if (!SECRET_PATTERN.test(secret)) return 'its first part must be 32 letters and digits';
  if (!CA_HASH_PATTERN.test(caHash)) return 'its second part must be 64 hex digits; it may have been cut off';
  return undefined;
}
