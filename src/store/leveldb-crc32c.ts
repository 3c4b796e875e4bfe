/** CRC-32C (Castagnoli), which LevelDB uses in its files; node:zlib has only the other CRC-32. Source: RFC 3720, appendix B.4. */

const POLYNOMIAL = 0x82f63b78;
const LANES = 8;

function makeTables(): Int32Array {
  const tables = new Int32Array(LANES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let index = 256; index < tables.length; index += 1) {
    const before = tables[index - 256] ?? 0;
    tables[index] = (before >>> 8) ^ (tables[before & 255] ?? 0);
  }
  return tables;
}

const TABLES = makeTables();

function at(index: number): number {
  return TABLES[index] as number;
}

/** Words are read as the machine has them; the tables are made for the lowest byte first. */
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

function byteByByte(start: number, bytes: Buffer): number {
  let crc = start;
  for (const byte of bytes) crc = (crc >>> 8) ^ at((crc ^ byte) & 255);
  return crc;
}

/** An even number of words, eight bytes at a time (slicing-by-8). */
function wordByWord(start: number, words: Int32Array): number {
  let crc = start;
  for (let word = 0; word < words.length; word += 2) {
    const low = (words[word] as number) ^ crc;
    const high = words[word + 1] as number;
    crc =
      at(1792 + (low & 255)) ^
      at(1536 + ((low >>> 8) & 255)) ^
      at(1280 + ((low >>> 16) & 255)) ^
      at(1024 + (low >>> 24)) ^
      at(768 + (high & 255)) ^
      at(512 + ((high >>> 8) & 255)) ^
      at(256 + ((high >>> 16) & 255)) ^
      at(high >>> 24);
  }
  return crc;
}

/** The checksum of `bytes`: in words where they are aligned, which is several times as fast. */
export function crc32c(bytes: Buffer): number {
  const from = Math.min(bytes.length, -bytes.byteOffset & 3);
  const wordCount = LITTLE_ENDIAN ? ((bytes.length - from) >>> 3) * 2 : 0;
  if (wordCount === 0) return ~byteByByte(-1, bytes) >>> 0;
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + from, wordCount);
  const crc = wordByWord(byteByByte(-1, bytes.subarray(0, from)), words);
  return ~byteByByte(crc, bytes.subarray(from + 4 * wordCount)) >>> 0;
}

const MASK_DELTA = 0xa282ead8;

/** LevelDB stores checksums masked, because a checksum of bytes that hold checksums is weak. */
export function maskedCrc32c(bytes: Buffer): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
