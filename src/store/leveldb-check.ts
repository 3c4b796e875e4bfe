import { readError, type Db } from './leveldb-database.js';
import { EMPTY_DIGEST, META_KEY, damaged, decodeRecord, keyOf, withRecord, type Meta } from './leveldb-records.js';

const CHUNK_ENTRIES = 1000;
/** With one largest value on top, this bounds the memory of the check. */
const CHUNK_BYTES = 1024 * 1024;

type Pair = readonly [Buffer, Buffer];

function assertRising(path: string, before: Buffer | undefined, key: Buffer): void {
  if (before && Buffer.compare(before, key) >= 0) throw damaged(path, `key ${key.toString('hex')} is out of order`);
}

/** A damaged filter or index block hides a record from point reads alone, or shows an older one. */
async function assertPointReadsAgree(path: string, db: Db, chunk: readonly Pair[]): Promise<void> {
  const values = (await db.getMany(
    chunk.map(([key]) => key),
    { fillCache: false },
  )) as readonly (Buffer | undefined)[];
  chunk.forEach(([key, bytes], index) => {
    if (!values[index]?.equals(bytes))
      throw damaged(path, `LevelDB does not find key ${JSON.stringify(keyOf(path, key))} where it is stored`);
  });
}

/**
 * Reads every record: each must match its checksum, keys must rise, point reads must agree with the scan, and all records together
 * must be what the newest batch said (nothing vanished, nothing old came back). Memory is bounded whatever the store's size.
 * @throws data_loss naming the key; unavailable when the disk cannot be read
 */
export async function checkEverything(path: string, db: Db, meta: Meta): Promise<void> {
  let digest = EMPTY_DIGEST;
  let before: Buffer | undefined;
  const checkOne = ([stored, bytes]: Pair): void => {
    assertRising(path, before, stored);
    before = stored;
    if (stored.equals(META_KEY)) return;
    const record = decodeRecord(path, keyOf(path, stored), bytes);
    if (record.revision > meta.revision) {
      throw damaged(
        path,
        `key ${JSON.stringify(record.key)} has revision ${record.revision}, newer than the store's ${meta.revision}`,
      );
    }
    digest = withRecord(digest, record);
  };
  const iterator = db.iterator({ fillCache: false, highWaterMarkBytes: CHUNK_BYTES });
  try {
    for (;;) {
      const chunk = await iterator.nextv(CHUNK_ENTRIES);
      if (chunk.length === 0) break;
      chunk.forEach(checkOne);
      await assertPointReadsAgree(path, db, chunk);
    }
  } catch (error) {
    throw readError(path, error);
  } finally {
    await iterator.close();
  }
  if (digest.entries !== meta.digest.entries) {
    throw damaged(path, `it holds ${digest.entries} keys where the newest batch left ${meta.digest.entries}`);
  }
  if (digest.sum !== meta.digest.sum) throw damaged(path, 'an older value of some key came back');
}

/** @throws data_loss when the store is older than a write that was acknowledged */
export function assertAcknowledged(path: string, stored: number, acknowledged: number): void {
  if (stored >= acknowledged) return;
  throw damaged(path, `its newest revision is ${stored}, but revision ${acknowledged} had been acknowledged`);
}
