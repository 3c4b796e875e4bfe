/**
 * Tables of LevelDB, read a piece at a time. Format: doc/table_format.md of LevelDB; table/block_builder.cc for the blocks.
 * Every check throws TableDamage, or RangeError where damaged bytes lead behind an end.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { maskedCrc32c } from './leveldb-crc32c.js';
import { VarintReader } from './leveldb-varints.js';

const FOOTER_BYTES = 48;
const MAGIC = 0xdb4775248b80fb57n;
/** Behind each block: how it is compressed, and a checksum of both. */
const TRAILER_BYTES = 5;
/** Behind the user's key in every key of a table: sequence and kind. */
const INTERNAL_BYTES = 8;
/** Kinds are 0 for a deletion and 1 for a value. */
const KIND_MAX = 1;
/** Read at once; a larger block is read alone. */
const PIECE_BYTES = 256 * 1024;
/** Read first: in most tables all that is not data stands there. */
const TAIL_BYTES = 32 * 1024;

/** What is wrong in a table, in words that follow its name. */
export class TableDamage extends Error {}

/** The user's part of a key. */
export function userKey(key: Buffer): Buffer {
  return key.subarray(0, key.length - INTERNAL_BYTES);
}

/** By the user's key, then the newest first. */
function compareInternal(a: Buffer, b: Buffer): number {
  const order = Buffer.compare(userKey(a), userKey(b));
  if (order !== 0) return order;
  const [newer, older] = [a.readBigUInt64LE(a.length - INTERNAL_BYTES), b.readBigUInt64LE(b.length - INTERNAL_BYTES)];
  return newer === older ? 0 : newer > older ? -1 : 1;
}

/** A block of a table. */
interface BlockAt {
  readonly offset: number;
  readonly size: number;
  /** At or behind its last key, and before the first key of the next block. */
  readonly until: Buffer;
}

/** An open file, of which one piece is in memory. */
export class Table {
  readonly #handle: FileHandle;
  readonly #size: number;
  readonly #pause: () => Promise<void>;
  #piece: { readonly offset: number; readonly bytes: Buffer } = { offset: 0, bytes: Buffer.alloc(0) };

  private constructor(handle: FileHandle, size: number, pause: () => Promise<void>) {
    this.#handle = handle;
    this.#size = size;
    this.#pause = pause;
  }

  /** `pause` is waited for before each piece is read. */
  static async open(path: string, pause: () => Promise<void> = () => Promise.resolve()): Promise<Table> {
    const handle = await open(path, 'r');
    try {
      return new Table(handle, (await handle.stat()).size, pause);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  /** The blocks of the data, once everything else in the table matches its checksum: footer, index and filter. */
  async blocks(): Promise<readonly BlockAt[]> {
    if (this.#size < FOOTER_BYTES) throw new TableDamage('is too short');
    // The index and what belongs to it stand before the footer.
    await this.#load(Math.max(0, this.#size - TAIL_BYTES), Math.min(TAIL_BYTES, this.#size));
    const footer = await this.#read(this.#size - FOOTER_BYTES, FOOTER_BYTES);
    if (footer.readBigUInt64LE(FOOTER_BYTES - 8) !== MAGIC) throw new TableDamage('does not end as a table does');
    const handles = new VarintReader(footer);
    const metaIndex = await this.#checkedBlock(handleAt(handles));
    const index = await this.#checkedBlock(handleAt(handles));
    if (!metaIndex || !index) throw new TableDamage('has a damaged index');
    for (const { value } of entriesOf(metaIndex)) {
      if (!(await this.#checkedBlock(handleAt(new VarintReader(value))))) throw new TableDamage('has a damaged filter');
    }
    return [...entriesOf(index)].map(({ key, value }) => ({ ...handleAt(new VarintReader(value)), until: key }));
  }

  /** Whether a block matches its checksum. */
  async holds(block: BlockAt): Promise<boolean> {
    return (await this.#checkedBlock(block)) !== undefined;
  }

  /** The block as it is, without its trailer. */
  async content({ offset, size }: BlockAt): Promise<Buffer> {
    return this.#read(offset, size);
  }

  async #checkedBlock({ offset, size }: Omit<BlockAt, 'until'>): Promise<Buffer | undefined> {
    const length = size + TRAILER_BYTES;
    if (offset + length > this.#size) return undefined;
    const bytes = await this.#read(offset, length);
    const holds = maskedCrc32c(bytes.subarray(0, size + 1)) === bytes.readUInt32LE(length - 4);
    return holds ? bytes.subarray(0, size) : undefined;
  }

  async #read(offset: number, length: number): Promise<Buffer> {
    const { offset: start, bytes } = this.#piece;
    if (offset < start || offset + length > start + bytes.length) await this.#load(offset, length);
    const from = offset - this.#piece.offset;
    return this.#piece.bytes.subarray(from, from + length);
  }

  async #load(offset: number, length: number): Promise<void> {
    if (offset + length > this.#size) throw new RangeError('it ends too early');
    await this.#pause();
    const bytes = Buffer.allocUnsafe(Math.min(Math.max(length, PIECE_BYTES), this.#size - offset));
    const { bytesRead } = await this.#handle.read(bytes, 0, bytes.length, offset);
    if (bytesRead < length) throw new RangeError('it ends too early');
    this.#piece = { offset, bytes: bytes.subarray(0, bytesRead) };
  }
}

function handleAt(reader: VarintReader): { offset: number; size: number } {
  return { offset: reader.varint(), size: reader.varint() };
}

/** Keys and values of an index block, whose keys share no bytes because every entry is a restart point. */
function* entriesOf(block: Buffer): Generator<{ key: Buffer; value: Buffer }> {
  const restarts = block.readUInt32LE(block.length - 4);
  const reader = new VarintReader(block.subarray(0, block.length - 4 - 4 * restarts));
  while (!reader.done) {
    reader.varint();
    const keyBytes = reader.varint();
    const valueBytes = reader.varint();
    yield { key: reader.take(keyBytes), value: reader.take(valueBytes) };
  }
}

/** Which blocks of a table are checked, and how its keys are named for people. */
export interface TableScope {
  readonly describeKey: (key: Buffer) => string;
  /** Blocks that only hold keys below this one are left out. Undefined: none is. */
  readonly from?: Buffer | undefined;
}

/** Checks everything but data, and the blocks of data in `scope`. @throws TableDamage, RangeError */
export async function checkTable(table: Table, { describeKey, from }: TableScope): Promise<void> {
  let after: Buffer | undefined;
  for (const block of await table.blocks()) {
    const until = userKey(block.until);
    const leftOut = from !== undefined && Buffer.compare(until, from) < 0;
    if (!leftOut && !(await table.holds(block))) {
      const since = after ? `from ${describeKey(after)} ` : '';
      throw new TableDamage(`has a damaged block, with keys ${since}up to ${describeKey(until)}`);
    }
    after = until;
  }
}

/** The lowest and the highest key of a table, as the manifest says. */
export interface TableBounds {
  readonly smallest: Buffer;
  readonly largest: Buffer;
}

/**
 * Checks that LevelDB can walk over the table. It trusts keys to be whole and to rise, and aborts the process where they do not; values that are
 * damaged do it no harm, and are found by the checksum in each of ours. Much cheaper than the checksums of all blocks.
 * @throws TableDamage, RangeError
 */
export async function checkStructure(table: Table, { smallest, largest }: TableBounds): Promise<void> {
  let last: Buffer | undefined;
  for (const block of await table.blocks()) {
    const keys = walkBlock(await table.content(block), last);
    if (!last && compareInternal(keys.first, smallest) < 0) throw new TableDamage('has keys before its beginning');
    if (compareInternal(keys.last, block.until) > 0) throw new TableDamage('has keys behind the end of their block');
    last = keys.last;
  }
  if (last && compareInternal(last, largest) > 0) throw new TableDamage('has keys behind its end');
}

/** Walks over the entries of a block that follows the key `before`. */
function walkBlock(block: Buffer, before: Buffer | undefined): { first: Buffer; last: Buffer } {
  const restarts = restartsOf(block);
  const reader = new VarintReader(block.subarray(0, block.length - 4 - 4 * restarts.length));
  let first: Buffer | undefined;
  let last = before;
  let nextRestart = 0;
  while (!reader.done) {
    const isRestart = restarts[nextRestart] === reader.at;
    const key = nextKey(reader, first && last);
    if (isRestart) nextRestart += 1;
    if (isRestart && key.shared > 0) throw new TableDamage('has a block that cannot be searched');
    assertFollows(key.bytes, last);
    last = key.bytes;
    first ??= last;
  }
  if (!first || !last || nextRestart !== restarts.length) throw new TableDamage('has a block that cannot be searched');
  return { first, last };
}

/** The key of the next entry, which may begin as the one before it in the block; its value is passed over. */
function nextKey(
  reader: VarintReader,
  before: Buffer | undefined,
): { readonly shared: number; readonly bytes: Buffer } {
  const shared = reader.varint();
  const restBytes = reader.varint();
  const valueBytes = reader.varint();
  if (shared > (before?.length ?? 0)) throw new TableDamage('has a key that begins as none before it');
  const rest = reader.take(restBytes);
  reader.take(valueBytes);
  return { shared, bytes: before && shared > 0 ? Buffer.concat([before.subarray(0, shared), rest]) : rest };
}

function assertFollows(key: Buffer, last: Buffer | undefined): void {
  if (key.length <= INTERNAL_BYTES) throw new TableDamage('has a key that is too short');
  if (key.readUInt8(key.length - INTERNAL_BYTES) > KIND_MAX) throw new TableDamage('has a key of no kind');
  if (last && compareInternal(last, key) >= 0) throw new TableDamage('has keys out of order');
}

/** Where the keys are that share nothing with the one before. */
function restartsOf(block: Buffer): readonly number[] {
  const count = block.readUInt32LE(block.length - 4);
  const start = block.length - 4 - 4 * count;
  if (count < 1 || start < 0) throw new TableDamage('has a block that cannot be searched');
  return Array.from({ length: count }, (_, index) => block.readUInt32LE(start + 4 * index));
}
