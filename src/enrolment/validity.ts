import { formatDuration } from '../kit/durations.js';
import { notAfterMs, notBeforeMs, readCertificates } from '../rpc/certificates.js';
import type { PartyWords } from './party.js';

/** When a certificate holds: wall-clock milliseconds since the Unix epoch. */
export interface Validity {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** @throws invalid when there is no certificate in the text */
export function validityOf(certificatePem: string): Validity {
  const [certificate] = readCertificates(certificatePem);
  return certificate
    ? { fromMs: notBeforeMs(certificate), untilMs: notAfterMs(certificate) }
    : { fromMs: 0, untilMs: 0 };
}

/** A certificate is renewed once this share of its lifetime is over. */
export const RENEW_AFTER = 2 / 3;

/** How much of the lifetime is over: 1 at its end. */
export function shareOver({ fromMs, untilMs }: Validity, nowMs: number): number {
  return untilMs > fromMs ? (nowMs - fromMs) / (untilMs - fromMs) : 1;
}

/**
 * When to renew: at two thirds of the time the certificate has from when it was obtained, plus up to a thirtieth (`fraction` of it) so
 * that a fleet that joined together does not renew together.
 */
export function renewAtMs({ fromMs, untilMs }: Validity, obtainedMs: number, fraction: number): number {
  const startMs = obtainedMs > fromMs && obtainedMs < untilMs ? obtainedMs : fromMs;
  const lifetimeMs = untilMs - startMs;
  return startMs + lifetimeMs * RENEW_AFTER + (lifetimeMs / 30) * fraction;
}

/** Why the certificate cannot be used now and what to do; undefined when it can. */
export function problemOf(
  { fromMs, untilMs }: Validity,
  nowMs: number,
  { name, words }: { readonly name: string; readonly words: PartyWords },
): string | undefined {
  const now = new Date(nowMs).toISOString();
  if (nowMs < fromMs) {
    return (
      `${words.whose}'s certificate is valid from ${new Date(fromMs).toISOString()} on, and the clock here says ${now}: ` +
      `the clock is at least ${formatDuration(fromMs - nowMs)} slow. Set it right (date, or NTP); ${words.then}`
    );
  }
  if (nowMs < untilMs) return undefined;
  return (
    `${words.whose}'s certificate ended at ${new Date(untilMs).toISOString()}, and the clock here says ${now}. ` +
    `If the clock is wrong, set it right. If the ${words.noun} was away for longer than its certificate lasts, run ` +
    `\`${words.token(name)}\` at the center and paste the line it prints here; ${words.meanwhile}`
  );
}
