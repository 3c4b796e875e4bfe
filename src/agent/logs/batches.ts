/** One line, or something said about the lines. */
export interface LogText {
  readonly file: string;
  readonly text: string;
  readonly notice: boolean;
  /** Where reading goes on behind it; empty for a notice. */
  readonly position: string;
}

/** Lines given together: at most so many, and of so many bytes as they are encoded. A line that is longer is given alone. */
export const BATCH_LINES = 256;
export const BATCH_BYTES = 256 * 1024;

/** What a line takes in a message. */
function bytesOf({ file, text, position }: LogText): number {
  // Bytes that are no UTF-8 are three each by now.
  return Buffer.byteLength(text) + Buffer.byteLength(file) + Buffer.byteLength(position);
}

/** Lines in the batches they are sent in: one batch is one message to the center, and messages are bounded. */
export function* batched(texts: Iterable<LogText>): Generator<readonly LogText[]> {
  let batch: LogText[] = [];
  let held = 0;
  for (const text of texts) {
    const bytes = bytesOf(text);
    if (batch.length === BATCH_LINES || (batch.length > 0 && held + bytes > BATCH_BYTES)) {
      yield batch;
      batch = [];
      held = 0;
    }
    batch.push(text);
    held += bytes;
  }
  if (batch.length > 0) yield batch;
}
