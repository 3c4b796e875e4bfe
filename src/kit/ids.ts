import { randomBytes } from 'node:crypto';

/** Crockford's base 32, lower case: no i, l, o or u, so that an id can be read aloud. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const BITS_PER_CHARACTER = 5;
const ID_CHARACTERS = 16;

function encode(bytes: Uint8Array, characters: number): string {
  let text = '';
  let bits = 0;
  let buffered = 0;
  for (const byte of bytes) {
    buffered = (buffered << 8) | byte;
    bits += 8;
    while (bits >= BITS_PER_CHARACTER && text.length < characters) {
      bits -= BITS_PER_CHARACTER;
      text += ALPHABET[(buffered >> bits) & 31] ?? '';
    }
    buffered &= (1 << bits) - 1;
  }
  return text;
}

/** A new unguessable id: `prefix`, a dash, 80 random bits in 16 characters. Example: `m-7f3kq0x9w2c4hd8t`. */
export function newId(prefix: string): string {
  return `${prefix}-${encode(randomBytes(10), ID_CHARACTERS)}`;
}

/** A new secret of 160 random bits in 32 characters. */
export function newSecret(): string {
  return encode(randomBytes(20), 32);
}

/** The names people choose for services, machines, operators and topics. */
export const NAME_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Machine names may also carry dots and capitals, as host names do. */
export const MACHINE_NAME_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/;
