import { randomBytes, randomInt } from 'node:crypto';

/** Randomness, injected: seeded in tests so that a failure can be replayed. Not for keys or tokens: those use node:crypto directly. */
export interface Random {
  /** A number in [0, 1). */
  next(): number;
}

const FRACTION_BITS = 48;

/** The machine's own source of randomness. */
export const systemRandom: Random = {
  next: () => randomInt(0, 2 ** FRACTION_BITS - 1) / 2 ** FRACTION_BITS,
};

/** A reproducible sequence from a 32-bit seed (mulberry32, public domain, by Tommy Ettinger). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    next: () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = state;
      mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
    },
  };
}

/** A whole number in [low, high). */
export function randomBetween(random: Random, low: number, high: number): number {
  return low + Math.floor(random.next() * (high - low));
}

/** A seed nobody has chosen, for seeded tests to print. */
export function freshSeed(): number {
  return randomBytes(4).readUInt32LE();
}
