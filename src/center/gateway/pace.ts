/** Beats the center shall see in a second, at most about. */
const BEATS_PER_SECOND_MAX = 100;
export const HEARTBEAT_MIN_MS = 5000;
export const HEARTBEAT_MAX_MS = 60_000;
/** Beats that may be missed before a session is given up. */
export const BEATS_MISSED_MAX = 3;

/** How often each of `machines` machines shall beat, milliseconds: `minMs` in a small fleet, slower as it grows. */
export function heartbeatInterval(machines: number, minMs = HEARTBEAT_MIN_MS): number {
  const scaled = (machines / BEATS_PER_SECOND_MAX) * 1000;
  return Math.round(Math.min(Math.max(scaled, minMs), Math.max(HEARTBEAT_MAX_MS, minMs)));
}

/** Sessions the center shall have to take up in a second when a whole fleet returns, at most about: each costs it a TLS handshake. */
const RETURNS_PER_SECOND_MAX = 150;
const RETURN_MIN_MS = 1000;
const RETURN_MAX_MS = 60_000;

/** Within which time `machines` machines shall spread their return after all have lost the center at once, milliseconds. */
export function returnWithin(machines: number): number {
  const scaled = (machines / RETURNS_PER_SECOND_MAX) * 1000;
  return Math.round(Math.min(Math.max(scaled, RETURN_MIN_MS), RETURN_MAX_MS));
}

/** Silence after which a session is given up, and after which a machine without a session counts as offline. */
export function silenceLimit(intervalMs: number): number {
  return intervalMs * BEATS_MISSED_MAX;
}
