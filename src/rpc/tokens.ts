import { createHash, timingSafeEqual } from 'node:crypto';
import { MusterError } from '../kit/errors.js';
import type { Secret } from '../kit/secret.js';

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/**
 * Compares an `authorization: Bearer ...` header with the token, in time that says nothing about either.
 * @throws unauthenticated
 */
export function requireBearer(authorization: string | undefined, token: Secret): void {
  if (authorization === undefined) {
    throw new MusterError('unauthenticated', 'a token is needed here: send the header "authorization: Bearer TOKEN"', {
      reason: 'NO_CREDENTIALS',
    });
  }
  const offered = /^bearer +(\S+) *$/i.exec(authorization)?.[1] ?? '';
  if (!timingSafeEqual(digest(offered), digest(token.reveal()))) {
    throw new MusterError('unauthenticated', 'the token is wrong: read the token file again', {
      reason: 'WRONG_TOKEN',
    });
  }
}
