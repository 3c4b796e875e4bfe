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

function at(lane: number, byte: number): number {
  return TABLES[lane * 256 + (byte & 255)] ?? 0;
}

/** The checksum of `bytes`, eight at a time (slicing-by-8). */
export function crc32c(bytes: Buffer): number {
  let crc = -1;
  let index = 0;
  for (const end = bytes.length - LANES; index <= end; index += LANES) {
    const low = bytes.readInt32LE(index) ^ crc;
    const high = bytes.readInt32LE(index + 4);
    crc =
      at(7, low) ^
      at(6, low >>> 8) ^
      at(5, low >>> 16) ^
      at(4, low >>> 24) ^
      at(3, high) ^
      at(2, high >>> 8) ^
      at(1, high >>> 16) ^
      at(0, high >>> 24);
  }
  for (; index < bytes.length; index += 1) crc = (crc >>> 8) ^ at(0, crc ^ (bytes[index] ?? 0));
  return ~crc >>> 0;
}

const MASK_DELTA = 0xa282ead8;

/** LevelDB stores checksums masked, because a checksum of bytes that hold checksums is weak. */
export function maskedCrc32c(bytes: Buffer): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
